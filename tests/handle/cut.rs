//! Cutting: one session, those of a user, those of an address, whatever they are doing.

use std::net::IpAddr;
use std::sync::Arc;

use vless_rust::reactor::request::{LedgerRef, Which};
use vless_rust::session::close::CloseReason;
use vless_rust::stats::{self, Ledger};

use crate::states::{KINDS, relaying};
use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::server::{ALICE, BOB, Options, Server};
use crate::support::wait_until;
use crate::{all, cut};

fn turns(server: &Server) -> u64 {
    stats::timings(server.reactor().counters().iter().map(AsRef::as_ref)).turn.count()
}

#[test]
fn a_session_is_cut_within_a_turn_in_whatever_state_and_mode() {
    for kind in KINDS {
        let server = Server::start(if kind.tls { Options::tls() } else { Options::default() });
        let live = (kind.bring)(&server);
        let what = format!("{}, {}", kind.state, kind.mode);
        wait_until(&what, || {
            let sessions = all(&server);
            matches!(&sessions[..], [(_, view)] if (view.state.name(), view.mode.name()) == (kind.state, kind.mode))
        });
        let (id, view) = all(&server).remove(0);
        assert_eq!(id.to_string().parse(), Ok(id));
        let (handle, turns_before) = (server.reactor().handle(), turns(&server));
        assert_eq!(cut(&handle, Which::Session(id)), 1, "{what}");
        // The turn that was under way, and the one that has cut.
        let took = turns(&server) - turns_before;
        assert!(took <= 2, "{what}: {took} turns");
        let record = server.closed(1).remove(0);
        assert_eq!((record.reason, record.client), (CloseReason::Cut, view.client), "{what}");
        assert_eq!(cut(&handle, Which::Session(id)), 0, "{what}: it is gone");
        server.wait_until_empty();
        drop(live);
    }
}

#[test]
fn all_sessions_of_a_user_are_cut_and_nobody_elses() {
    for workers in [1, 2] {
        let server = Server::start(Options { workers, ..Options::default() });
        let origin = Origin::echo();
        let open = |id| {
            let client = Client::open(&server, id, origin.address, b"hello");
            client.take_response();
            assert_eq!(client.take(5), b"hello");
            client
        };
        let alices: Vec<_> = (0..20).map(|_| open(&ALICE)).collect();
        let bobs: Vec<_> = (0..20).map(|_| open(&BOB)).collect();
        let handle = server.reactor().handle();
        assert_eq!(cut(&handle, Which::Ledger(LedgerRef(Arc::new(Ledger::new(1))))), 0);
        assert_eq!(cut(&handle, Which::Ledger(server.account(&ALICE))), 20);
        for client in alices {
            assert_eq!(client.recv(&mut [0]).unwrap(), 0);
        }
        for client in bobs {
            client.send(b"still").unwrap();
            assert_eq!(client.take(5), b"still");
        }
        assert_eq!((server.closes(CloseReason::Cut), server.user(&ALICE).sessions_active), (20, 0));
    }
}

#[test]
fn all_sessions_of_an_address_are_cut_also_those_of_strangers() {
    let server = Server::start(Options::default());
    let live = [relaying(&server), (KINDS[2].bring)(&server)];
    wait_until("both are there", || all(&server).len() == 2);
    let handle = server.reactor().handle();
    let address = |text: &str| Which::Source(text.parse::<IpAddr>().unwrap());
    assert_eq!(cut(&handle, address("127.0.0.2")), 0);
    assert_eq!(cut(&handle, address("127.0.0.1")), 2);
    server.wait_until_empty();
    drop(live);
}
