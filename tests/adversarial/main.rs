//! Attacks: the list of them in `CASES.md`, and those that have no test elsewhere.

mod renegotiation;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

/// Attacks that the list has at least.
const CASES_MIN: usize = 80;

/// The rows of the list: attack, what comes of it, and the test.
fn cases() -> Vec<(String, String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adversarial/CASES.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| nr "));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, attack, outcome, test] = cells[..] else { panic!("not four cells: {row}") };
        (attack.to_owned(), outcome.to_owned(), test.trim_matches('`').to_owned())
    })
    .collect()
}

/// Whether this file has a test of that name.
fn exists(test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else { return false };
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line == "#[test]" {
            let function = lines.by_ref().find(|line| line.starts_with("fn ")).unwrap_or_default();
            if function.strip_prefix("fn ").is_some_and(|rest| rest.starts_with(&format!("{name}("))) {
                return true;
            }
        }
    }
    false
}

#[test]
fn every_attack_of_the_list_has_its_test() {
    let cases = cases();
    let missing: Vec<_> = cases.iter().filter(|(_, _, test)| !exists(test)).map(|(_, _, test)| test).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    assert!(cases.len() >= CASES_MIN, "{} attacks", cases.len());
    assert!(cases.iter().all(|(attack, outcome, _)| !attack.is_empty() && !outcome.is_empty()));
}

#[test]
fn a_test_that_does_not_exist_is_noticed() {
    assert!(exists("tests/adversarial/main.rs::a_test_that_does_not_exist_is_noticed"));
    assert!(!exists("tests/adversarial/main.rs::cases"), "it is no test");
    assert!(!exists("tests/adversarial/nowhere.rs::cases"));
    assert!(!exists("tests/adversarial/main.rs"));
}
