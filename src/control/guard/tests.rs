use super::*;
use crate::control::http::head::Head;

fn keys() -> Keys {
    let text = |text: &str| Some(text.to_owned());
    Keys { token: text("view-token"), admin_token: text("admin-token"), is_loopback: true, origin: None }
}

fn request(change: impl FnOnce(&mut Head)) -> Request {
    let mut head = Head { host: Some("127.0.0.1:9090".to_owned()), minor_version: 1, ..Head::default() };
    change(&mut head);
    Request { head, body: Vec::new(), peer: Peer::Ip(IpAddr::from([127, 0, 0, 1])) }
}

fn right(guard: &mut Guard, request: &Request) -> Right {
    guard.check(request, Exposure::Figures, Instant::now()).unwrap().right
}

fn status(guard: &mut Guard, request: &Request) -> u16 {
    guard.check(request, Exposure::Figures, Instant::now()).unwrap_err().reply.status
}

fn with_bearer(token: &str) -> Request {
    request(|head| head.bearer = Some(token.to_owned()))
}

#[test]
fn each_token_has_its_right() {
    let mut guard = Guard::new(keys());
    assert_eq!(right(&mut guard, &request(|_| {})), Right::None);
    assert_eq!(right(&mut guard, &with_bearer("view-token")), Right::View);
    assert_eq!(right(&mut guard, &with_bearer("admin-token")), Right::Admin);
    for wrong in ["", "view-toke", "view-token ", "admin-tokem"] {
        assert_eq!(status(&mut guard, &with_bearer(wrong)), 401, "{wrong}");
    }
    assert_eq!(guard.failures_total(), 4);
}

#[test]
fn on_loopback_looking_is_free_unless_a_token_is_set() {
    let mut guard = Guard::new(Keys { token: None, ..keys() });
    assert_eq!(right(&mut guard, &request(|_| {})), Right::View);
    let mut guard = Guard::new(Keys { token: None, is_loopback: false, ..keys() });
    assert_eq!(right(&mut guard, &request(|_| {})), Right::None);
}

#[test]
fn whoever_opens_the_unix_socket_may_change_things() {
    let mut guard = Guard::new(keys());
    let request = Request { peer: Peer::Unix, ..request(|head| head.host = Some("anything".to_owned())) };
    let access = guard.check(&request, Exposure::Figures, Instant::now()).unwrap();
    assert_eq!((access.right, access.by.as_str(), access.is_private), (Right::Admin, "command", true));
}

#[test]
fn a_login_is_a_cookie_until_it_is_given_up() {
    let mut guard = Guard::new(keys());
    let cookie = guard.login("admin-token", &request(|_| {}), Instant::now()).unwrap();
    assert!(
        cookie.starts_with("vless_session_9090=") && cookie.contains("; HttpOnly; SameSite=Strict; Path=/"),
        "{cookie}"
    );
    let secret = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    let logged_in = request(|head| head.session = Some(secret));
    assert_eq!(guard.check(&logged_in, Exposure::Figures, Instant::now()).unwrap().by, "page");
    assert_eq!(right(&mut guard, &logged_in), Right::Admin);
    let later = Instant::now() + LOGIN_LIFETIME;
    assert_eq!(guard.check(&logged_in, Exposure::Figures, later).unwrap().right, Right::None);
    assert!(guard.logout(&logged_in).contains("Max-Age=0"));
    assert_eq!(right(&mut guard, &logged_in), Right::None);
    assert_eq!(guard.login("wrong", &request(|_| {}), Instant::now()).unwrap_err().reply.status, 401);
}

#[test]
fn logins_are_bounded_and_end_with_the_token_they_came_from() {
    let mut guard = Guard::new(keys());
    for _ in 0..LOGINS_MAX + 10 {
        guard.login("view-token", &request(|_| {}), Instant::now()).unwrap();
    }
    assert_eq!(guard.logins.len(), LOGINS_MAX);
    guard.adopt(Keys { token: Some("other".to_owned()), ..keys() });
    assert!(guard.logins.is_empty());
}

#[test]
fn names_of_others_are_not_ours() {
    let mut guard = Guard::new(Keys { origin: Some("https://panel.example".to_owned()), ..keys() });
    for host in ["127.0.0.1", "localhost:9090", "[::1]:9090", "203.0.113.7:9090", "panel.example", "LOCALHOST"] {
        let request = request(|head| head.host = Some(host.to_owned()));
        assert!(guard.check(&request, Exposure::Figures, Instant::now()).is_ok(), "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "panel.example.evil", "", "[::1", "127.0.0.1.evil", "a:b:c"]
    {
        assert_eq!(status(&mut guard, &request(|head| head.host = Some(host.to_owned()))), 421, "{host}");
    }
}

#[test]
fn pages_of_others_may_not_ask() {
    let mut guard = Guard::new(Keys { origin: Some("https://panel.example".to_owned()), ..keys() });
    for origin in ["http://127.0.0.1:9090", "https://panel.example"] {
        let request = request(|head| head.origin = Some(origin.to_owned()));
        assert!(guard.check(&request, Exposure::Figures, Instant::now()).is_ok(), "{origin}");
    }
    for origin in ["http://evil.example", "null", "https://127.0.0.1:9090", "http://127.0.0.1:1"] {
        assert_eq!(status(&mut guard, &request(|head| head.origin = Some(origin.to_owned()))), 403, "{origin}");
    }
    assert_eq!(status(&mut guard, &request(|head| head.fetched_cross_site = true)), 403);
}

#[test]
fn a_link_on_another_page_leads_to_the_page_and_to_nothing_else() {
    let mut guard = Guard::new(keys());
    let mut status = |exposure, change: fn(&mut Head)| {
        let request = request(|head| {
            (head.fetched_cross_site, head.is_navigation) = (true, true);
            change(head);
        });
        guard.check(&request, exposure, Instant::now()).map_or_else(|refused| refused.reply.status, |_| 200)
    };
    assert_eq!(status(Exposure::Page, |_| {}), 200);
    assert_eq!(status(Exposure::Page, |head| head.is_navigation = false), 403, "fetched by the other page");
    assert_eq!(status(Exposure::Page, |head| head.method = Method::Post), 403);
    assert_eq!(status(Exposure::Page, |head| head.host = Some("evil.example".to_owned())), 421);
    assert_eq!(status(Exposure::Page, |head| head.origin = Some("null".to_owned())), 403);
    assert_eq!(status(Exposure::Figures, |_| {}), 403);
}

#[test]
fn whoever_shows_a_token_may_use_any_name_and_looks_only() {
    let mut guard = Guard::new(Keys { token: None, ..keys() });
    let named = |change: fn(&mut Head)| {
        request(|head| {
            head.host = Some("vpn.example:9090".to_owned());
            change(head);
        })
    };
    let access = |guard: &mut Guard, request: &Request| guard.check(request, Exposure::Figures, Instant::now());
    let admin = access(&mut guard, &named(|head| head.bearer = Some("admin-token".to_owned()))).unwrap();
    assert_eq!((admin.right, admin.is_private, admin.may_see_secrets()), (Right::Admin, false, false));
    assert_eq!(status(&mut guard, &named(|head| head.bearer = Some("wrong".to_owned()))), 401);
    assert_eq!(status(&mut guard, &named(|_| {})), 421, "what is free is free under our own name");
    let cookie = guard.login("admin-token", &request(|_| {}), Instant::now()).unwrap();
    let mut logged_in = named(|_| {});
    logged_in.head.session = cookie.split(['=', ';']).nth(1).map(str::to_owned);
    assert_eq!(status(&mut guard, &logged_in), 421, "a browser under a name that points here has the cookie, too");
    logged_in.head.host = request(|_| {}).head.host;
    assert_eq!(right(&mut guard, &logged_in), Right::Admin);
}

#[test]
fn probes_may_use_any_name() {
    let mut guard = Guard::new(keys());
    let probe = request(|head| {
        head.host = Some("vpn.example".to_owned());
        head.bearer = Some("of somebody else".to_owned());
    });
    assert_eq!(guard.check(&probe, Exposure::Probe, Instant::now()).unwrap().right, Right::None);
    assert_eq!(guard.failures_total(), 0);
}

#[test]
fn a_grant_holds_until_what_it_was_given_for_opens_less_or_more() {
    let mut guard = Guard::new(keys());
    let now = Instant::now();
    let grant = |guard: &mut Guard, request: &Request| guard.check(request, Exposure::Figures, now).unwrap().grant();
    let cookie = guard.login("admin-token", &request(|_| {}), now).unwrap();
    let logged_in = request(|head| head.session = cookie.split(['=', ';']).nth(1).map(str::to_owned));
    let by_token = grant(&mut guard, &with_bearer("admin-token"));
    let by_login = grant(&mut guard, &logged_in);
    let by_view = grant(&mut guard, &with_bearer("view-token"));
    assert!([by_token, by_login, by_view].iter().all(|grant| guard.holds(*grant, now)));
    assert!(!guard.holds(by_login, now + LOGIN_LIFETIME) && guard.holds(by_token, now + LOGIN_LIFETIME));
    guard.logout(&logged_in);
    assert!(!guard.holds(by_login, now) && guard.holds(by_token, now));
    // The token that changed things only looks from now on.
    let text = |text: &str| Some(text.to_owned());
    guard.adopt(Keys { token: text("admin-token"), admin_token: text("new-token"), ..keys() });
    assert!(!guard.holds(by_token, now) && !guard.holds(by_view, now));
    guard.adopt(Keys { token: None, ..keys() });
    let free = grant(&mut guard, &request(|_| {}));
    assert!(guard.holds(free, now));
    guard.adopt(keys());
    assert!(!guard.holds(free, now));
}

#[test]
fn only_what_stays_on_the_machine_or_goes_through_tls_is_private() {
    let mut guard = Guard::new(Keys { origin: Some("https://panel.example".to_owned()), ..keys() });
    let mut is_private = |host: &str, peer: [u8; 4]| {
        let mut request = Request { peer: Peer::Ip(IpAddr::from(peer)), ..with_bearer("admin-token") };
        request.head.host = Some(host.to_owned());
        let access = guard.check(&request, Exposure::Figures, Instant::now()).unwrap();
        assert_eq!(access.may_see_secrets(), access.is_private, "of an administrator");
        request.head.bearer = Some("view-token".to_owned());
        assert!(!guard.check(&request, Exposure::Figures, Instant::now()).unwrap().may_see_secrets());
        access.is_private
    };
    assert!(is_private("127.0.0.1:9090", [127, 0, 0, 1]));
    assert!(!is_private("203.0.113.7:9090", [198, 51, 100, 1]));
    assert!(is_private("panel.example", [198, 51, 100, 1]));
}

#[test]
fn failures_are_answered_later_each_time_and_forgotten_in_the_end() {
    let mut guard = Guard::new(keys());
    let start = Instant::now();
    let mut delay = |last: u8, after: Duration| {
        let mut request = with_bearer("wrong");
        request.peer = Peer::Ip(IpAddr::from([198, 51, 100, last]));
        guard.check(&request, Exposure::Figures, start + after).unwrap_err().delay.as_millis()
    };
    let delays: Vec<_> = (0..8).map(|_| delay(1, Duration::ZERO)).collect();
    assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
    assert_eq!(delay(2, Duration::ZERO), 250);
    assert_eq!(delay(1, FAILURES_LIFETIME), 250);
}

#[test]
fn sources_are_bounded_and_an_ipv6_network_is_one() {
    let mut guard = Guard::new(keys());
    for number in 0..SOURCES_MAX as u32 + 50 {
        let peer = Peer::Ip(IpAddr::from(number.to_be_bytes()));
        let _ = guard.login("wrong", &Request { peer, ..request(|_| {}) }, Instant::now());
    }
    assert_eq!(guard.failures.len(), SOURCES_MAX);
    let peers = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| Peer::Ip(text.parse().unwrap()));
    assert_eq!(peers[0].source(), peers[1].source());
    assert_ne!(peers[0].source(), peers[2].source());
}
