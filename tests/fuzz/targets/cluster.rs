//! What the engine of a cluster answers, what it holds, and what a node has written down of it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde_json::{Value, json};
use vless_rust::app::cluster::engine::Answers;
use vless_rust::app::cluster::files::SavedAccounts;
use vless_rust::app::cluster::list::List;
use vless_rust::app::cluster::reply::Reply;
use vless_rust::app::config::{EngineUrl, Flow, user_json};
use vless_rust::cluster::journal::{Bytes, Journal, Store};
use vless_rust::cluster::script;
use vless_rust::control::webhook::Url;
use vless_rust::session::Cidr;

use crate::input::shape;

/// Depth of lists that an answer may have; ours have three.
const DEPTH_MAX: usize = 110;

/// Answers are the same wherever the stream is cut, and hold nothing that was not sent. The first byte says how it is cut.
/// Only where a stream is broken its cuts decide how much of it is understood in front of that.
pub(super) fn engine_answers(data: &[u8]) -> u64 {
    let Some((&length, data)) = data.split_first() else { return 0 };
    let whole = hear(data, data.len());
    let pieces = hear(data, usize::from(length) + 1);
    let common = whole.len().min(pieces.len());
    assert_eq!(whole[..common], pieces[..common], "the answers depend on the cuts");
    shape(whole.iter().map(|answer| answer.split(' ').take(3).collect::<Vec<_>>()).collect::<Vec<_>>())
}

/// A stream that gives at most `most` bytes at a time.
struct Pieces<'a> {
    data: &'a [u8],
    most: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.most.max(1).min(buffer.len());
        self.data.read(&mut buffer[..most])
    }
}

fn hear(data: &[u8], most: usize) -> Vec<String> {
    let (mut stream, mut answers, mut heard) = (Pieces { data, most }, Answers::default(), Vec::new());
    // The connection is given up with the first failure.
    while let Ok(reply) = answers.next(&mut stream) {
        assert!(weight(&reply, 0) <= data.len(), "more than was sent");
        if let Some(words) = reply.texts() {
            let _ = script::report_answer(&words, 60_000);
            let _ = script::report_trouble(&words);
        }
        assert!(reply.number().is_none_or(|number| number <= 1 << 53));
        heard.push(format!("{reply:?}"));
    }
    heard
}

/// Values, and bytes of texts. A text that is no UTF-8 is longer than it was.
fn weight(reply: &Reply, depth: usize) -> usize {
    assert!(depth < DEPTH_MAX);
    match reply {
        Reply::List(elements) => 1 + elements.iter().map(|element| weight(element, depth + 1)).sum::<usize>(),
        Reply::Text(text) => 1 + text.chars().filter(|letter| *letter != char::REPLACEMENT_CHARACTER).count(),
        Reply::Nil | Reply::Number(_) => 1,
    }
}

/// A record that somebody has put into the engine is an account that can be written again as the same, or is not served.
pub(super) fn cluster_record(data: &[u8]) -> u64 {
    let Ok(record) = serde_json::from_slice::<Value>(data) else { return 0 };
    let saved =
        |record: &Value| SavedAccounts { version: 1, history: None, records: vec![("1".to_owned(), record.clone())] };
    let list = List::new(saved(&record), Some(Flow::Vision));
    assert_eq!(list.saved(), saved(&record), "what is not understood is kept");
    let listed = list.listed();
    let Some(user) = listed.users.first() else { return shape(list.quota("1")) };
    assert_eq!((listed.users.len(), listed.key(user).map(String::as_str)), (1, Some("1")));
    assert!(!user.email.is_empty() && !user.email.contains(char::is_control), "{:?}", user.email);
    let again = List::new(saved(&user_json(user)), Some(Flow::Vision)).listed();
    assert_eq!(again.users.first(), Some(user));
    shape((list.quota("1").min(9), user.enabled, user.flow))
}

/// Where the engine is, and other addresses that operators write.
pub(super) fn addresses(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    let engine = EngineUrl::parse(&text);
    if let Some(url) = &engine {
        let password = url.password.as_ref().map_or("", |password| password.reveal());
        let shown = format!("{url} {url:?}");
        // Nothing that is shown of its own has so many letters and digits, and what also stands elsewhere in the text is no
        // secret.
        let is_word = password.len() >= 16 && password.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_secret = is_word && text.matches(password).count() == 1;
        assert!(!is_secret || !shown.contains(password), "{shown}");
    }
    let hook = Url::parse(&text);
    if let Some(url) = &hook {
        assert_eq!(Url::parse(&url.place()).map(|again| again.place()), Some(url.place()));
        assert!(url.place().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let network = text.parse::<Cidr>();
    if let Ok(network) = network {
        assert!(network.contains(network.base()) && network.to_string().parse() == Ok(network));
    }
    shape((
        engine.map(|url| (url.has_tls(), url.database.min(2))),
        hook.map(|url| url.place().len() / 8),
        network.is_ok(),
    ))
}

/// What a node has counted, as lines of a file that may end anywhere.
#[derive(Clone, Debug, Default)]
struct Memory(Vec<u8>);

impl Store for Memory {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

/// A journal that can be opened says the same when it is opened again, and goes on.
pub(super) fn journal(data: &[u8]) -> u64 {
    const BOOT: u64 = 1 << 40;
    let Ok(mut journal) = Journal::open(Memory(data.to_vec()), BOOT) else { return 0 };
    let told = |journal: &Journal<Memory>| {
        (journal.open_accounts(), journal.sealed_batches(), journal.sealed_accounts(), journal.counted_after("a", 0, 0))
    };
    let before = told(&journal);
    let again = Journal::open(journal.into_store(), BOOT + 1).expect("what it wrote itself");
    assert_eq!(told(&again), before);
    journal = again;
    journal.add(&BTreeMap::from([("a".to_owned(), Bytes { up: 1, down: 2 })])).unwrap();
    let gaps = journal.compare(&BTreeMap::from([(0, 1), (1, u64::from(u32::MAX))]));
    let batch = journal.next_batch().unwrap().cloned().expect("something was counted");
    journal.applied(batch.boot, batch.sequence).unwrap();
    let sealed = journal.sealed_batches();
    let closed = Journal::open(journal.into_store(), BOOT + 2).expect("what it wrote itself");
    assert_eq!(closed.sealed_batches(), sealed);
    shape((before, gaps.len(), json!(batch.accounts.len())))
}
