use std::net::Ipv4Addr;

use super::super::{Family, fake_server};
use super::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);

/// A query with a clock that only the test moves.
struct Scene {
    query: Query,
    now: Instant,
    start: Instant,
    random: Random,
}

impl Scene {
    fn with_servers(count: u8) -> Self {
        let servers = (0..count).map(server).collect();
        Self::with_plan(Plan { servers, attempts: 2, timeout: Duration::from_secs(5), transport: Transport::Udp })
    }

    fn with_plan(plan: Plan) -> Self {
        let start = Instant::now();
        let query = Query::new(Question::new("example.org", Family::V4), plan, Quirks::default(), start);
        Self { query, now: start, start, random: Random::new() }
    }

    fn poll(&mut self) -> Step {
        self.query.poll(self.now, &mut self.random)
    }

    fn ask(&mut self) -> Ask {
        match self.poll() {
            Step::Ask(ask) => ask,
            other => panic!("{other:?}"),
        }
    }

    /// Moves the clock to where the query wants to be woken.
    fn sleep(&mut self) -> u128 {
        match self.poll() {
            Step::Wait(at) => self.now = at,
            other => panic!("{other:?}"),
        }
        (self.now - self.start).as_millis()
    }

    fn reply(&mut self, ask: &Ask, message: &[u8]) -> Verdict {
        self.query.on_message(ask.try_number, message, self.now)
    }

    fn silent(&self) -> Vec<SocketAddr> {
        self.query.silent_servers().collect()
    }
}

fn server(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 10 + number], 53))
}

fn good(ask: &Ask) -> Vec<u8> {
    fake_server::addresses(&ask.message, 300, &[ADDRESS])
}

fn found() -> Step {
    Step::Done(Ok(Content::Addresses { addresses: vec![ADDRESS.into()], ttl_s: 300 }))
}

#[test]
fn the_first_server_is_asked_and_believed() {
    let mut scene = Scene::with_servers(2);
    let ask = scene.ask();
    assert_eq!((ask.server, ask.transport), (server(0), Transport::Udp));
    assert!(matches!(scene.poll(), Step::Wait(_)));
    assert_eq!(scene.reply(&ask, &good(&ask)), Verdict::Taken);
    assert_eq!(scene.poll(), found());
    assert_eq!(scene.silent(), []);
}

#[test]
fn a_silent_first_server_costs_one_second() {
    let mut scene = Scene::with_servers(2);
    let first = scene.ask();
    assert_eq!(scene.sleep(), 1000);
    let second = scene.ask();
    assert_eq!(second.server, server(1));
    assert_ne!(first.message[..2], second.message[..2], "each try has an id of its own");
    scene.reply(&second, &good(&second));
    assert_eq!(scene.poll(), found());
    assert_eq!(scene.silent(), [server(0)]);
}

#[test]
fn an_answer_that_comes_after_the_next_server_was_asked_is_welcome() {
    let mut scene = Scene::with_servers(2);
    let first = scene.ask();
    scene.sleep();
    scene.ask();
    assert_eq!(scene.reply(&first, &good(&first)), Verdict::Taken);
    assert_eq!(scene.poll(), found());
}

#[test]
fn silent_servers_end_the_question_at_its_deadline_after_every_round() {
    let mut scene = Scene::with_servers(2);
    for (number, until_ms) in [(0, 1000), (1, 2000), (0, 3000), (1, 5000)] {
        assert_eq!(scene.ask().server, server(number));
        assert_eq!(scene.sleep(), until_ms);
    }
    assert_eq!(scene.poll(), Step::Done(Err(ResolveError::Timeout)));
    assert_eq!(scene.silent(), [], "nobody did better");
}

#[test]
fn a_lost_datagram_is_repeated_to_the_only_server() {
    let mut scene = Scene::with_servers(1);
    scene.ask();
    scene.sleep();
    let second = scene.ask();
    scene.reply(&second, &good(&second));
    assert_eq!(scene.poll(), found());
    assert_eq!(scene.silent(), []);
}

#[test]
fn a_refused_datagram_sends_the_next_one_at_once() {
    let mut scene = Scene::with_servers(2);
    let first = scene.ask();
    scene.query.on_error(first.try_number, ResolveError::ServerFailure, scene.now);
    assert_eq!(scene.ask().server, server(1));
}

#[test]
fn servers_that_all_fail_end_the_question_at_once() {
    let mut scene = Scene::with_servers(2);
    for number in 0..2 {
        let ask = scene.ask();
        assert_eq!(ask.server, server(number));
        assert_eq!(scene.reply(&ask, &fake_server::empty(&ask.message, 2)), Verdict::Taken);
    }
    assert_eq!(scene.poll(), Step::Done(Err(ResolveError::ServerFailure)));
    assert_eq!(scene.now, scene.start);
}

#[test]
fn a_late_failure_of_the_first_server_does_not_hurry_the_second() {
    let mut scene = Scene::with_servers(3);
    let first = scene.ask();
    scene.sleep();
    scene.ask();
    scene.query.on_error(first.try_number, ResolveError::ServerFailure, scene.now);
    assert!(matches!(scene.poll(), Step::Wait(_)));
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let mut scene = Scene::with_servers(1);
    let udp = scene.ask();
    assert_eq!(scene.reply(&udp, &fake_server::truncated(good(&udp))), Verdict::Truncated);
    let tcp = scene.ask();
    assert_eq!((tcp.server, tcp.transport), (udp.server, Transport::Tcp));
    let whole = fake_server::addresses(&tcp.message, 60, &[ADDRESS, Ipv4Addr::new(5, 6, 7, 8)]);
    scene.reply(&tcp, &whole);
    assert!(matches!(scene.poll(), Step::Done(Ok(Content::Addresses { addresses, .. })) if addresses.len() == 2));
}

#[test]
fn what_a_truncated_answer_held_is_used_when_tcp_fails() {
    let mut scene = Scene::with_servers(1);
    let udp = scene.ask();
    scene.reply(&udp, &fake_server::truncated(good(&udp)));
    let tcp = scene.ask();
    scene.query.on_error(tcp.try_number, ResolveError::ServerFailure, scene.now);
    assert_eq!(scene.poll(), found());
}

#[test]
fn addresses_at_hand_wait_for_the_whole_list_only_a_moment() {
    let mut scene = Scene::with_servers(1);
    let udp = scene.ask();
    scene.reply(&udp, &fake_server::truncated(good(&udp)));
    assert_eq!(scene.ask().transport, Transport::Tcp);
    assert_eq!(scene.sleep(), PARTIAL_PATIENCE.as_millis());
    assert_eq!(scene.poll(), found());
}

#[test]
fn an_answer_that_was_cut_on_its_way_is_asked_for_again_over_tcp() {
    let mut scene = Scene::with_servers(1);
    let udp = scene.ask();
    let whole = fake_server::addresses(&udp.message, 300, &[ADDRESS; 3]);
    assert_eq!(scene.reply(&udp, &whole[..whole.len() - 5]), Verdict::Truncated);
    let tcp = scene.ask();
    assert_eq!(tcp.transport, Transport::Tcp);
    let cut = fake_server::addresses(&tcp.message, 300, &[ADDRESS; 3]);
    assert_eq!(scene.reply(&tcp, &cut[..cut.len() - 5]), Verdict::Taken);
    assert_eq!(scene.poll(), found(), "what was there over UDP is better than a failure");
}

/// An answer without addresses that was cut.
fn truncated_to_nothing(ask: &Ask) -> Vec<u8> {
    fake_server::truncated(fake_server::empty(&ask.message, 0))
}

#[test]
fn a_slow_answer_over_tcp_is_waited_for_and_its_server_asked_nothing_else() {
    let mut scene = Scene::with_servers(1);
    let udp = scene.ask();
    scene.reply(&udp, &truncated_to_nothing(&udp));
    let tcp = scene.ask();
    assert_eq!(scene.sleep(), 5000, "nothing to do until the deadline");
    scene.now = scene.start + Duration::from_millis(4500);
    assert_eq!(scene.reply(&tcp, &good(&tcp)), Verdict::Taken);
    assert_eq!(scene.poll(), found());
}

#[test]
fn two_truncated_answers_of_one_server_are_asked_for_once_over_tcp() {
    let mut scene = Scene::with_servers(1);
    let first = scene.ask();
    scene.sleep();
    let second = scene.ask();
    scene.reply(&first, &truncated_to_nothing(&first));
    let tcp = scene.ask();
    assert_eq!(scene.reply(&second, &truncated_to_nothing(&second)), Verdict::Truncated);
    assert!(matches!(scene.poll(), Step::Wait(_)));
    scene.reply(&tcp, &good(&tcp));
    assert_eq!(scene.poll(), found());
}

#[test]
fn other_servers_are_asked_beside_one_that_is_slow_over_tcp_and_do_not_displace_it() {
    let mut scene = Scene::with_servers(2);
    let udp = scene.ask();
    scene.reply(&udp, &truncated_to_nothing(&udp));
    let tcp = scene.ask();
    for _ in 0..3 {
        scene.sleep();
        let other = scene.ask();
        assert_eq!((other.server, other.transport), (server(1), Transport::Udp));
        assert!(scene.query.is_open(tcp.try_number) && scene.query.is_open(other.try_number));
    }
    assert_eq!(scene.reply(&tcp, &good(&tcp)), Verdict::Taken);
    assert_eq!(scene.poll(), found());
}

#[test]
fn names_are_spelled_at_random_and_a_server_that_does_not_keep_that_is_asked_in_small_letters() {
    let mut scene = Scene::with_servers(1);
    let first = scene.ask();
    let small = |message: &[u8]| !message[12..].iter().any(u8::is_ascii_uppercase);
    let spellings = (0..64).filter(|_| !small(&Scene::with_servers(1).ask().message));
    assert!(spellings.count() > 32, "of ten letters hardly ever all are small");
    let answer = fake_server::in_small_letters(good(&first));
    let expected = if small(&first.message) { Verdict::Taken } else { Verdict::Misunderstood };
    assert_eq!(scene.reply(&first, &answer), expected);
    if expected == Verdict::Misunderstood {
        let second = scene.ask();
        assert!(small(&second.message) && second.server == first.server);
        assert_ne!(second.message[..2], first.message[..2], "a forger has to guess again");
        assert_eq!(scene.reply(&second, &good(&second)), Verdict::Taken);
    }
    assert_eq!(scene.poll(), found());
    assert_eq!(scene.now, scene.start);
}

#[test]
fn a_server_that_shouts_whatever_it_is_asked_is_asked_twice_and_not_for_ever() {
    let mut scene = Scene::with_servers(1);
    let mut asked = 0;
    while let Step::Ask(ask) = scene.poll() {
        asked += 1;
        let mut shouted = good(&ask);
        shouted[12..].make_ascii_uppercase();
        scene.reply(&ask, &shouted);
        assert!(asked <= 2);
    }
    assert!(matches!(scene.query.answered_by(), Some(server) if server == self::server(0)));
}

#[test]
fn a_server_that_refuses_edns_is_asked_again_at_once_without() {
    for rcode in [1, 4] {
        let mut scene = Scene::with_servers(2);
        let first = scene.ask();
        assert!(fake_server::says_edns(&first.message));
        assert_eq!(scene.reply(&first, &fake_server::empty(&first.message, rcode)), Verdict::Misunderstood);
        let second = scene.ask();
        assert_eq!((second.server, fake_server::says_edns(&second.message)), (first.server, false));
        scene.reply(&second, &fake_server::empty(&second.message, rcode));
        assert_eq!(scene.ask().server, server(1), "now it is a failure");
    }
}

#[test]
fn a_server_that_kept_silent_is_asked_again_without_edns() {
    let mut scene = Scene::with_servers(1);
    scene.ask();
    scene.sleep();
    let second = scene.ask();
    assert!(!fake_server::says_edns(&second.message));
    scene.reply(&second, &good(&second));
    assert_eq!(scene.query.lessons(), [(server(0), Lesson::SilentOnEdns)]);
}

#[test]
fn where_tcp_is_asked_for_nothing_else_is_used_and_a_silent_server_costs_one_second() {
    let servers = vec![server(0), server(1), server(2)];
    let plan = Plan { servers, attempts: 1, timeout: Duration::from_secs(5), transport: Transport::Tcp };
    let mut scene = Scene::with_plan(plan);
    for number in 0..3 {
        let ask = scene.ask();
        assert_eq!((ask.server, ask.transport), (server(number), Transport::Tcp));
        if number < 2 {
            assert_eq!(scene.sleep(), 1000 * (u128::from(number) + 1));
        } else {
            scene.reply(&ask, &good(&ask));
        }
    }
    assert_eq!(scene.poll(), found());
}

#[test]
fn answers_to_other_queries_change_nothing_until_there_are_too_many() {
    let mut scene = Scene::with_servers(2);
    let ask = scene.ask();
    let forged = fake_server::misdirected(good(&ask));
    for _ in 1..BAD_ANSWERS_MAX {
        assert_eq!(scene.reply(&ask, &forged), Verdict::NotOurs);
        assert!(matches!(scene.poll(), Step::Wait(_)));
    }
    assert_eq!(scene.reply(&ask, &forged), Verdict::NotOurs);
    assert!(!scene.query.is_open(ask.try_number));
    assert_eq!(scene.ask().server, server(1));
    assert_eq!(scene.reply(&ask, &good(&ask)), Verdict::NotOurs, "the try is over");
}

#[test]
fn a_shortage_of_descriptors_is_reported_as_such() {
    let mut scene = Scene::with_servers(1);
    let ask = scene.ask();
    scene.query.on_error(ask.try_number, ResolveError::NoDescriptors, scene.now);
    assert_eq!(scene.poll(), Step::Done(Err(ResolveError::NoDescriptors)));
}

#[test]
fn a_short_timeout_still_leaves_time_for_every_try() {
    let (servers, timeout) = (vec![server(0), server(1)], Duration::from_secs(1));
    let plan = Plan { servers, attempts: 2, timeout, transport: Transport::Udp };
    let start = Instant::now();
    let mut random = Random::new();
    let mut query = Query::new(Question::new("example.org", Family::V4), plan, Quirks::default(), start);
    for turn in 0..4 {
        assert!(matches!(query.poll(start + Duration::from_millis(250 * turn), &mut random), Step::Ask(_)));
    }
}
