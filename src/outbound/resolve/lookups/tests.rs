use super::super::fake_server;
use super::super::query::{BAD_ANSWERS_MAX, Transport};
use super::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);

/// Look-ups with a clock that only the test moves.
struct Scene {
    lookups: Lookups,
    counters: Counters,
    now: Instant,
    wake_at: HashMap<Token, Instant>,
    closed: Vec<Token>,
    closed_tries: Vec<(Token, usize)>,
}

impl Scene {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let (servers, timeout) = (vec![server(0), server(1)], Duration::from_secs(5));
        let plan = Plan { servers, attempts: 2, timeout, transport: Transport::Udp };
        Self {
            lookups: Lookups::new(plan, Arc::new(Hosts::parse("10.9.8.7 printer.lan\n")), limits),
            counters: Counters::new(0),
            now: Instant::now(),
            wake_at: HashMap::new(),
            closed: Vec::new(),
            closed_tries: Vec::new(),
        }
    }

    fn ask(&mut self, name: &str, waiter: usize) -> Asked {
        self.ask_for(waiter, name, waiter)
    }

    fn ask_for(&mut self, owner: usize, name: &str, waiter: usize) -> Asked {
        let asker = Asker { waiter: dial(waiter), owner: Token::new(Kind::Session, 0, owner, 0) };
        self.lookups.ask(name, Family::V4, asker, self.now, &self.counters)
    }

    fn ask_v6(&mut self, name: &str) -> Asked {
        let asker = Asker { waiter: dial(1), owner: dial(1) };
        self.lookups.ask(name, Family::V6, asker, self.now, &self.counters)
    }

    fn waiting(&mut self, name: &str, waiter: usize) -> Token {
        match self.ask(name, waiter) {
            Asked::Waiting(id) => id,
            ready @ Asked::Ready(_) => panic!("{ready:?}"),
        }
    }

    /// Takes all actions; the queries among them are for the test.
    fn asks(&mut self) -> Vec<(Token, Ask)> {
        let mut asks = Vec::new();
        while let Some(action) = self.lookups.next_action() {
            match action {
                Action::Ask(id, ask) => asks.push((id, ask)),
                Action::WakeAt(id, at) => drop(self.wake_at.insert(id, at)),
                Action::CloseTry(id, number) => self.closed_tries.push((id, number)),
                Action::Close(id) => self.closed.push(id),
            }
        }
        asks
    }

    fn answer_all(&mut self, answer: impl Fn(&Ask) -> Vec<u8>) {
        for (id, ask) in self.asks() {
            self.lookups.on_message(id, ask.try_number, &answer(&ask), self.now, &self.counters);
        }
    }

    /// Lets look-up `id` sleep until it wants to be woken.
    fn sleep(&mut self, id: Token) {
        self.now = self.wake_at[&id];
        self.lookups.on_timer(id, self.now, &self.counters);
    }

    fn answers(&mut self) -> Vec<(usize, Answer)> {
        std::iter::from_fn(|| self.lookups.next_answer()).map(|a| (a.waiter.index(), a.answer)).collect()
    }
}

fn server(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 10 + number], 53))
}

fn dial(number: usize) -> Token {
    Token::new(Kind::Dial, 1, number, 0)
}

fn good(ask: &Ask) -> Vec<u8> {
    fake_server::addresses(&ask.message, 300, &[ADDRESS])
}

fn addresses() -> Arc<[IpAddr]> {
    Arc::from([IpAddr::V4(ADDRESS)])
}

#[test]
fn equal_questions_share_one_look_up_whatever_their_case() {
    let mut scene = Scene::new();
    let id = scene.waiting("Example.org", 1);
    assert_eq!(scene.waiting("example.ORG.", 2), id);
    let asks = scene.asks();
    assert_eq!(asks.len(), 1);
    let (id, ask) = &asks[0];
    scene.lookups.on_message(*id, ask.try_number, &good(ask), scene.now, &scene.counters);
    assert_eq!(scene.answers(), [(1, Ok(addresses())), (2, Ok(addresses()))]);
    assert_eq!((scene.counters.dns_coalesced.value(), scene.counters.dns_queries.value()), (1, 1));
    scene.asks();
    assert_eq!(scene.closed, [*id]);
    assert_eq!(scene.lookups.waiting.total(), 0);
}

#[test]
fn families_are_looked_up_apart() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    let other = scene.ask_v6("example.org");
    assert!(matches!(other, Asked::Waiting(_)));
    assert_eq!(scene.asks().len(), 2);
}

#[test]
fn an_answer_is_kept_for_its_time_and_not_longer() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    scene.answer_all(good);
    let start = scene.now;
    scene.now = start + Duration::from_secs(299);
    assert_eq!(scene.ask("EXAMPLE.org.", 2), Asked::Ready(Ok(addresses())));
    assert_eq!(scene.counters.dns_cache_hits.value(), 1);
    scene.now = start + Duration::from_mins(5);
    assert!(matches!(scene.ask("example.org", 3), Asked::Waiting(_)));
}

#[test]
fn a_missing_name_is_remembered() {
    let mut scene = Scene::new();
    scene.waiting("missing.example.org", 1);
    scene.answer_all(|ask| fake_server::empty(&ask.message, 3));
    assert_eq!(scene.answers(), [(1, Err(ResolveError::NoSuchName))]);
    assert_eq!(scene.ask("missing.example.org", 2), Asked::Ready(Err(ResolveError::NoSuchName)));
    scene.now += cache::NEGATIVE_TTL_MAX;
    assert!(matches!(scene.ask("missing.example.org", 3), Asked::Waiting(_)));
}

#[test]
fn a_failure_is_remembered_briefly() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    scene.answer_all(|ask| fake_server::empty(&ask.message, 2));
    scene.answer_all(|ask| fake_server::empty(&ask.message, 5));
    assert_eq!(scene.answers(), [(1, Err(ResolveError::ServerFailure))]);
    assert_eq!(scene.ask("example.org", 2), Asked::Ready(Err(ResolveError::ServerFailure)));
    scene.now += cache::FAILURE_TTL;
    assert!(matches!(scene.ask("example.org", 3), Asked::Waiting(_)));
}

#[test]
fn a_shortage_of_descriptors_is_not_remembered() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    for _ in 0..2 {
        for (id, ask) in scene.asks() {
            scene.lookups.on_error(id, ask.try_number, ResolveError::NoDescriptors, scene.now, &scene.counters);
        }
    }
    assert_eq!(scene.answers(), [(1, Err(ResolveError::NoDescriptors))]);
    assert!(matches!(scene.ask("example.org", 2), Asked::Waiting(_)));
}

#[test]
fn a_silent_server_is_asked_last_for_a_while() {
    let mut scene = Scene::new();
    let id = scene.waiting("a.example.org", 1);
    assert_eq!(scene.asks()[0].1.server, server(0));
    scene.sleep(id);
    scene.answer_all(good);
    assert_eq!(scene.answers().len(), 1);

    scene.waiting("b.example.org", 1);
    assert_eq!(scene.asks()[0].1.server, server(1));
    scene.now += SILENT_SERVER_PENALTY;
    scene.waiting("c.example.org", 1);
    assert_eq!(scene.asks()[0].1.server, server(0));
}

#[test]
fn servers_that_never_answer_end_in_a_timeout_that_is_counted() {
    let mut scene = Scene::new();
    let start = scene.now;
    let id = scene.waiting("example.org", 1);
    scene.asks();
    while scene.lookups.under_way() > 0 {
        scene.sleep(id);
        scene.asks();
    }
    assert_eq!(scene.now - start, Duration::from_secs(5));
    assert_eq!(scene.answers(), [(1, Err(ResolveError::Timeout))]);
    assert_eq!((scene.counters.dns_timeouts.value(), scene.counters.dns_queries.value()), (1, 4));
}

#[test]
fn truncation_goes_over_tcp_and_is_counted() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    scene.answer_all(|ask| fake_server::truncated(good(ask)));
    let asks = scene.asks();
    assert_eq!(asks[0].1.transport, Transport::Tcp);
    scene.lookups.on_message(asks[0].0, asks[0].1.try_number, &good(&asks[0].1), scene.now, &scene.counters);
    assert_eq!(scene.answers(), [(1, Ok(addresses()))]);
    assert_eq!(scene.counters.dns_truncated.value(), 1);
}

#[test]
fn answers_to_other_queries_are_counted_and_ignored() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    let (id, ask) = scene.asks().remove(0);
    let forged = fake_server::misdirected(good(&ask));
    scene.lookups.on_message(id, ask.try_number, &forged, scene.now, &scene.counters);
    assert_eq!((scene.answers(), scene.counters.dns_bad_answers.value()), (Vec::new(), 1));
    scene.lookups.on_message(id, ask.try_number, &good(&ask), scene.now, &scene.counters);
    assert_eq!(scene.answers(), [(1, Ok(addresses()))]);
}

#[test]
fn the_socket_of_a_flooded_try_is_closed_and_the_next_server_asked() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    let (id, ask) = scene.asks().remove(0);
    let forged = fake_server::misdirected(good(&ask));
    for _ in 0..BAD_ANSWERS_MAX {
        assert_eq!(scene.closed_tries, []);
        scene.lookups.on_message(id, ask.try_number, &forged, scene.now, &scene.counters);
        let next = scene.asks();
        assert!(next.iter().all(|(_, ask)| ask.server == server(1)));
    }
    assert_eq!(scene.closed_tries, [(id, ask.try_number)]);
    assert_eq!(scene.counters.dns_queries.value(), 2);
}

#[test]
fn of_too_many_look_ups_the_one_that_has_waited_longest_ends() {
    let mut scene = Scene::with_limits(Limits { lookups_max: 2, ..Limits::default() });
    scene.waiting("known.example.org", 1);
    scene.answer_all(good);
    scene.answers();
    scene.waiting("dead.example.org", 2);
    scene.now += Duration::from_millis(1);
    scene.waiting("b.example.org", 3);
    scene.now += Duration::from_millis(1);
    scene.waiting("c.example.org", 4);
    assert_eq!(scene.answers(), [(2, Err(ResolveError::Busy))]);
    assert!(matches!(scene.ask("b.example.org", 5), Asked::Waiting(_)));
    assert_eq!(scene.ask("known.example.org", 6), Asked::Ready(Ok(addresses())));
    assert_eq!((scene.counters.dns_refused_busy.value(), scene.lookups.under_way()), (1, 2));
    scene.answer_all(good);
    assert!(matches!(scene.ask("dead.example.org", 2), Asked::Waiting(_)), "a shortage is not remembered as an answer");
}

#[test]
fn who_asks_without_end_displaces_only_itself() {
    const GREEDY: usize = 1;
    let mut scene = Scene::with_limits(Limits { lookups_max: 8, ..Limits::default() });
    let ask = |scene: &mut Scene, owner, number: usize| {
        scene.now += Duration::from_micros(10);
        assert!(matches!(scene.ask_for(owner, &format!("n{number}.example.org"), number), Asked::Waiting(_)));
    };
    for number in 100..108 {
        ask(&mut scene, GREEDY, number);
    }
    // Nobody's turn to go are those who have few, though theirs be the oldest.
    for (number, owner) in [(2, 2), (3, 2), (4, 3)] {
        ask(&mut scene, owner, number);
    }
    for number in 200..1200 {
        ask(&mut scene, GREEDY, number);
    }
    let displaced = scene.answers();
    assert_eq!(displaced.len(), 1003);
    assert!(displaced.iter().all(|(waiter, answer)| *waiter >= 100 && *answer == Err(ResolveError::Busy)));
    scene.answer_all(good);
    let answered: Vec<_> = scene.answers().into_iter().filter(|(_, answer)| answer.is_ok()).collect();
    assert_eq!(answered.iter().filter(|(waiter, _)| *waiter < 100).count(), 3);
}

#[test]
fn look_ups_that_nobody_waits_for_go_first() {
    let mut scene = Scene::with_limits(Limits { lookups_max: 3, ..Limits::default() });
    scene.waiting("old.example.org", 1);
    let left = scene.waiting("left.example.org", 2);
    scene.lookups.leave(left, dial(2));
    let joined = scene.waiting("joined.example.org", 3);
    scene.lookups.leave(joined, dial(3));
    assert_eq!(scene.waiting("joined.example.org", 4), joined);
    scene.waiting("a.example.org", 5);
    assert_eq!((scene.answers(), scene.lookups.under_way()), (vec![], 3));
    scene.waiting("b.example.org", 6);
    assert_eq!(scene.answers(), [(1, Err(ResolveError::Busy))], "of equals the oldest");
}

#[test]
fn too_many_waiters_are_refused_until_one_leaves() {
    let mut scene = Scene::with_limits(Limits { waiters_max: 2, ..Limits::default() });
    let id = scene.waiting("example.org", 1);
    scene.waiting("example.org", 2);
    assert_eq!(scene.ask("example.org", 3), Asked::Ready(Err(ResolveError::Busy)));
    scene.lookups.leave(id, dial(1));
    scene.lookups.leave(id, dial(1));
    assert!(matches!(scene.ask("example.org", 3), Asked::Waiting(_)));
    scene.answer_all(good);
    assert_eq!(scene.answers(), [(2, Ok(addresses())), (3, Ok(addresses()))]);
}

#[test]
fn who_waits_very_often_does_not_keep_others_from_waiting() {
    const MOST: usize = 1024;
    let mut scene = Scene::with_limits(Limits { waiters_max: MOST, ..Limits::default() });
    for waiter in 0..MOST {
        assert!(matches!(scene.ask_for(1, "slow.example.org", waiter), Asked::Waiting(_)));
    }
    assert_eq!(scene.ask_for(1, "slow.example.org", MOST), Asked::Ready(Err(ResolveError::Busy)));
    let mut others = (MOST..3 * MOST).map(|waiter| (waiter / 4, scene.ask_for(waiter / 4, "example.org", waiter)));
    assert!(others.by_ref().take(MOST).all(|(_, asked)| matches!(asked, Asked::Waiting(_))), "each has four at most");
    assert!(others.all(|(_, asked)| asked == Asked::Ready(Err(ResolveError::Busy))), "there is an end to it");
    scene.answer_all(good);
    assert_eq!(scene.answers().len(), 2 * MOST);
    assert!(matches!(scene.ask_for(1, "other.example.org", 1), Asked::Waiting(_)));
}

#[test]
fn a_look_up_without_waiters_still_fills_the_cache() {
    let mut scene = Scene::new();
    let id = scene.waiting("example.org", 1);
    scene.lookups.leave(id, dial(1));
    scene.answer_all(good);
    assert_eq!(scene.answers(), []);
    assert_eq!(scene.ask("example.org", 2), Asked::Ready(Ok(addresses())));
}

#[test]
fn messages_for_a_look_up_that_is_over_are_dropped() {
    let mut scene = Scene::new();
    scene.waiting("a.example.org", 1);
    let (old, ask) = scene.asks().remove(0);
    scene.lookups.on_message(old, ask.try_number, &good(&ask), scene.now, &scene.counters);
    scene.answers();
    let new = scene.waiting("b.example.org", 2);
    assert_eq!(new.index(), old.index());
    scene.lookups.on_error(old, 0, ResolveError::ServerFailure, scene.now, &scene.counters);
    scene.lookups.leave(old, dial(2));
    scene.answer_all(good);
    assert_eq!(scene.answers(), [(2, Ok(addresses()))]);
}

#[test]
fn localhost_is_this_machine_and_nobody_is_asked() {
    let mut scene = Scene::new();
    for name in ["localhost", "LocalHost.", "a.b.localhost"] {
        assert_eq!(scene.ask(name, 1), Asked::Ready(Ok(Arc::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]))), "{name}");
        let v6 = scene.ask_v6(name);
        assert_eq!(v6, Asked::Ready(Ok(Arc::from([IpAddr::V6(Ipv6Addr::LOCALHOST)]))));
    }
    assert!(matches!(scene.ask("notlocalhost", 1), Asked::Waiting(_)));
}

#[test]
fn the_hosts_file_goes_before_the_servers() {
    let mut scene = Scene::new();
    assert_eq!(scene.ask("Printer.LAN", 1), Asked::Ready(Ok(Arc::from([IpAddr::from([10, 9, 8, 7])]))));
    scene.lookups.set_hosts(Arc::default());
    assert!(matches!(scene.ask("printer.lan", 1), Asked::Waiting(_)));
}

#[test]
fn impossible_names_are_answered_at_once() {
    let mut scene = Scene::new();
    for name in [".", "a..b", &"x".repeat(64)] {
        assert_eq!(scene.ask(name, 1), Asked::Ready(Err(ResolveError::NoSuchName)), "{name}");
    }
}

#[test]
fn new_servers_are_asked_from_the_next_look_up_on() {
    let mut scene = Scene::new();
    scene.lookups.set_servers(vec![server(7)], 1, Transport::Udp);
    scene.waiting("example.org", 1);
    assert_eq!(scene.asks()[0].1.server, server(7));
}

#[test]
fn what_a_server_cannot_do_is_known_to_the_next_look_up() {
    let mut scene = Scene::new();
    scene.waiting("example.org", 1);
    scene.answer_all(|ask| {
        assert!(fake_server::says_edns(&ask.message));
        fake_server::empty(&ask.message, 1)
    });
    scene.answer_all(|ask| {
        assert!(!fake_server::says_edns(&ask.message));
        good(ask)
    });
    assert_eq!(scene.answers(), [(1, Ok(addresses()))]);
    scene.waiting("example.net", 2);
    scene.answer_all(|ask| {
        assert!(!fake_server::says_edns(&ask.message));
        good(ask)
    });
    assert_eq!(scene.answers(), [(2, Ok(addresses()))]);
    assert_eq!(scene.counters.dns_queries.value(), 3);
}

#[test]
fn sixteen_thousand_who_leave_one_look_up_cost_no_more_each_than_a_few() {
    let limits = Limits { waiters_max: 1 << 20, ..Limits::default() };
    let time_per_leave = |count: usize| {
        let mut scene = Scene::with_limits(limits);
        let ids: Vec<_> = (0..count).map(|waiter| scene.waiting("slow.example.org", waiter)).collect();
        let started = Instant::now();
        for (waiter, id) in ids.into_iter().enumerate().rev() {
            scene.lookups.leave(id, dial(waiter));
        }
        assert_eq!(scene.lookups.waiting.total(), 0);
        started.elapsed().as_secs_f64() / count as f64
    };
    let few = (0..5).map(|_| time_per_leave(1_000)).fold(f64::MAX, f64::min);
    let many = (0..3).map(|_| time_per_leave(64_000)).fold(f64::MAX, f64::min);
    assert!(many < few * 20.0, "{few} s each of 1,000, {many} s each of 64,000");
}

#[test]
fn those_who_wait_are_answered_in_the_order_in_which_they_came() {
    let mut scene = Scene::new();
    for waiter in [5, 3, 9, 1] {
        scene.waiting("example.org", waiter);
    }
    let id = scene.waiting("example.org", 7);
    scene.lookups.leave(id, dial(3));
    scene.answer_all(good);
    let order: Vec<_> = scene.answers().into_iter().map(|(waiter, _)| waiter).collect();
    assert_eq!(order, [5, 9, 1, 7]);
}
