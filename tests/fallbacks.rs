//! Strangers are passed on: with every byte they sent, to the right place, and users never are.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use support::client::{Client, request};
use support::origin::Origin;
use support::ports::free_address;
use support::server::{ALICE, Options, PATIENT, STRANGER, Server};
use support::{PATIENCE, bounded, wait_until};
use vless_rust::protocol::proxy_header::Version;
use vless_rust::session::close::CloseReason;
use vless_rust::session::{BuiltIn, Dest, Fallback, Fallbacks, Timeouts};
use vless_rust::site::{Content, LoadedSite};

const HELLO: &[u8] = b"GET /x?y HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A fallback for everybody; tests change what they are about.
fn to(dest: Dest) -> Fallback {
    Fallback { name: String::new(), alpn: String::new(), path: String::new(), dest, proxy_header: None }
}

fn to_tcp(address: SocketAddr) -> Fallback {
    to(Dest::Tcp(address.ip().to_string().into(), address.port()))
}

/// A web server of a kind: reads to the end of what a client says, tells what that was, and answers `answer`.
struct Web {
    address: SocketAddr,
    heard: Receiver<(Vec<u8>, SocketAddr)>,
}

impl Web {
    fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            while let Ok((socket, peer)) = listener.accept() {
                let mut socket = bounded(socket);
                socket.write_all(answer).unwrap();
                let mut all = Vec::new();
                socket.read_to_end(&mut all).unwrap();
                if tell.send((all, peer)).is_err() {
                    return;
                }
            }
        });
        Self { address, heard }
    }

    #[track_caller]
    fn heard(&self) -> Vec<u8> {
        self.heard.recv_timeout(PATIENCE).expect("a stranger was passed on").0
    }
}

fn with(tls: bool, fallbacks: Vec<Fallback>) -> Server {
    Server::start(Options { tls, fallbacks, alpn: vec!["http/1.1".to_owned()], ..Options::default() })
}

/// Sends `first`, ends, and checks that the fallback has heard just that and its answer came back.
#[track_caller]
fn assert_passed_on(first: &[u8]) {
    for tls in [false, true] {
        let web = Web::start(b"the answer");
        let server = with(tls, vec![to_tcp(web.address)]);
        let client = Client::connect(&server);
        client.send(first).unwrap();
        client.finish();
        assert_eq!(web.heard(), first);
        assert_eq!(client.recv_to_end().unwrap(), b"the answer");
        server.closed_for(CloseReason::Finished);
        let totals = server.totals();
        assert_eq!((totals.fallback_uplink_bytes, totals.fallback_downlink_bytes), (first.len() as u64, 10));
        assert_eq!((totals.fallbacks_begun, totals.uplink_bytes, totals.downlink_bytes), (1, 0, 0));
    }
}

#[test]
fn whatever_is_no_request_of_a_user_is_passed_on_whole() {
    assert_passed_on(HELLO);
    assert_passed_on(b"\x01");
    assert_passed_on(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_passed_on(&[&request(&STRANGER, "192.0.2.1:443".parse().unwrap())[..], b"and more"].concat());
    // A correct beginning of a request, too short for one.
    assert_passed_on(&request(&ALICE, "192.0.2.1:443".parse().unwrap())[..17]);
}

#[test]
fn a_long_upload_and_download_pass_with_half_close() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let mut socket = bounded(listener.accept().unwrap().0);
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        socket.write_all(&all).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
    });
    let server = with(true, vec![to_tcp(address)]);
    let client = Client::connect(&server);
    let upload: Vec<u8> = HELLO.iter().copied().cycle().take(4 << 20).collect();
    client.send(&upload).unwrap();
    client.finish();
    assert!(client.recv_to_end().unwrap() == upload);
    echo.join().unwrap();
    server.closed_for(CloseReason::Finished);
    assert_eq!(server.totals().fallback_downlink_bytes, 4 << 20);
}

#[test]
fn users_are_served_beside_strangers_and_their_mistakes_are_not_passed_on() {
    let web = Web::start(b"");
    let server = with(true, vec![to_tcp(web.address)]);
    let malformed = Client::connect(&server);
    malformed.send(&[&[0], &ALICE[..], &[0, 9, 0, 0]].concat()).unwrap();
    assert_eq!(malformed.recv_to_end().unwrap(), b"");
    malformed.finish();
    server.closed_for(CloseReason::CommandRefused);
    let target = Web::start(b"");
    let user = Client::open(&server, &ALICE, target.address, b"payload");
    user.finish();
    assert_eq!(target.heard(), b"payload");
    assert_eq!(server.closed(1)[0].uplink.payload_bytes, 7);
    assert!(web.heard.try_recv().is_err() && server.totals().fallbacks_begun == 0);
}

#[test]
fn the_fallback_learns_who_its_client_is() {
    for (version, tls) in [(Version::One, true), (Version::Two, false)] {
        let web = Web::start(b"");
        let fallback = Fallback { proxy_header: Some(version), ..to_tcp(web.address) };
        let server = with(tls, vec![fallback]);
        let client = Client::connect(&server);
        client.send(HELLO).unwrap();
        client.finish();
        let heard = web.heard();
        let ours = server.closed_for(CloseReason::Finished).client;
        let header = match version {
            Version::One => {
                format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", ours.port(), server.address.port()).into_bytes()
            }
            Version::Two => {
                let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
                header.extend(ours.port().to_be_bytes());
                header.extend(server.address.port().to_be_bytes());
                header
            }
        };
        assert_eq!(heard, [&header[..], HELLO].concat());
        assert_eq!(server.totals().fallback_uplink_bytes, HELLO.len() as u64, "the header is nobody's byte");
    }
}

#[test]
fn name_protocol_and_path_choose() {
    let webs: Vec<Web> = (0..4).map(|_| Web::start(b"")).collect();
    let fallback = |web: usize, name: &str, path: &str| Fallback {
        name: name.to_owned(),
        path: path.to_owned(),
        ..to_tcp(webs[web].address)
    };
    let heard_by = |tls: bool, fallbacks: Vec<Fallback>, first: &[u8]| {
        let server = with(tls, fallbacks);
        let client = Client::connect(&server);
        client.send(first).unwrap();
        client.finish();
        server.closed_for(CloseReason::Finished);
        (0..4)
            .position(|web| webs[web].heard.recv_timeout(Duration::from_millis(if web == 0 { 50 } else { 1 })).is_ok())
    };
    let all = || vec![fallback(0, "", ""), fallback(1, "", "/x"), fallback(2, "localhost", "")];
    assert_eq!(heard_by(false, all(), b"GET /y HTTP/1.1\r\n\r\n"), Some(0));
    assert_eq!(heard_by(false, all(), HELLO), Some(1));
    // The client's TLS asks for localhost.
    assert_eq!(heard_by(true, all(), b"GET /y HTTP/1.1\r\n\r\n"), Some(2));
    assert_eq!(heard_by(true, all(), HELLO), Some(1), "the default name's paths hold for every name");
}

#[test]
fn unix_sockets_are_reached_by_path_and_by_abstract_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let name = format!("fallback test {}", std::process::id()).into_bytes();
    let abstract_address = UnixAddress::from_abstract_name(&name).unwrap();
    for (listener, dest) in [
        (UnixListener::bind(&path).unwrap(), Dest::Unix(path.clone().into())),
        (UnixListener::bind_addr(&abstract_address).unwrap(), Dest::Abstract(name.clone().into())),
    ] {
        let server = with(true, vec![to(dest)]);
        let client = Client::connect(&server);
        client.send(HELLO).unwrap();
        let (mut web, _) = listener.accept().unwrap();
        web.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = [0; HELLO.len()];
        web.read_exact(&mut heard).unwrap();
        assert_eq!(heard, HELLO);
        // More than a socket's buffer, so that both splicing and waiting are seen.
        let answer = vec![7; 3 << 20];
        let sender = thread::spawn(move || web.write_all(&answer).unwrap());
        assert_eq!(client.recv_to_end().unwrap(), vec![7; 3 << 20]);
        sender.join().unwrap();
        client.finish();
        server.closed_for(CloseReason::Finished);
    }
}

#[test]
fn silence_is_passed_on_after_its_time_so_that_the_web_server_may_speak_first() {
    for tls in [false, true] {
        let web = Web::start(b"220 hello");
        let timeouts = Timeouts { first_byte: Duration::from_millis(200), ..PATIENT };
        let fallbacks = vec![to_tcp(web.address)];
        let server = Server::start(Options { tls, timeouts, fallbacks, ..Options::default() });
        let client = Client::connect(&server);
        assert_eq!(client.take(9), b"220 hello");
        client.finish();
        assert_eq!(web.heard(), b"");
        server.closed_for(CloseReason::Finished);
    }
}

#[test]
fn a_fallback_that_is_down_is_a_bad_gateway_to_who_speaks_http_and_an_end_to_others() {
    let nobody = free_address();
    for dest in [to_tcp(nobody), to(Dest::Unix(std::path::Path::new("/nowhere/web.sock").into()))] {
        let head: &[u8] = b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let bad_gateway = "HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nDate: ";
        for (first, answer) in [(HELLO, bad_gateway), (head, bad_gateway), (b"\x01\x02", "")] {
            let server = with(true, vec![dest.clone()]);
            let client = Client::connect(&server);
            client.send(first).unwrap();
            let heard = String::from_utf8(client.recv_to_end().unwrap()).unwrap();
            assert!(heard.starts_with(answer) && heard.is_empty() == answer.is_empty(), "{heard}");
            if let Some((fields, body)) = heard.split_once("\r\n\r\n") {
                let date = fields.lines().nth(2).unwrap();
                assert!(date.len() == "Date: Sun, 06 Nov 1994 08:49:37 GMT".len() && date.ends_with(" GMT"), "{date}");
                // A page of its size goes to whoever asked for more than the head.
                assert!(fields.contains("Content-Length: 150\r\n"), "{heard}");
                assert_eq!(body.len(), if first == head { 0 } else { 150 }, "{heard}");
            }
            client.finish();
            server.closed_for(CloseReason::FallbackUnreachable);
        }
    }
}

#[test]
fn a_client_that_leaves_or_resets_takes_its_fallback_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = with(false, vec![to_tcp(listener.local_addr().unwrap())]);
    let client = Client::connect(&server);
    client.send(HELLO).unwrap();
    let mut web: TcpStream = bounded(listener.accept().unwrap().0);
    let mut heard = [0; HELLO.len()];
    web.read_exact(&mut heard).unwrap();
    client.reset();
    assert!(web.read(&mut heard).is_err(), "a reset is passed on as one");
    server.closed_for(CloseReason::ClientReset);
}

/// A site of one page that is so long as this.
fn site(bytes: usize) -> (tempfile::TempDir, Dest) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), vec![b'x'; bytes]).unwrap();
    let site = LoadedSite::serve(Content::load(folder.path()).unwrap()).unwrap();
    (folder, Dest::BuiltIn(BuiltIn(Arc::new(site))))
}

#[test]
fn the_built_in_site_answers_strangers_and_stays_open() {
    for tls in [false, true] {
        let (_folder, dest) = site(3 << 20);
        let server = with(tls, vec![to(dest)]);
        let client = Client::connect(&server);
        for _ in 0..3 {
            client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.extend(client.take(1));
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Connection: keep-alive\r\n"), "{head}");
            assert!(client.take(3 << 20).iter().all(|&byte| byte == b'x'));
        }
        client.send(b"HEAD /none HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").unwrap();
        let last = String::from_utf8(client.recv_to_end().unwrap()).unwrap();
        assert!(last.starts_with("HTTP/1.1 404 Not Found\r\n") && last.ends_with("\r\n\r\n"), "{last}");
        client.finish();
        server.closed_for(CloseReason::Finished);
    }
}

#[test]
fn garbage_a_replayed_request_and_silence_get_what_a_web_server_says_to_them() {
    let timeouts = Timeouts { first_byte: Duration::from_millis(200), ..PATIENT };
    for first in [&b"\0\x01\x02"[..], &request(&STRANGER, "192.0.2.1:443".parse().unwrap()), &[0xff; 300]] {
        let (_folder, dest) = site(10);
        let server = with(true, vec![to(dest)]);
        let client = Client::connect(&server);
        client.send(first).unwrap();
        let answer = String::from_utf8(client.recv_to_end().unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        client.finish();
        server.closed_for(CloseReason::Finished);
    }
    let (_folder, dest) = site(10);
    let server = Server::start(Options { tls: true, timeouts, fallbacks: vec![to(dest)], ..Options::default() });
    let client = Client::connect(&server);
    wait_until("silence is passed on", || server.totals().fallbacks_begun == 1);
    client.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(client.recv_to_end().unwrap().ends_with(b"xxxxxxxxxx"));
}

/// A stranger that takes nothing is cut.
#[test]
fn a_visitor_that_takes_nothing_is_cut() {
    let (_folder, dest) = site(12 << 20);
    let timeouts = Timeouts { write_stall: Duration::from_millis(500), ..PATIENT };
    let server = Server::start(Options { tls: true, timeouts, fallbacks: vec![to(dest)], ..Options::default() });
    let client = Client::connect(&server);
    client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    server.closed_for(CloseReason::WriteStall);
    assert!(server.totals().fallback_downlink_bytes < 12 << 20);
    drop(client);
}

/// However many take nothing, they hold the strangers' share and no more, and no user waits for memory.
#[test]
fn visitors_that_take_nothing_hold_no_memory_of_users() {
    const LIMIT_BYTES: u64 = 1 << 20;
    const VISITORS: usize = 40;
    let (_folder, dest) = site(12 << 20);
    let options = Options { buffer_memory_max: LIMIT_BYTES as usize, fallbacks: vec![to(dest)], ..Options::tls() };
    let (server, origin) = (Server::start(options), Origin::echo());
    let user = Client::open(&server, &ALICE, origin.address, b"!");
    user.take_response();
    let visitors: Vec<_> = (0..VISITORS)
        .map(|_| {
            let visitor = Client::connect(&server);
            visitor.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
            let held = server.totals().buffer_bytes_held;
            assert!(held <= LIMIT_BYTES / 2, "{held} bytes held");
            visitor
        })
        .collect();
    wait_until("all of them are passed on", || server.totals().fallbacks_begun == VISITORS as u64);
    wait_until("the oldest are cut", || server.closes(CloseReason::OpeningShed) > 0);
    wait_until("the others hold their share", || server.totals().buffer_bytes_held <= LIMIT_BYTES / 4);
    assert_eq!(user.take(1), b"!");
    let newcomer = Client::open(&server, &ALICE, origin.address, b"served");
    newcomer.take_response();
    assert_eq!(newcomer.take(6), b"served");
    assert_eq!(server.totals().buffer_waits, 0);
    drop((user, newcomer, visitors));
    server.wait_until_empty();
}

/// Visitors that stay keep no place of a user, whether they are passed on or were refused.
#[test]
fn visitors_at_the_session_limit_give_way_to_users() {
    let (_folder, dest) = site(10);
    for fallbacks in [vec![to(dest)], vec![]] {
        let is_passed_on = !fallbacks.is_empty();
        let server = Server::start(Options { sessions_max: 12, fallbacks, ..Options::default() });
        let origin = Origin::echo();
        let visitors: Vec<_> = (0..12)
            .map(|_| {
                let visitor = Client::connect(&server);
                visitor.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
                visitor
            })
            .collect();
        wait_until("all of them are known as strangers", || {
            server.reactor().sessions() == 12 && (!is_passed_on || server.totals().fallbacks_begun == 12)
        });
        assert_eq!(server.closes(CloseReason::OpeningShed), 0, "nobody is cut without want");
        let user = Client::open(&server, &ALICE, origin.address, b"hello");
        user.take_response();
        assert_eq!(user.take(5), b"hello");
        assert!(server.closes(CloseReason::OpeningShed) > 0);
        drop((user, visitors));
        server.wait_until_empty();
    }
}

#[test]
fn visitors_of_a_site_that_was_replaced_are_let_go() {
    let server = with(false, Vec::new());
    let handle = server.reactor().handle();
    let (_folder, dest) = site(10);
    let mut rules = server.rules.clone();
    rules.session.fallbacks = Arc::new(Fallbacks::new([to(dest)]));
    handle.adopt(&Arc::new(rules));
    let mut visitor = None;
    wait_until("the site is there", || {
        let client = Client::connect(&server);
        client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let is_there = client.recv(&mut [0; 15]).is_ok_and(|count| count > 0);
        visitor = Some(client);
        is_there
    });
    handle.adopt(&Arc::new(server.rules.clone()));
    let visitor = visitor.unwrap();
    // Long before the site would send away who is idle.
    visitor.set_read_timeout(Duration::from_secs(20));
    visitor.recv_to_end().unwrap();
}
