//! Listeners that come and go, full inboxes, and workers that have ended.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use vless_rust::io::sockopt::SocketOptions;
use vless_rust::reactor::accept::listen;
use vless_rust::reactor::request::{Busy, CutQuery, ListQuery, Which};
use vless_rust::reactor::{Observer, Rules};
use vless_rust::session::SessionRecord;
use vless_rust::session::close::CloseReason;

use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::server::{ALICE, Options, Server};
use crate::support::{PATIENCE, bounded, wait_until};

fn greet(server: &Server, origin: &Origin) -> Client {
    let client = Client::open(server, &ALICE, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    client
}

#[test]
fn a_listener_that_is_added_is_served_and_one_that_is_removed_is_not_and_sessions_stay() {
    for workers in [1, 2] {
        let mut server = Server::start(Options { workers, ..Options::default() });
        let (origin, handle, first) = (Origin::echo(), server.reactor().handle(), server.address);
        let old = greet(&server, &origin);
        let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let sockets: Vec<_> =
            listen(&[any], workers, SocketOptions::default()).unwrap().into_iter().flatten().collect();
        let second = sockets[0].local_addr().unwrap();
        let id = handle.add_listener(sockets).unwrap();
        server.address = second;
        let new = greet(&server, &origin);
        handle.remove_listener(id).unwrap();
        wait_until("nobody listens there any more", || TcpStream::connect(second).is_err());
        server.address = first;
        drop(greet(&server, &origin));
        for client in [old, new] {
            client.send(b"still").unwrap();
            assert_eq!(client.take(5), b"still");
        }
    }
}

/// With every session in use clients wait in the kernel's queue: they have seen their connection succeed.
#[test]
fn a_listener_that_is_removed_loses_nobody_whom_the_kernel_has_accepted() {
    let server = Server::start(Options { sessions_max: 1, ..Options::default() });
    let (origin, handle) = (Origin::echo(), server.reactor().handle());
    let first = greet(&server, &origin);
    let queued: Vec<_> = (0..5).map(|_| Client::open(&server, &ALICE, origin.address, b"queued")).collect();
    wait_until("accepting pauses", || server.totals().accept_paused_limit > 0);
    handle.remove_listener(vless_rust::reactor::request::ListenerId(0)).unwrap();
    drop(first);
    for client in queued {
        client.take_response();
        assert_eq!(client.take(6), b"queued");
    }
    wait_until("nobody listens any more", || TcpStream::connect(server.address).is_err());
    assert!(!server.reactor().is_stopped(), "a worker without listeners is no stopped one");
}

/// Holds its worker until it is let go.
struct Holding {
    held: Sender<()>,
    gate: Arc<Mutex<()>>,
}

impl Observer for Holding {
    fn on_closed(&self, _record: SessionRecord) {
        let _ = self.held.send(());
        drop(self.gate.lock());
    }
}

#[test]
fn a_full_inbox_is_an_answer_that_is_counted_and_no_answer_is_lost() {
    let server = Server::start(Options::default());
    let (held, is_held) = mpsc::channel();
    let gate = Arc::new(Mutex::new(()));
    let guard = gate.lock().unwrap();
    let handle = server.reactor().handle();
    let observer = Arc::new(Holding { held, gate: Arc::clone(&gate) });
    handle.adopt(&Arc::new(Rules { observer, ..server.rules.clone() }));
    // Whoever ends now ends under the new rules, and holds the worker.
    while is_held.try_recv().is_err() {
        let mut client = bounded(TcpStream::connect(server.address).unwrap());
        std::io::Write::write_all(&mut client, &[9]).unwrap();
        drop(client);
    }
    let query = CutQuery { which: Which::Source(Ipv4Addr::new(192, 0, 2, 1).into()), reason: CloseReason::Cut };
    let asked: Vec<_> = (0..1000).map(|_| handle.cut(&query)).collect();
    let busy = handle.list(&ListQuery::default());
    assert!(matches!(busy.recv_timeout(PATIENCE), Ok(Err(Busy))), "who is refused hears it at once");
    assert!(handle.refused() >= 700, "{}", handle.refused());
    drop(guard);
    let (mut done, mut refused) = (0, 0);
    for answers in asked {
        match answers.recv_timeout(PATIENCE) {
            Ok(Ok(cut)) => {
                assert_eq!(cut, 0);
                done += 1;
            }
            Ok(Err(Busy)) => refused += 1,
            Err(error) => panic!("an answer was lost: {error}"),
        }
    }
    assert!(done > 0);
    assert_eq!((done + refused, handle.refused()), (1000, refused + 1));
}

#[test]
fn who_asks_workers_that_have_ended_hears_so() {
    let server = Server::start(Options { workers: 2, ..Options::default() });
    let handle = server.reactor().handle();
    drop(server);
    assert!(handle.is_stopped());
    let answers: Vec<_> = handle.list(&ListQuery::default()).iter().collect();
    assert!(matches!(answers[..], [Err(Busy), Err(Busy)]), "{answers:?}");
    handle.adopt(&Arc::new(Server::start(Options::default()).rules.clone()));
}
