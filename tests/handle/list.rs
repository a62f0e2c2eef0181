//! Lists of live sessions: complete, in pages, and never in the way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use vless_rust::reactor::request::ListQuery;

use crate::states::relaying;
use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::server::{ALICE, BOB, Options, Server};
use crate::support::wait_until;
use crate::{all, answers, list};

#[test]
fn whoever_stays_is_listed_exactly_once_while_others_come_and_go() {
    let server = Server::start(Options { workers: 2, ..Options::default() });
    let origin = Origin::echo();
    let open = |id| {
        let client = Client::open(&server, id, origin.address, b"hello");
        client.take_response();
        client
    };
    // More than one turn reads, with gaps that others fill.
    let mut clients: Vec<_> = (0..800).map(|number| Some(open([&ALICE, &BOB][number % 2]))).collect();
    for client in clients.iter_mut().skip(1).step_by(4) {
        drop(client.take());
    }
    let bobs = clients.iter().skip(1).step_by(2).flatten().count();
    assert_eq!(bobs, 200);
    let staying = clients.iter().flatten().count();
    wait_until("those who left are gone", || server.reactor().sessions() == staying);
    let bobs_before: BTreeSet<_> = ids(&server);
    assert_eq!(bobs_before.len(), bobs);
    let (stop, handle) = (AtomicBool::new(false), server.reactor().handle());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop([open(&ALICE), open(&ALICE)]);
            }
        });
        for _ in 0..30 {
            assert_eq!(ids(&server), bobs_before);
        }
        // Page by page.
        let mut query = ListQuery { account: Some(server.account(&BOB)), limit: 30, ..ListQuery::default() };
        let mut seen = Vec::new();
        loop {
            let page: Vec<_> = list(&handle, &query).into_iter().take(30).collect();
            let Some(&(last, _)) = page.last() else { break };
            seen.extend(page.into_iter().map(|(id, _)| id.to_string()));
            query.after = Some(last);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(seen.len(), bobs);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), bobs_before);
    });
}

/// The ids of Bob's sessions.
fn ids(server: &Server) -> BTreeSet<String> {
    let query = ListQuery { account: Some(server.account(&BOB)), limit: usize::MAX, ..ListQuery::default() };
    let sessions = list(&server.reactor().handle(), &query);
    let ids: BTreeSet<_> = sessions.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(ids.len(), sessions.len(), "twice in one list");
    ids
}

#[test]
fn filters_let_through_what_they_say_and_pages_say_how_many_there_are() {
    let server = Server::start(Options::default());
    let live: Vec<_> = (0..5).map(|_| relaying(&server)).collect();
    let (_, view) = all(&server).remove(0);
    let target = view.target.expect("it is relaying");
    let handle = server.reactor().handle();
    let count = |query: &ListQuery| {
        let pages = answers(&handle.list(query));
        (
            pages.iter().map(|page| page.matching).sum::<usize>(),
            pages.iter().map(|page| page.sessions.len()).sum::<usize>(),
        )
    };
    let every = ListQuery { limit: 3, ..ListQuery::default() };
    assert_eq!(count(&every), (5, 3));
    assert_eq!(count(&ListQuery { target: Some(target), ..every.clone() }), (1, 1));
    assert_eq!(count(&ListQuery { target: Some("nowhere".to_owned()), ..every.clone() }), (0, 0));
    assert_eq!(count(&ListQuery { source: Some("127.0.0.1".parse().unwrap()), ..every.clone() }), (5, 3));
    assert_eq!(count(&ListQuery { source: Some("127.0.0.2".parse().unwrap()), ..every.clone() }), (0, 0));
    assert_eq!(count(&ListQuery { account: Some(server.account(&ALICE)), ..every.clone() }), (5, 3));
    assert_eq!(count(&ListQuery { account: Some(server.account(&BOB)), ..every }), (0, 0));
    drop(live);
}
