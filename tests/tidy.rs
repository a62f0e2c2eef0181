//! The guard: rules of the house that no reviewer should have to argue about, checked on the source itself.
//!
//! Layers import only downwards, what must not be known is not named, every close reason is produced by a test, an
//! ignored test says why, files say what they own and do not grow without somebody noticing.

use std::fs;
use std::path::{Path, PathBuf};

use vless_rust::session::close::CloseReason;

/// What the files of a folder (or one file) may use of this crate, and what they must not name at all.
///
/// The first rule whose `place` is a prefix of the path (from `src/`) holds.
struct Rule {
    place: &'static str,
    may_use: &'static [&'static str],
    must_not_name: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        place: "protocol/",
        may_use: &["protocol"],
        must_not_name: &[
            "mio",
            "rustls",
            "socket2",
            "rustix",
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
        ],
    },
    Rule {
        place: "io/socket.rs",
        may_use: &["io"],
        must_not_name: &["rustls", "slab", "log", "std::thread", "Instant", "vless", "VLESS", "tls", "TLS", "vision"],
    },
    Rule {
        // Splicing is a matter of sockets and pipes.
        place: "io/splice.rs",
        may_use: &["io"],
        must_not_name: &["rustls", "slab", "std::thread", "vless", "VLESS", "Vision"],
    },
    Rule {
        // The poll carries tokens.
        place: "io/token.rs",
        may_use: &["io"],
        must_not_name: &["rustls", "socket2", "slab", "log", "std::thread", "std::net", "vless", "VLESS"],
    },
    Rule {
        place: "io/sockopt.rs",
        may_use: &["io"],
        must_not_name: &["rustls", "slab", "std::thread", "vless", "VLESS", "Vision"],
    },
    Rule {
        // Datagrams carry the address of their sender.
        place: "io/datagram.rs",
        may_use: &["io"],
        must_not_name: &["rustls", "slab", "log", "std::thread", "vless", "VLESS", "Vision"],
    },
    Rule {
        place: "io/",
        may_use: &["io"],
        must_not_name: &["mio", "rustls", "socket2", "slab", "log", "std::thread", "std::net", "vless", "VLESS"],
    },
    Rule {
        place: "stats.rs",
        may_use: &["stats"],
        must_not_name: &["mio", "rustls", "socket2", "rustix", "slab", "log", "Instant", "std::net", "Mutex"],
    },
    Rule {
        place: "inbound/tls.rs",
        may_use: &["io::buf", "protocol::record", "inbound"],
        must_not_name: &["mio", "socket2", "rustix", "slab", "std::net", "std::thread", "Instant", "TcpStream"],
    },
    Rule {
        place: "inbound/tls/records.rs",
        may_use: &["io::buf", "protocol::record", "inbound::tls"],
        must_not_name: &["mio", "socket2", "rustix", "slab", "std::net", "std::thread", "Instant", "TcpStream"],
    },
    Rule {
        place: "inbound/",
        // Of the machinery only memory, counts and random numbers: nothing that could reach a socket or a clock.
        may_use: &["io::buf", "io::buffer_pool", "io::random", "io::tally", "protocol", "inbound", "stats"],
        must_not_name: &[
            "mio",
            "rustls",
            "socket2",
            "rustix",
            "slab",
            "log",
            "std::net",
            "std::thread",
            "Instant",
            "TcpStream",
        ],
    },
    Rule {
        // Many sessions inside one, each with a place of its own.
        place: "session/mux.rs",
        may_use: &["inbound", "io", "protocol", "stats", "session"],
        must_not_name: &["mio", "rustls", "socket2", "rustix", "std::thread", "Instant::now", "TcpStream", "Mutex"],
    },
    Rule {
        place: "session/",
        may_use: &["inbound", "io", "protocol", "stats", "session"],
        must_not_name: &[
            "mio",
            "rustls",
            "socket2",
            "rustix",
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
        place: "outbound/",
        may_use: &["session", "io", "stats", "outbound"],
        must_not_name: &["rustls", "protocol::", "inbound::", "reactor::", "Rc<RefCell"],
    },
    Rule {
        place: "reactor/",
        may_use: &["session", "outbound", "io", "stats", "reactor"],
        must_not_name: &["rustls", "protocol::", "inbound::", "Rc<RefCell"],
    },
    Rule { place: "control/", may_use: &["stats", "reactor::inbox", "control"], must_not_name: &["mio", "rustls"] },
    Rule { place: "", may_use: &["*"], must_not_name: &[] },
];

/// Files may have so many lines, tests included; those below may have more, and say why.
const LINES_MAX: usize = 450;
const LONG_FILES: &[(&str, usize, &str)] = &[
    ("session/transfer.rs", 600, "one direction, buffered and spliced, in one loop"),
    ("outbound/dial/mod.rs", 550, "a dial from its target to its end"),
    ("reactor/worker.rs", 550, "the loop with everything a worker owns"),
    ("inbound/tls/tests.rs", 600, "the cases of one engine"),
];

/// Reasons that no test can produce, because they would be bugs.
const UNREACHABLE_REASONS: &[CloseReason] = &[CloseReason::Internal];

#[test]
fn layers_import_only_downwards() {
    assert_none(sources("src").iter().flat_map(|(path, text)| layer_violations(&inside_src(path), text)));
}

#[test]
fn every_source_file_says_what_it_owns() {
    let shipped = sources("src").into_iter().filter(|(path, _)| !is_test_file(&inside_src(path)));
    let silent = shipped.filter(|(_, text)| !text.starts_with("//!"));
    assert_none(silent.map(|(path, _)| format!("{}: no //! at the top", path.display())));
}

#[test]
fn every_close_reason_is_produced_by_a_test() {
    let tests: String = sources("tests").into_iter().filter(|(path, _)| !is_this_file(path)).map(|(_, t)| t).collect();
    assert_none(reasons_not_named(&tests).into_iter());
}

#[test]
fn ignored_tests_say_why() {
    let all = [sources("src"), sources("tests"), sources("benches")].concat();
    let bare = all.iter().filter(|(path, _)| !is_this_file(path)).flat_map(|(path, text)| bare_ignores(path, text));
    assert_none(bare);
}

#[test]
fn no_file_grows_without_being_listed() {
    let long = sources("src").into_iter().filter_map(|(path, text)| too_long(&inside_src(&path), text.lines().count()));
    assert_none(long);
}

#[test]
fn listed_files_exist_and_are_long() {
    for (place, _, why) in LONG_FILES {
        let lines = fs::read_to_string(root().join("src").join(place)).map(|text| text.lines().count());
        assert!(lines.is_ok_and(|lines| lines > LINES_MAX), "{place} needs no exception ({why})");
    }
}

#[test]
fn unsafe_code_is_forbidden() {
    for file in ["src/lib.rs", "src/main.rs"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(text.lines().any(|line| line == "#![forbid(unsafe_code)]"), "{file}");
    }
}

fn layer_violations(place: &str, text: &str) -> Vec<String> {
    if is_test_file(place) {
        return Vec::new();
    }
    let code = shipped_code(text);
    let rule = RULES.iter().find(|rule| place.starts_with(rule.place)).expect("the last rule fits all");
    let mut found = Vec::new();
    for used in crate_paths(&code) {
        let allowed = rule.may_use.iter().any(|&allowed| allowed == "*" || is_path_prefix(allowed, &used));
        if !allowed {
            found.push(format!("{place}: uses crate::{used}"));
        }
    }
    for name in rule.must_not_name {
        if names(&code, name) {
            found.push(format!("{place}: names {name}"));
        }
    }
    found
}

/// `x/tests.rs` and `x_tests.rs`, and what stands in folders of such names.
fn is_test_file(place: &str) -> bool {
    let names = place.split('/').map(|name| name.trim_end_matches(".rs"));
    names.into_iter().any(|name| name == "tests" || name == "testing" || name.ends_with("_tests"))
}

/// The code without comments, without string literals and without its tests at the bottom.
fn shipped_code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        code.push_str(&without_comment_and_strings(line));
        code.push('\n');
    }
    code
}

fn without_comment_and_strings(line: &str) -> String {
    let mut kept = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_string => {
                chars.next();
            }
            '"' => in_string = !in_string,
            _ if in_string => {}
            '/' if chars.peek() == Some(&'/') => break,
            _ => kept.push(char),
        }
    }
    kept
}

/// All paths below `crate::` that are used, with nested braces spelled out.
fn crate_paths(code: &str) -> Vec<String> {
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
        .flat_map(|(at, found)| spell_out(&code[at + found.len()..]))
        .collect()
}

fn spell_out(rest: &str) -> Vec<String> {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
    let (path, behind) = rest.split_at(end);
    let Some(inside) = behind.strip_prefix('{') else { return vec![path.trim_end_matches(':').to_owned()] };
    let mut found = Vec::new();
    let (mut depth, mut part) = (0, String::new());
    for char in inside.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                if !part.trim().is_empty() {
                    found.extend(spell_out(part.trim()).into_iter().map(|one| format!("{path}{one}")));
                }
                part.clear();
                if char == '}' {
                    break;
                }
                continue;
            }
            _ => {}
        }
        part.push(char);
    }
    found
}

fn is_path_prefix(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether `name` stands in `code` as a word of its own (`log` is not in `logged_at` nor in `self.log`).
fn names(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let starts = !before.ends_with(|c| is_word(c) || c == '.') && !is_part_of_crate_path(before);
        starts && (name.ends_with(':') || !after.starts_with(is_word)) && !is_field_or_local(name, after)
    })
}

/// `crate::io::..` is not the library `io`; those paths are judged by themselves.
fn is_part_of_crate_path(before: &str) -> bool {
    before.ends_with("crate::")
}

/// A crate is only named in front of `::`; in other places the same word is somebody's variable.
fn is_field_or_local(name: &str, after: &str) -> bool {
    let is_crate = name.chars().all(|c| c.is_lowercase() || c.is_numeric() || c == '_');
    is_crate && !after.starts_with("::")
}

fn reasons_not_named(tests: &str) -> Vec<String> {
    let reasons = CloseReason::ALL.iter().filter(|reason| !UNREACHABLE_REASONS.contains(reason));
    reasons.map(|reason| format!("CloseReason::{reason:?}")).filter(|name| !names(tests, name)).collect()
}

fn bare_ignores(path: &Path, text: &str) -> Vec<String> {
    let bare = text.lines().enumerate().filter(|(_, line)| line.trim().starts_with("#[ignore]"));
    bare.map(|(number, _)| format!("{}:{}: #[ignore] without a reason", path.display(), number + 1)).collect()
}

fn too_long(place: &str, lines: usize) -> Option<String> {
    let listed = LONG_FILES.iter().find(|(file, _, _)| *file == place);
    let allowed = listed.map_or(LINES_MAX, |&(_, lines, _)| lines);
    (lines > allowed).then(|| format!("{place}: {lines} lines, {allowed} allowed: what second thing does it do?"))
}

/// All Rust files below a folder of the package, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn inside_src(path: &Path) -> String {
    path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned()
}

fn is_this_file(path: &Path) -> bool {
    path.ends_with("tests/tidy.rs")
}

#[track_caller]
fn assert_none(found: impl Iterator<Item = String>) {
    let found: Vec<_> = found.collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

mod the_guard_itself {
    use super::*;

    fn violations(place: &str, text: &str) -> usize {
        layer_violations(place, text).len()
    }

    #[test]
    fn finds_an_import_that_goes_up() {
        assert_eq!(violations("io/buf.rs", "use crate::protocol::record;\n"), 1);
        assert_eq!(violations("session/mod.rs", "fn f() { crate::reactor::inbox::f() }\n"), 1);
        assert_eq!(violations("inbound/mod.rs", "use crate::io::socket::Socket;\n"), 1);
        assert_eq!(violations("stats.rs", "use crate::session::close::CloseReason;\n"), 1);
    }

    #[test]
    fn finds_it_in_braces_too() {
        assert_eq!(violations("inbound/mod.rs", "use crate::{io::{buf::Buf, socket::Socket}, protocol};\n"), 1);
        assert_eq!(violations("io/buf.rs", "use crate::{\n    io::tally,\n    session::Session,\n};\n"), 1);
    }

    #[test]
    fn finds_what_must_not_be_named() {
        assert_eq!(violations("protocol/record.rs", "use std::time::Instant;\n"), 1);
        assert_eq!(violations("protocol/record.rs", "fn f() { log::warn!(); }\n"), 1);
        assert_eq!(violations("session/mod.rs", "fn f() { let now = Instant::now(); }\n"), 1);
        assert_eq!(violations("session/mod.rs", "use mio::net::TcpStream;\n"), 2);
        assert_eq!(violations("io/buf.rs", "use mio::Token;\n"), 1);
        assert_eq!(violations("inbound/mod.rs", "use rustls::ServerConfig;\n"), 1);
        assert_eq!(violations("reactor/worker.rs", "use rustls::ServerConfig;\n"), 1);
        assert_eq!(violations("reactor/worker.rs", "use crate::inbound::tls::TlsAcceptor;\n"), 1);
    }

    #[test]
    fn passes_what_is_allowed() {
        let session = "use std::time::Instant;\nuse crate::io::buf::Buf;\nuse crate::inbound::{Inbound, Step};\n";
        assert_eq!(violations("session/mod.rs", session), 0);
        assert_eq!(violations("inbound/tls.rs", "use rustls::ServerConfig;\nuse crate::io::buf::Buf;\n"), 0);
        assert_eq!(violations("reactor/worker.rs", "use mio::Poll;\nuse crate::session::Session;\n"), 0);
        assert_eq!(violations("app/mod.rs", "use rustls::ServerConfig;\nuse crate::reactor::Reactor;\n"), 0);
    }

    #[test]
    fn words_in_comments_strings_and_tests_do_not_count() {
        let text = "//! No mio here.\nlet a = \"crate::reactor\"; // crate::app\n#[cfg(test)]\nuse crate::reactor;\n";
        assert_eq!(violations("io/buf.rs", text), 0);
        assert_eq!(violations("inbound/tls/tests/memory.rs", "use rustls::ClientConfig;\n"), 0);
        assert_eq!(violations("inbound/tls/testament.rs", "use rustls::ClientConfig;\n"), 1);
        assert_eq!(violations("protocol/record.rs", "let logged = self.log; let catalog = 1;\n"), 0);
    }

    #[test]
    fn finds_a_reason_that_no_test_produces() {
        let without = CloseReason::ALL.iter().filter(|&&reason| reason != CloseReason::Idle);
        let text = without.map(|reason| format!("CloseReason::{reason:?}")).collect::<Vec<_>>().join("; ");
        assert_eq!(reasons_not_named(&text), ["CloseReason::Idle"]);
        assert_eq!(reasons_not_named(&(text + " CloseReason::IdleNot")), ["CloseReason::Idle"]);
    }

    #[test]
    fn finds_an_ignored_test_without_a_reason() {
        let path = Path::new("tests/some.rs");
        assert_eq!(bare_ignores(path, "#[test]\n    #[ignore]\nfn f() {}\n").len(), 1);
        assert_eq!(bare_ignores(path, "#[ignore = \"needs a network\"]\n").len(), 0);
    }

    #[test]
    fn finds_a_file_that_has_grown() {
        assert!(too_long("io/buf.rs", LINES_MAX).is_none());
        assert!(too_long("io/buf.rs", LINES_MAX + 1).is_some());
        let (listed, lines_max, _) = LONG_FILES[0];
        assert!(too_long(listed, LINES_MAX + 1).is_none());
        assert!(too_long(listed, lines_max + 1).is_some());
    }
}
