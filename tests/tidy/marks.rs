//! What a file must say, and how long it may be.

use std::fs;

use vless_rust::session::close::CloseReason;

use crate::tokens::{Token, split, tokens};
use crate::tree::{Tree, inside_src, root, sources};

/// Files may have so many lines, tests included, and files of nothing but tests some more.
const LINES_MAX: usize = 400;
const TEST_LINES_MAX: usize = 600;

/// Those that may have more, how many, and why.
const LONG_FILES: &[Listed] = &[];

/// Reasons that no test can produce, because they would be bugs.
const UNREACHABLE_REASONS: &[CloseReason] = &[CloseReason::Internal];

/// Modules on whose input nobody has any say, so that nothing there may stop the process.
const PANIC_FREE: &[&str] = &["inbound.rs", "io.rs", "protocol.rs", "session.rs"];

/// Lints that find what could panic.
const PANIC_LINTS: [&str; 4] = ["indexing_slicing", "unwrap_used", "expect_used", "panic"];

/// Where one of them is set aside for a module inside, with the reason beside it.
const SET_ASIDE: &[&str] = &["io.rs"];

type Listed = (&'static str, usize, &'static str);

#[test]
fn every_source_file_says_what_it_owns() {
    let tree = Tree::shipped();
    let is_shipped = |place: &str| tree.modules.iter().any(|module| module.place == place);
    let all = [sources("src"), sources("tests"), sources("benches")].concat();
    let silent = all.into_iter().filter(|(_, text)| is_silent(text));
    let silent = silent.map(|(path, _)| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
    let silent: Vec<_> =
        silent.filter(|path| path.strip_prefix("src/").is_some_and(is_shipped) || !path.starts_with("src/")).collect();
    assert!(silent.is_empty(), "no //! at the top: {silent:#?}");
}

#[test]
fn every_close_reason_is_named_in_a_test() {
    let own = root().join("tests/tidy");
    let tests: String =
        sources("tests").into_iter().filter(|(path, _)| !path.starts_with(&own)).map(|(_, text)| text).collect();
    let missing = reasons_not_named(&tests);
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn ignored_tests_say_why() {
    let all = [sources("src"), sources("tests"), sources("benches")].concat();
    let bare: Vec<_> = all.iter().filter(|(_, text)| bare_ignores(text) > 0).map(|(path, _)| path).collect();
    assert!(bare.is_empty(), "#[ignore] without a reason: {bare:?}");
}

#[test]
fn no_file_grows_without_being_listed() {
    let tree = Tree::shipped();
    let ships = |place: &str| tree.modules.iter().any(|module| module.place == place);
    let of_the_crate = sources("src").into_iter().filter_map(|(path, text)| {
        let place = inside_src(&path);
        let lines_max = if ships(&place) { LINES_MAX } else { TEST_LINES_MAX };
        too_long(&place, text.lines().count(), lines_max, LONG_FILES)
    });
    let others = [sources("tests"), sources("benches")].concat().into_iter().filter_map(|(path, text)| {
        let place = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        too_long(&place, text.lines().count(), TEST_LINES_MAX, &[])
    });
    let long: Vec<_> = of_the_crate.chain(others).collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
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
        assert!(forbids_unsafe_code(&text), "{file}");
    }
}

#[test]
fn modules_that_read_what_strangers_send_deny_panics() {
    for place in PANIC_FREE {
        let text = fs::read_to_string(root().join("src").join(place)).unwrap();
        let missing = lints_not_denied(&text);
        assert!(missing.is_empty(), "src/{place} denies no {missing:?}");
    }
}

#[test]
fn nobody_inside_of_them_permits_panics() {
    let is_inside = |place: &str| PANIC_FREE.iter().any(|root| place.starts_with(&root.replace(".rs", "/")));
    let concerned = |place: &str| is_inside(place) || PANIC_FREE.contains(&place);
    let tree = Tree::shipped();
    let permits = tree.modules.iter().filter(|module| concerned(&module.place) && permits_panics(&module.code));
    let places: Vec<_> = permits.map(|module| module.place.as_str()).collect();
    assert_eq!(places, SET_ASIDE);
}

/// Reasons that `tests` does not name.
fn reasons_not_named(tests: &str) -> Vec<CloseReason> {
    let words = tokens(tests);
    let named: Vec<_> = words
        .windows(3)
        .filter(|words| words[0].is("CloseReason") && words[1] == Token::Separator)
        .filter_map(|words| words[2].word())
        .collect();
    let reasons = CloseReason::ALL.iter().filter(|reason| !UNREACHABLE_REASONS.contains(reason));
    reasons.filter(|reason| !named.contains(&format!("{reason:?}").as_str())).copied().collect()
}

/// The file does not begin with a word about itself.
fn is_silent(text: &str) -> bool {
    text.strip_prefix("//!").and_then(|rest| rest.lines().next()).is_none_or(|line| line.trim().is_empty())
}

/// The root of a crate lets nobody inside it write unsafe code.
fn forbids_unsafe_code(text: &str) -> bool {
    let words = tokens(text);
    let forbids = |at: usize| {
        let inside: Vec<_> = words[at..].iter().take_while(|word| !word.is_sign(']')).collect();
        inside.get(3).is_some_and(|word| word.is("forbid")) && inside.iter().any(|word| word.is("unsafe_code"))
    };
    (0..words.len())
        .any(|at| words[at].is_sign('#') && words.get(at + 1).is_some_and(|next| next.is_sign('!')) && forbids(at))
}

/// How many tests are ignored without a word.
fn bare_ignores(text: &str) -> usize {
    let words = tokens(text);
    words.windows(3).filter(|words| words[0].is_sign('[') && words[1].is("ignore") && words[2].is_sign(']')).count()
}

fn too_long(place: &str, lines: usize, lines_max: usize, listed: &[Listed]) -> Option<String> {
    let own = listed.iter().find(|(file, _, _)| *file == place);
    let allowed = own.map_or(lines_max, |&(_, lines, _)| lines);
    (lines > allowed).then(|| format!("{place}: {lines} lines, {allowed} allowed: what second thing does it do?"))
}

/// Of the lints that find what could panic, those that a module does not deny for all inside it.
fn lints_not_denied(text: &str) -> Vec<&'static str> {
    let shipped = split(&tokens(text)).shipped;
    let denials = shipped.windows(4).enumerate().filter(|(_, words)| {
        words[0].is_sign('#') && words[1].is_sign('!') && words[2].is_sign('[') && words[3].is("deny")
    });
    let denied: Vec<_> = denials
        .flat_map(|(at, _)| shipped[at + 4..].iter().take_while(|token| !token.is_sign(']')))
        .filter_map(Token::word)
        .collect();
    PANIC_LINTS.into_iter().filter(|lint| !denied.contains(lint)).collect()
}

/// An attribute sets one of the lints aside that find what could panic.
fn permits_panics(code: &[Token]) -> bool {
    code.windows(2).enumerate().any(|(at, words)| {
        let sets_aside = ["allow", "expect", "warn"].iter().any(|level| words[0].is(level)) && words[1].is_sign('(');
        let mut inside = code[at + 1..].iter().take_while(|token| !token.is_sign(')')).filter_map(Token::word);
        sets_aside && inside.any(|word| PANIC_LINTS.contains(&word))
    })
}

mod planted {
    use super::*;

    #[test]
    fn a_reason_that_no_test_names() {
        let without = CloseReason::ALL.iter().filter(|&&reason| reason != CloseReason::Idle);
        let text = without.map(|reason| format!("CloseReason::{reason:?}")).collect::<Vec<_>>().join("; ");
        assert_eq!(reasons_not_named(&text), [CloseReason::Idle]);
        assert_eq!(reasons_not_named(&(text.clone() + " CloseReason::IdleNot")), [CloseReason::Idle]);
        assert_eq!(reasons_not_named(&(text + " // CloseReason::Idle")), [CloseReason::Idle]);
    }

    #[test]
    fn a_file_that_says_nothing() {
        assert!(is_silent("use std::fs;\n//! Late.\n") && is_silent("//!\n//! Not at once.\n") && is_silent(""));
        assert!(!is_silent("//! What it owns.\nuse std::fs;\n"));
    }

    #[test]
    fn a_crate_that_allows_unsafe_code() {
        assert!(forbids_unsafe_code("//! A crate.\n#![forbid(unsafe_code)]\npub mod a;\n"));
        for text in ["", "// #![forbid(unsafe_code)]\n", "#![deny(unsafe_code)]\n", "#[forbid(unsafe_code)]\nmod a;\n"]
        {
            assert!(!forbids_unsafe_code(text), "{text}");
        }
    }

    #[test]
    fn an_ignored_test_without_a_reason() {
        assert_eq!(bare_ignores("#[test]\n    #[ignore]\nfn f() {}\n"), 1);
        assert_eq!(bare_ignores("#[ignore = \"needs a network\"]\n"), 0);
        assert_eq!(bare_ignores("//! Never #[ignore].\nlet a = \"#[ignore]\";\n"), 0);
    }

    #[test]
    fn a_file_that_has_grown() {
        let listed = [("io/long.rs", 500, "one table")];
        let is_too_long = |place, lines| too_long(place, lines, 400, &listed).is_some();
        assert_eq!(
            [("io/buf.rs", 400), ("io/long.rs", 500)].map(|(place, lines)| is_too_long(place, lines)),
            [false; 2]
        );
        assert_eq!(
            [("io/buf.rs", 401), ("io/long.rs", 501)].map(|(place, lines)| is_too_long(place, lines)),
            [true; 2]
        );
    }

    #[test]
    fn a_module_that_may_panic() {
        assert_eq!(
            lints_not_denied("#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]\n"),
            ["indexing_slicing"]
        );
        assert_eq!(lints_not_denied("// #![deny(clippy::unwrap_used)]\n").len(), 4);
    }

    #[test]
    fn a_part_of_one_that_may_panic() {
        let permits = |text: &str| permits_panics(&tokens(text));
        assert!(permits("#![allow(clippy::unwrap_used)]\nuse std::fs;\n"));
        assert!(permits("#[expect(clippy::todo, clippy::panic, reason = \"never\")]\nfn f() {}\n"));
        assert!(permits("#[cfg_attr(unix, warn(clippy::indexing_slicing))]\nfn f() {}\n"));
        assert!(!permits(
            "#![deny(clippy::panic)]\n#[expect(clippy::too_many_lines)]\nfn f() { a.expect(\"panic\") }\n"
        ));
    }
}
