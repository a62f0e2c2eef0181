//! Where things stand: the file of a module, its constants and its tests each have one place.
//!
//! The parts of `x.rs` are in the folder `x/`. Constants stand above all else that a file declares, and tests below it: in
//! the file itself, or in `x/tests.rs`.

use std::path::Path;

use crate::tokens::{Token, attribute_len, bracket_len, is_for_tests, item_len, tokens};
use crate::tree::{root, sources};

#[test]
fn a_module_has_one_place_for_its_file_its_constants_and_its_tests() {
    let all = [sources("src"), sources("tests"), sources("benches")].concat();
    let found: Vec<_> = all.iter().flat_map(|(path, text)| misplaced(&place(path), text)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A path from the root of the package, with slashes.
fn place(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// What does not stand where it belongs in a file.
fn misplaced(place: &str, text: &str) -> Vec<String> {
    let items = items(&tokens(text));
    let shipped = place.starts_with("src/");
    let mut found = Vec::new();
    // A folder that tests share is no test of its own; Cargo tells that by the name of its file.
    if shipped && place.ends_with("/mod.rs") {
        found.push(format!("{place}: is the file of a folder; it belongs beside it"));
    }
    if shipped && items.iter().any(|item| item.has_path) {
        found.push(format!("{place}: gives the file of a module a path"));
    }
    let declared = items.iter().position(Item::is_declared_after_constants).unwrap_or(items.len());
    if items[declared..].iter().any(|item| item.is_constant() && !item.for_tests) {
        found.push(format!("{place}: has a constant below what uses it"));
    }
    if shipped {
        let (last, above) = items.split_last().map_or((None, &[][..]), |(last, above)| (Some(last), above));
        if above.iter().any(|item| item.for_tests && item.name == "tests") {
            found.push(format!("{place}: has something below its tests"));
        }
        let in_file = last.filter(|last| last.for_tests && last.kind == "mod" && last.has_body);
        if in_file.is_some_and(|last| last.name != "tests") {
            found.push(format!("{place}: calls its tests by another name"));
        }
    }
    found
}

/// One item of a file, not those inside of it.
struct Item {
    /// Its keyword; empty for what has none, such as the call of a macro.
    kind: String,
    name: String,
    has_body: bool,
    for_tests: bool,
    /// It is a module whose file is named beside it.
    has_path: bool,
}

impl Item {
    fn is_constant(&self) -> bool {
        matches!(self.kind.as_str(), "const" | "static")
    }

    /// Modules and imports stand above constants, and macros that write constants do, too.
    fn is_declared_after_constants(&self) -> bool {
        match self.kind.as_str() {
            "" | "const" | "extern" | "macro_rules" | "static" | "use" => false,
            "mod" => self.has_body,
            _ => true,
        }
    }
}

fn items(tokens: &[Token]) -> Vec<Item> {
    const KINDS: [&str; 13] = [
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "static",
        "type",
        "trait",
        "extern",
        "macro_rules",
        "union",
        "const",
    ];
    let mut found = Vec::new();
    let mut rest = tokens;
    while !rest.is_empty() {
        let mut for_tests = false;
        let mut has_path = false;
        loop {
            // `#![..]` speaks of the file.
            if matches!(rest, [first, second, ..] if first.is_sign('#') && second.is_sign('!')) {
                rest = &rest[2 + bracket_len(&rest[2..])..];
                continue;
            }
            let attribute = &rest[..attribute_len(rest)];
            if attribute.is_empty() {
                break;
            }
            for_tests |= is_for_tests(attribute);
            has_path |= attribute.get(2).is_some_and(|word| word.is("path"));
            rest = &rest[attribute.len()..];
        }
        let item = &rest[..item_len(rest).max(1).min(rest.len())];
        let head: Vec<_> = item.iter().take_while(|token| !token.is_sign('{') && !token.is_sign('=')).collect();
        let words: Vec<_> = head.iter().filter_map(|token| token.word()).collect();
        // `pub(crate) const fn f`: what is constant about it is no constant.
        let at = words.iter().position(|word| KINDS.contains(word));
        let at = at.map(|at| if words[at] == "const" && words.get(at + 1) == Some(&"fn") { at + 1 } else { at });
        found.push(Item {
            kind: at.map_or("", |at| words[at]).to_owned(),
            name: at.and_then(|at| words.get(at + 1)).copied().unwrap_or_default().to_owned(),
            has_body: item.iter().any(|token| token.is_sign('{')),
            for_tests,
            has_path,
        });
        rest = &rest[item.len()..];
    }
    // The semicolon behind a value that ends with a bracket.
    found.retain(|item| !item.kind.is_empty() || item.for_tests);
    found
}

mod planted {
    use super::*;

    fn number(place: &str, text: &str) -> usize {
        misplaced(place, text).len()
    }

    #[test]
    fn the_file_of_a_folder_inside_of_it() {
        assert_eq!(number("src/io/mod.rs", "pub mod buf;\n"), 1);
        assert_eq!(number("src/io.rs", "pub mod buf;\n"), 0);
        assert_eq!(number("tests/support/mod.rs", "pub mod client;\n"), 0);
    }

    #[test]
    fn a_module_whose_file_is_elsewhere() {
        assert_eq!(number("src/io/buf.rs", "#[cfg(test)]\n#[path = \"buf_tests.rs\"]\nmod tests;\n"), 1);
        assert_eq!(number("src/io/buf.rs", "#[cfg(test)]\nmod tests;\n"), 0);
        assert_eq!(number("tests/udp/main.rs", "#[path = \"../support/mod.rs\"]\nmod support;\n"), 0);
    }

    #[test]
    fn a_constant_below_other_things() {
        assert_eq!(number("src/io/buf.rs", "struct Buf;\n\npub(super) const BYTES: [u8; 2] = [1, 2];\n"), 1);
        assert_eq!(number("src/io/buf.rs", "fn f() {}\nstatic A: A = A { a: 1 };\nfn g() {}\n"), 1);
        assert_eq!(number("tests/udp/main.rs", "#[test]\nfn f() {}\n/// A word.\nconst A: u8 = 1;\n"), 1);
        let usual = "#![deny(warnings)]\nmod a;\nuse std::{fs, io};\n/// A word.\nconst A: A = A { a: [1; 2] };\n\
                     struct B;\nimpl B { const C: u8 = 1; const fn f() { const D: u8 = 1; } }\nconst fn g() {}\n\
                     #[cfg(test)]\nmod tests { fn f() {} const E: u8 = 1; }\n";
        assert_eq!(number("src/io/buf.rs", usual), 0);
        assert_eq!(number("src/io/buf.rs", "macro_rules! a { () => { 1 } }\nconst A: u8 = a!();\nfn f() {}\n"), 0);
    }

    #[test]
    fn tests_with_something_below_them() {
        assert_eq!(number("src/io/buf.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nfn g() {}\n"), 1);
        assert_eq!(number("src/io/buf.rs", "#[cfg(test)]\nmod tests;\nmod other;\n"), 1);
        assert_eq!(number("src/io/buf.rs", "#[cfg(test)]\nmod testing;\nfn f() {}\n#[cfg(test)]\nmod tests;\n"), 0);
    }

    #[test]
    fn tests_by_another_name() {
        assert_eq!(number("src/io/buf.rs", "fn f() {}\n#[cfg(test)]\nmod unit_tests { fn f() {} }\n"), 1);
    }
}
