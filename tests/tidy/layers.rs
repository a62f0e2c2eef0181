//! Who may use whom, and what must not be named at all.

use crate::tree::{Module, Tree, module_path};

use crate::tokens::{Kind, Written};

/// What no wire format and no counter may know.
const OUTSIDE_WORLD: &[&str] = &[
    "mio",
    "rustls",
    "socket2",
    "rustix",
    "nix",
    "slab",
    "log",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::thread",
    "std::fs",
    "std::io",
    "std::sync",
];

/// What the client's protocol stack must not know.
const SOCKETS_AND_CLOCKS: &[&str] = &[
    "mio",
    "socket2",
    "rustix",
    "nix",
    "slab",
    "std::net",
    "std::thread",
    "std::fs",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
];

const RULES: &[Rule] = &[
    Rule { place: "protocol", may_use: &["protocol"], must_not_name: OUTSIDE_WORLD },
    Rule {
        place: "io::socket",
        may_use: &["io"],
        must_not_name: &["rustls", "slab", "log", "std::thread", "Instant", "SystemTime"],
    },
    Rule {
        // It tells its owner the address that a client connected to.
        place: "io::endpoint",
        may_use: &["io"],
        must_not_name: &["mio", "rustls", "socket2", "nix", "slab", "log", "std::thread", "Instant", "SystemTime"],
    },
    Rule {
        // Splicing is a matter of sockets and pipes.
        place: "io::splice",
        may_use: &["io"],
        must_not_name: &["rustls", "slab", "std::thread"],
    },
    Rule {
        // The poll carries tokens.
        place: "io::token",
        may_use: &["io"],
        must_not_name: &["rustls", "socket2", "slab", "log", "std::thread", "std::net"],
    },
    Rule { place: "io::sockopt", may_use: &["io"], must_not_name: &["rustls", "slab", "std::thread"] },
    Rule {
        // The kernel knows a connection by its two addresses.
        place: "io::sock_diag",
        may_use: &["io"],
        must_not_name: &["mio", "rustls", "slab", "log", "std::thread", "Instant"],
    },
    Rule {
        // Datagrams carry the address of their sender.
        place: "io::datagram",
        may_use: &["io"],
        must_not_name: &["rustls", "slab", "log", "std::thread"],
    },
    Rule {
        place: "io",
        may_use: &["io"],
        must_not_name: &["mio", "rustls", "socket2", "nix", "slab", "log", "std::thread", "std::net"],
    },
    Rule {
        // Letting a session in may wait for a lock; metering its bytes may not.
        place: "stats::gate",
        may_use: &["stats"],
        must_not_name: &[
            "mio",
            "rustls",
            "socket2",
            "rustix",
            "nix",
            "slab",
            "log",
            "Instant",
            "std::net",
            "std::thread",
        ],
    },
    Rule {
        // Looking a ledger up may wait for a lock; counting may not, and no other file of this kind may lock.
        place: "stats::ledger",
        may_use: &["stats"],
        must_not_name: &["mio", "rustls", "socket2", "rustix", "nix", "slab", "log", "std::net", "std::thread"],
    },
    Rule {
        place: "stats",
        may_use: &["stats"],
        must_not_name: &["mio", "rustls", "socket2", "rustix", "nix", "slab", "log", "Instant", "std::net", "Mutex"],
    },
    Rule {
        place: "inbound::tls::records",
        may_use: &["io::buf", "protocol::record", "inbound::tls"],
        must_not_name: SOCKETS_AND_CLOCKS,
    },
    Rule {
        place: "inbound::tls",
        may_use: &["io::buf", "protocol::record", "inbound"],
        must_not_name: SOCKETS_AND_CLOCKS,
    },
    Rule {
        // It compares addresses, as values.
        place: "inbound::fallback",
        may_use: &["protocol", "inbound"],
        must_not_name: &["mio", "rustls", "socket2", "rustix", "nix", "slab", "std::thread", "Instant", "TcpStream"],
    },
    Rule {
        // Of the machinery only memory, counts and random numbers: nothing that could reach a socket or a clock.
        place: "inbound",
        may_use: &["io::buf", "io::buffer_pool", "io::random", "io::tally", "protocol", "inbound", "stats"],
        must_not_name: &[
            "mio",
            "rustls",
            "socket2",
            "rustix",
            "nix",
            "slab",
            "log",
            "std::net",
            "std::thread",
            "std::fs",
            "Instant",
            "SystemTime",
            "TcpStream",
        ],
    },
    Rule {
        // Many sessions inside one, each with a place of its own.
        place: "session::mux",
        may_use: &["inbound", "io", "protocol", "stats", "session"],
        must_not_name: &[
            "mio",
            "rustls",
            "socket2",
            "rustix",
            "nix",
            "std::thread",
            "Instant::now",
            "TcpStream",
            "Mutex",
        ],
    },
    Rule {
        place: "session",
        may_use: &["inbound", "io", "protocol", "stats", "session"],
        must_not_name: &[
            "mio",
            "rustls",
            "socket2",
            "rustix",
            "nix",
            "slab",
            "std::thread",
            "std::fs",
            "Instant::now",
            "SystemTime",
            "TcpStream",
            "TcpListener",
            "Mutex",
        ],
    },
    Rule {
        // A worker has one judge, whom all its dials and datagram sockets hold and ask; it lends nothing to anybody.
        place: "outbound::policy::judge",
        may_use: &["outbound", "io::token"],
        must_not_name: &["rustls", "std::thread", "RefMut"],
    },
    Rule {
        place: "outbound",
        may_use: &["session", "io", "stats", "outbound"],
        must_not_name: &["rustls", "slab", "RefCell", "std::thread"],
    },
    Rule {
        place: "reactor",
        may_use: &["session", "outbound", "io", "stats", "reactor"],
        must_not_name: &["rustls", "slab", "RefCell"],
    },
    Rule {
        place: "site",
        may_use: &["protocol", "session", "site"],
        must_not_name: &["rustls", "RefCell", "TcpStream", "TcpListener"],
    },
    Rule {
        // The one place of the control plane that speaks to others, over TLS.
        place: "control::webhook",
        may_use: &["control", "stats"],
        must_not_name: &["slab"],
    },
    Rule {
        place: "control",
        may_use: &["control", "stats", "reactor::Handle", "reactor::handle"],
        must_not_name: &["rustls", "slab", "RefCell"],
    },
    Rule {
        // Decisions without socket and clock, but for the thread that speaks to the engine.
        place: "cluster",
        may_use: &["cluster", "stats"],
        must_not_name: &["mio", "rustls", "slab", "RefCell", "TcpStream", "SystemTime"],
    },
    Rule { place: "app", may_use: &["*"], must_not_name: &[] },
    Rule { place: "main", may_use: &["app"], must_not_name: &["mio", "rustls", "std::thread"] },
    // The list of layers.
    Rule { place: "", may_use: &[], must_not_name: &["std"] },
];

/// What a module and those inside it may use of this crate, and what they must not name.
///
/// The first rule whose `place` is the module or one around it holds.
struct Rule {
    place: &'static str,
    /// Modules, with all inside them, or single items.
    may_use: &'static [&'static str],
    /// A crate by its lower-case name, or a part of a path.
    must_not_name: &'static [&'static str],
}

#[test]
fn layers_import_only_downwards() {
    let tree = Tree::shipped();
    let found: Vec<_> = tree.modules.iter().flat_map(|module| violations(&tree, module)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn machinery_does_not_speak_of_protocols() {
    let tree = Tree::shipped();
    let found: Vec<_> = tree.modules.iter().flat_map(protocol_words).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn only_the_roster_tells_things_from_their_successors() {
    let tree = Tree::shipped();
    let found: Vec<_> = tree.modules.iter().flat_map(generation_words).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_rule_is_for_something() {
    // Those of a module that has gone would be forgotten, and those for modules to come are not tried by the tree.
    let idle = idle_rules(&Tree::shipped());
    assert!(idle.is_empty(), "{idle:?}");
}

/// Places whose rule no module has to obey.
fn idle_rules(tree: &Tree) -> Vec<&'static str> {
    let obeys = |rule: &Rule| tree.modules.iter().any(|module| std::ptr::eq(rule_of(module), rule));
    RULES.iter().filter(|rule| !obeys(rule)).map(|rule| rule.place).collect()
}

fn rule_of(module: &Module) -> &'static Rule {
    let name = module.name();
    RULES.iter().find(|rule| is_inside(rule.place, &name)).expect("the last rule fits all")
}

/// Whether `path` is `outer` or inside it.
fn is_inside(outer: &str, path: &str) -> bool {
    outer.is_empty() || path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn violations(tree: &Tree, module: &Module) -> Vec<String> {
    let rule = rule_of(module);
    let index = tree.modules.iter().position(|other| std::ptr::eq(other, module)).unwrap();
    let mut found = Vec::new();
    for written in module.written.iter().filter(|written| written.kind != Kind::Declared) {
        if let Some(target) = tree.target(index, written) {
            let target = target.join("::");
            let is_own = is_inside(&module.name(), &target) && !module.path.is_empty();
            let is_allowed = rule.may_use.iter().any(|&allowed| allowed == "*" || is_inside(allowed, &target));
            if !is_own && !is_allowed {
                found.push(format!("{}: uses crate::{target}", module.place));
            }
        } else {
            let named = rule.must_not_name.iter().filter(|name| names(written, name));
            found.extend(named.map(|name| format!("{}: names {name}", module.place)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Whether a path names this crate, or has these segments side by side.
fn names(written: &Written, name: &str) -> bool {
    let wanted: Vec<_> = name.split("::").collect();
    let is_crate = wanted.len() == 1 && name.starts_with(char::is_lowercase);
    if is_crate {
        // Alone, and not imported, the same word is somebody's variable.
        let is_path = written.segments.len() > 1 || matches!(written.kind, Kind::Imported { .. });
        return is_path && written.segments.first().is_some_and(|first| first == name);
    }
    // What `std` passes on of `core` has both names.
    let segments: Vec<_> =
        written.segments.iter().map(|name| if name == "core" { "std" } else { name.as_str() }).collect();
    segments.windows(wanted.len()).any(|segments| segments == wanted)
}

/// Identifiers of the machinery that speak of a protocol.
fn protocol_words(module: &Module) -> Vec<String> {
    const WORDS: [&str; 6] = ["vless", "vision", "xudp", "rustls", "tls", "uuid"];
    if !is_inside("io", &module.name()) {
        return Vec::new();
    }
    let words = module.code.iter().filter_map(|token| token.word());
    let wrong = words.filter(|word| word.to_lowercase().split('_').any(|part| WORDS.contains(&part)));
    wrong.map(|word| format!("{}: says {word}", module.place)).collect()
}

/// Words by which a module could compare generations itself. A session's name for people is made of its token.
fn generation_words(module: &Module) -> Vec<String> {
    let name = module.name();
    if ["io::roster", "io::token", "reactor::request"].contains(&name.as_str()) {
        return Vec::new();
    }
    let words = module.code.iter().filter_map(|token| token.word());
    let wrong = words.filter(|word| ["generation", "next_generation"].contains(word));
    wrong.map(|word| format!("{}: says {word}; a Roster compares generations", module.place)).collect()
}

mod planted {
    use super::*;

    /// What is found in one file beside those that the real tree has at the named places.
    fn found(place: &str, text: &str) -> Vec<String> {
        const OTHERS: [&str; 14] = [
            "lib.rs",
            "app/run.rs",
            "control.rs",
            "inbound.rs",
            "io/buf.rs",
            "io.rs",
            "io/socket.rs",
            "outbound.rs",
            "protocol.rs",
            "protocol/record.rs",
            "reactor.rs",
            "reactor/worker.rs",
            "session.rs",
            "stats.rs",
        ];
        let others = OTHERS.into_iter().filter(|other| module_path(other) != module_path(place));
        let mut files: Vec<_> = others.map(|other| (other.to_owned(), "")).collect();
        files.push((place.to_owned(), text));
        let tree = Tree::new(&files);
        let module = tree.modules.iter().find(|module| module.place == place);
        module.map_or(Vec::new(), |module| {
            [violations(&tree, module), protocol_words(module), generation_words(module)].concat()
        })
    }

    #[test]
    fn an_import_that_goes_up() {
        assert_eq!(found("io/buf.rs", "use crate::protocol::record;\n"), ["io/buf.rs: uses crate::protocol::record"]);
        assert_eq!(found("session.rs", "fn f() { crate::reactor::inbox::f() }\n").len(), 1);
        assert_eq!(found("inbound.rs", "use crate::io::socket::Socket;\n").len(), 1);
        assert_eq!(found("stats.rs", "use crate::session::close::CloseReason;\n").len(), 1);
        assert_eq!(found("outbound/udp.rs", "use crate::reactor::worker::Worker;\n").len(), 1);
        assert_eq!(found("outbound/udp.rs", "use crate::protocol::record;\n").len(), 1);
        assert_eq!(found("reactor/worker.rs", "use crate::inbound::tls::TlsAcceptor;\n").len(), 1);
        assert_eq!(found("main.rs", "use crate::reactor::Handle;\n").len(), 1);
    }

    #[test]
    fn a_generation_that_is_compared_by_hand() {
        let text = "fn f(a: Token, b: &B) -> bool { b.generation == a.generation() }\n";
        assert_eq!(found("outbound/dial.rs", text).len(), 2);
        assert_eq!(found("io/roster.rs", text).len(), 0);
        assert_eq!(found("outbound/dial.rs", "use slab::Slab;\n"), ["outbound/dial.rs: names slab"]);
    }

    #[test]
    fn a_rule_for_a_module_that_has_gone() {
        let files = ["lib.rs", "stats.rs", "stats/ledger.rs"].map(|place| (place.to_owned(), ""));
        let idle = idle_rules(&Tree::new(&files));
        assert!(
            idle.contains(&"stats::gate") && !idle.contains(&"stats") && !idle.contains(&"stats::ledger"),
            "{idle:?}"
        );
    }

    #[test]
    fn an_import_of_a_folder_without_a_rule_of_its_own() {
        assert_eq!(found("stats/pools.rs", "use crate::session::Session;\n").len(), 1);
        assert_eq!(found("stats/ledger.rs", "use crate::io::buf::Buf;\n").len(), 1);
        assert_eq!(found("helpers.rs", "use crate::io::buf::Buf;\n").len(), 1);
    }

    #[test]
    fn an_import_by_way_of_the_module_above() {
        assert_eq!(found("io/buf.rs", "use super::super::protocol::record;\n").len(), 1);
        assert_eq!(found("session/mux/obey.rs", "fn f() { super::super::super::reactor::f() }\n").len(), 1);
        assert_eq!(found("session/mux/obey.rs", "mod inner { use super::super::super::super::reactor; }\n").len(), 1);
        assert_eq!(found("inbound.rs", "use super::io::socket::Socket;\n").len(), 1);
        assert_eq!(found("session/mux/obey.rs", "use super::super::close::CloseReason;\n").len(), 0);
    }

    #[test]
    fn an_import_in_braces() {
        assert_eq!(found("inbound.rs", "use crate::{io::{buf::Buf, socket::Socket}, protocol};\n").len(), 1);
        assert_eq!(found("io/buf.rs", "use crate::{\n    io::tally,\n    session::Session,\n};\n").len(), 1);
        assert_eq!(found("protocol/record.rs", "use std::{net::{TcpStream, IpAddr}, thread as t};\n").len(), 2);
    }

    #[test]
    fn an_import_behind_the_first_tests() {
        let text = "#[cfg(test)]\nmod tests;\n\nfn f() { crate::reactor::f() }\n";
        assert_eq!(found("outbound.rs", text).len(), 1);
        let text = "struct A {\n    #[cfg(test)]\n    seen: Vec<(u8, u8)>,\n    b: std::thread::Thread,\n}\n";
        assert_eq!(found("session.rs", text), ["session.rs: names std::thread"]);
        let text = "#[cfg(test)]\n#[derive(Debug)]\nstruct A<B, C> { b: [u8; 3] }\nuse crate::app::run;\n";
        assert_eq!(found("session.rs", text).len(), 1);
        let text = "#[cfg(all(not(test), unix))]\nfn f() { crate::app::f() }\n";
        assert_eq!(found("session.rs", text).len(), 1);
    }

    #[test]
    fn a_name_that_a_layer_must_not_know() {
        assert_eq!(found("protocol/record.rs", "use std::time::Instant;\n"), ["protocol/record.rs: names Instant"]);
        assert_eq!(found("protocol/record.rs", "fn f() { log::warn!(); }\n").len(), 1);
        assert_eq!(found("session.rs", "fn f() { let now = Instant::now(); }\n").len(), 1);
        assert_eq!(found("session.rs", "use mio::net::TcpStream;\n").len(), 2);
        assert_eq!(found("io/buf.rs", "use mio::Token;\n").len(), 1);
        assert_eq!(found("inbound.rs", "use rustls as r;\n").len(), 1);
        assert_eq!(found("inbound.rs", "use core::net::IpAddr;\n"), ["inbound.rs: names std::net"]);
        assert_eq!(found("reactor/worker.rs", "use rustls::ServerConfig;\n").len(), 1);
        assert_eq!(found("stats/pools.rs", "use std::sync::Mutex;\n").len(), 1);
        assert_eq!(found("outbound/dial.rs", "struct A(Rc<RefCell<u8>>);\n").len(), 1);
        assert_eq!(found("io/buf.rs", "fn vless_header() {}\n"), ["io/buf.rs: says vless_header"]);
    }

    #[test]
    fn what_the_control_plane_must_not_see() {
        assert_eq!(found("control/api.rs", "use crate::session::Session;\n").len(), 1);
        assert_eq!(found("control/api.rs", "use crate::reactor::worker::Worker;\n").len(), 1);
        assert_eq!(found("control/feed.rs", "use rustls::ClientConfig;\n").len(), 1);
        assert_eq!(found("control/webhook.rs", "use rustls::ClientConfig;\n").len(), 0);
        let usual = "use mio::Poll;\nuse httparse::Request;\nuse tungstenite::WebSocket;\nuse tiny_http::Response;\n\
                     use crate::reactor::Handle;\nuse crate::stats::Totals;\nuse crate::control::feed;\n";
        assert_eq!(found("control.rs", usual).len(), 0);
    }

    #[test]
    fn nothing_where_all_is_allowed() {
        let session = "use std::time::Instant;\nuse crate::io::buf::Buf;\nuse crate::inbound::{Inbound, Step};\n";
        assert_eq!(found("session.rs", session).len(), 0);
        assert_eq!(found("inbound/tls.rs", "use rustls::ServerConfig;\nuse crate::io::buf::Buf;\n").len(), 0);
        assert_eq!(found("reactor/worker.rs", "use mio::Poll;\nuse crate::session::Session;\n").len(), 0);
        assert_eq!(found("app.rs", "use rustls::ServerConfig;\nuse crate::reactor::Reactor;\n").len(), 0);
    }

    #[test]
    fn nothing_in_comments_texts_and_tests() {
        let text = "//! No mio::Poll here.\nlet a = \"crate::reactor\"; // crate::app\n/* crate::app /* crate::app */ */\n\
                    let b = r#\"\" crate::app\"#; let c = '\"'; fn f<'a>(a: &'a str) {}\n\
                    #[cfg(test)]\nuse crate::reactor;\n#[cfg(all(test, unix))]\nfn f() { crate::app::f() }\n";
        assert_eq!(found("io/buf.rs", text).len(), 0);
        assert_eq!(found("protocol/record.rs", "let logged = self.log; let catalog = 1; self.log.len();\n").len(), 0);
    }
}
