//! New rules while sessions go on: they hold for what begins, and nobody is disturbed.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vless_rust::outbound::policy::DestinationPolicy;
use vless_rust::reactor::Rules;
use vless_rust::session::close::CloseReason;
use vless_rust::session::{Flow, Timeouts, User, Users};
use vless_rust::stats::Ledger;

use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::server::{ALICE, BOB, Options, STRANGER, Server, tls};
use crate::support::wait_until;

const CAROL: [u8; 16] = *b"carol's user id.";
const SHORT: Duration = Duration::from_millis(200);

fn user(id: [u8; 16], email: &str) -> User {
    User { id, email: email.to_owned(), flow: Flow::None, ledger: Arc::new(Ledger::new(2)) }
}

/// Other users, deadlines, and ports that may not be dialled.
fn changed(rules: &Rules, denied_port: u16) -> Rules {
    let mut rules = rules.clone();
    let users = [user(ALICE, "alice@example.com"), user(CAROL, "carol@example.com")];
    rules.session.users = Arc::new(Users::new(users).unwrap());
    rules.session.timeouts = Timeouts { first_byte: SHORT, ..rules.session.timeouts };
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let mut dial = (*rules.dial).clone();
    dial.policy = Arc::new(DestinationPolicy::new(false, allow, vec![denied_port], Vec::new()));
    rules.dial = Arc::new(dial);
    rules
}

fn open(server: &Server, id: &[u8; 16], origin: &Origin) -> Client {
    let client = Client::open(server, id, origin.address, b"hello");
    client.take_response();
    assert_eq!(client.take(5), b"hello");
    client
}

/// Workers take new rules in their next turn; this is when they have.
fn wait_until_adopted(server: &Server, origin: &Origin) {
    let rounds = server.reactor().counters().len() * 8;
    wait_until("the rules have been adopted", || {
        // With several workers chance decides which of them a client meets.
        (0..rounds).all(|_| {
            let client = Client::open(server, &CAROL, origin.address, b"x");
            client.recv(&mut [0]).is_ok_and(|count| count > 0)
        })
    });
}

#[test]
fn new_rules_hold_for_what_begins_while_a_thousand_sessions_go_on() {
    raise_descriptor_limit();
    let server = Server::start(Options { workers: 2, ..Options::default() });
    let (origin, other) = (Origin::echo(), Origin::echo());
    let clients: Vec<_> = (0..1000).map(|number| open(&server, [&ALICE, &BOB][number % 2], &origin)).collect();
    let mut rules = server.rules.clone();
    for round in 0..3 {
        rules = changed(&rules, other.address.port());
        server.reactor().handle().adopt(&Arc::new(rules.clone()));
        wait_until_adopted(&server, &origin);
        for (number, client) in clients.iter().enumerate() {
            let text = format!("{round} {number:>5}");
            client.send(text.as_bytes()).unwrap();
            assert_eq!(client.take(text.len()), text.as_bytes());
        }
    }
    // Bob is gone from the list, and whoever has his id is a stranger.
    for id in [&BOB, &STRANGER] {
        let refused = Client::open(&server, id, origin.address, b"");
        assert_eq!(refused.recv(&mut [0]).unwrap(), 0);
    }
    wait_until("both were refused", || server.closes(CloseReason::UnknownUser) == 2);
    let refused = Client::open(&server, &ALICE, other.address, b"");
    assert_eq!(refused.recv(&mut [0]).unwrap(), 0);
    wait_until("the policy has refused", || server.closes(CloseReason::PolicyRefused) == 1);
    let (start, silent) = (Instant::now(), Client::connect(&server));
    assert_eq!(silent.recv(&mut [0]).unwrap(), 0);
    assert!(start.elapsed() < server.rules.session.timeouts.first_byte / 2);
    wait_until("the timeout is counted", || server.closes(CloseReason::FirstByteTimeout) == 1);
    let disturbed = CloseReason::ALL.iter().filter(|&&reason| {
        let expected = [CloseReason::UnknownUser, CloseReason::PolicyRefused, CloseReason::FirstByteTimeout];
        // Those that looked whether the rules have been adopted.
        let looks = [CloseReason::Finished, CloseReason::ClientReset, CloseReason::ClientLeft];
        !expected.contains(&reason) && !looks.contains(&reason) && server.closes(reason) > 0
    });
    assert_eq!(disturbed.collect::<Vec<_>>(), Vec::<&CloseReason>::new());
    assert_eq!(server.user(&BOB).sessions_active, 500, "his sessions go on, and count");
}

#[test]
fn a_new_certificate_is_shown_to_who_comes_and_sessions_under_the_old_one_go_on() {
    let mut server = Server::start(Options::tls());
    let origin = Origin::echo();
    let old = open(&server, &ALICE, &origin);
    let (acceptor, certificate) = tls(Vec::new());
    let mut rules = server.rules.clone();
    rules.session.tls = Some(acceptor);
    server.reactor().handle().adopt(&Arc::new(rules));
    // The client accepts this one and no other.
    server.certificate = Some(certificate);
    wait_until("the new certificate is shown", || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(open(&server, &ALICE, &origin)))).is_ok()
    });
    old.send(b"still").unwrap();
    assert_eq!(old.take(5), b"still");
}

#[test]
fn a_higher_session_limit_lets_those_in_who_wait() {
    let server = Server::start(Options { sessions_max: 1, ..Options::default() });
    let origin = Origin::echo();
    let _first = open(&server, &ALICE, &origin);
    let waiting = Client::open(&server, &ALICE, origin.address, b"hello");
    wait_until("accepting pauses", || server.totals().accept_paused_limit > 0);
    let rules = Rules { sessions_max: 2, ..server.rules.clone() };
    server.reactor().handle().adopt(&Arc::new(rules));
    waiting.take_response();
    assert_eq!(waiting.take(5), b"hello");
    let third = TcpStream::connect(server.address).unwrap();
    wait_until("accepting pauses again", || server.totals().sessions_accepted == 2);
    drop(third);
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
