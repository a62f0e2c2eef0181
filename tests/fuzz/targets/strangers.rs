//! What strangers say to the site that this process serves, and which fallback they get.

use std::sync::OnceLock;
use std::time::SystemTime;
use std::{env, fs, process};

use vless_rust::session::{Dest, Fallback, Fallbacks};
use vless_rust::site::Content;
use vless_rust::site::conversation::{Conversation, HEAD_BYTES_MAX};

use crate::input::shape;

/// A conversation with the built-in site: answers are whole, lead nowhere else, and are the same however requests are
/// cut. The first byte says how.
pub(super) fn site(data: &[u8]) -> u64 {
    let Some((&length, data)) = data.split_first() else { return 0 };
    let whole = converse([data]);
    let pieces = converse(data.chunks(usize::from(length) + 1));
    // Where it is not HTTP, how much of it was there decides by which words that is said.
    let understood = |answers: &[String]| {
        let is_fault = |answer: &String| ["400", "414", "431", "505"].iter().any(|status| answer.starts_with(status));
        answers.iter().take_while(|answer| !is_fault(answer)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(understood(&whole), understood(&pieces), "the answers depend on the cuts");
    shape(whole)
}

/// The status and body length of each answer.
fn converse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut conversation = Conversation::default();
    let mut answers = Vec::new();
    for piece in pieces {
        conversation.hear(piece);
        while let Some(answer) = conversation.answer(content(), SystemTime::UNIX_EPOCH) {
            let head = String::from_utf8(answer.head).expect("a head is text");
            let lines: Vec<_> = head.strip_suffix("\r\n\r\n").expect("a whole head").split("\r\n").collect();
            assert!(lines.iter().all(|line| line.bytes().all(|byte| (0x20..0x7f).contains(&byte))), "{head:?}");
            assert!(answer.body.get(answer.part.clone()).is_some(), "{:?} of {}", answer.part, answer.body.len());
            for place in lines.iter().filter_map(|line| line.strip_prefix("Location: ")) {
                let path = place.split('?').next().unwrap_or_default();
                let is_here = path.starts_with('/') && !path.starts_with("//") && path.ends_with('/');
                assert!(is_here && !place.contains(['\\', '#']), "leads elsewhere: {place}");
            }
            assert_eq!(answer.closes, conversation.is_over());
            assert_eq!(answer.closes, lines.contains(&"Connection: close"));
            let status = lines[0].strip_prefix("HTTP/1.1 ").expect("a status");
            answers.push(format!("{} {}", &status[..3], answer.part.len()));
        }
        if conversation.is_over() {
            break;
        }
    }
    assert!(conversation.too_late(SystemTime::UNIX_EPOCH).is_none_or(|answer| answer.closes));
    assert!(answers.len() <= HEAD_BYTES_MAX);
    answers
}

/// A folder with a page of its own for what is not there.
fn content() -> &'static Content {
    static CONTENT: OnceLock<Content> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let folder = env::temp_dir().join(format!("vless-rust-site-{}", process::id()));
        fs::create_dir_all(folder.join("a b")).unwrap();
        for file in ["index.html", "404.html", "a.txt", "a b/index.html"] {
            fs::write(folder.join(file), file).unwrap();
        }
        let content = Content::load(&folder).unwrap();
        fs::remove_dir_all(folder).unwrap();
        content
    })
}

/// A request gets the fallback that its name, protocol and path lead to: fields are cut out of `data` at 0xff bytes, and
/// the last is what the stranger says.
pub(super) fn fallback(data: &[u8]) -> u64 {
    const NAMES: [&str; 3] = ["", "test", "a.test"];
    const PATHS: [&str; 3] = ["", "/x", "/x/y"];
    let mut fields = data.splitn(3, |&byte| byte == 0xff);
    let mut field = || fields.next().unwrap_or_default();
    let (name, alpn) = (String::from_utf8_lossy(field()), String::from_utf8_lossy(field()));
    let first = field();
    let all = NAMES.iter().flat_map(|name| PATHS.map(|path| (*name, path)));
    let of = |(name, path): (&str, &str)| Fallback {
        name: name.to_owned(),
        alpn: if path == "/x/y" { "h2".to_owned() } else { String::new() },
        path: path.to_owned(),
        dest: Dest::Tcp(format!("{name}{path}").into(), 80),
        proxy_header: None,
    };
    let table = Fallbacks::new(all.map(of));
    let found = table.select(&name, &alpn, first).expect("there is a default");
    assert!(found.name.is_empty() || name.to_lowercase().contains(&found.name), "{name} got that of {}", found.name);
    assert!(found.alpn.is_empty() || found.alpn == alpn.to_lowercase());
    let line = &first[..first.len().min(64)];
    let is_asked = |path: &str| {
        b"? ".iter().any(|&end| {
            let wanted = [b" ", path.as_bytes(), &[end]].concat();
            line.windows(wanted.len()).any(|window| window == wanted)
        })
    };
    assert!(found.path.is_empty() || is_asked(&found.path), "{line:?} got that of {}", found.path);
    shape((&found.name, &found.alpn, &found.path))
}
