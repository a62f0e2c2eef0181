//! The READMEs say what is true: every key with its real default and range, every counter, every reason; examples load,
//! and what is named or linked exists.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vless_rust::app::cli;
use vless_rust::app::config::{self, Config};
use vless_rust::session::close::CloseReason;
use vless_rust::stats::Totals;

/// Stands for an id that the reader puts in; no program accepts it, so it cannot be left in place by mistake.
const PLACEHOLDER: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
const ID: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";

/// The first page, and one for each folder that a reader opens.
const PAGES: [&str; 5] = ["README.md", "conf/README.md", "src/README.md", "tests/README.md", "benches/README.md"];

/// The operator's reference.
const REFERENCE: &str = PAGES[1];

/// The first page is read in one go.
const FIRST_PAGE_BYTES_MAX: usize = 15 << 10;

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Contents of all pages' fenced blocks in one of these languages.
fn blocks(languages: &[&str]) -> Vec<String> {
    let in_page = |text: String| {
        let fenced = text.split("```").skip(1).step_by(2);
        let named = fenced.filter_map(|block| block.split_once('\n'));
        let wanted = named.filter(|(language, _)| languages.contains(language));
        wanted.map(|(_, body)| body.to_owned()).collect::<Vec<_>>()
    };
    PAGES.iter().flat_map(|path| in_page(page(path))).collect()
}

/// The cells of a key's row behind the key: default, range, meaning.
fn reference() -> BTreeMap<String, Vec<String>> {
    let text = page(REFERENCE);
    let (_, section) = text.split_once("\n## Configuration\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let named = rows.map(|mut cells| (cells.remove(0).trim_matches('`').to_owned(), cells));
    let rows: Vec<_> = named.collect();
    let count = rows.len();
    let by_key: BTreeMap<_, _> = rows.into_iter().collect();
    assert_eq!(by_key.len(), count, "a key has two rows");
    assert!(by_key.iter().all(|(_, cells)| cells.len() == 3), "every row has four cells");
    by_key
}

/// A configuration that says `value` for `key` (which is not inside a list) and nothing else of its own.
fn loads_with(key: &str, value: i64) -> bool {
    let mut names = key.split('.').rev();
    let innermost = json!({ names.next().unwrap(): value });
    let mut config = names.fold(innermost, |inner, name| json!({ name: inner }));
    config["users"] = json!([{ "uuid": ID }]);
    Config::parse(&config.to_string(), Path::new("config.json")).is_ok()
}

/// Limits out of `0 to 9` or `0, or 10 to 99`.
fn limits(range: &str) -> Option<(i64, i64)> {
    let (least, most) = range.split_once(" to ")?;
    Some((least.rsplit(' ').next()?.parse().ok()?, most.parse().ok()?))
}

/// The two places where every key is written out, as they are and as the keys would have them.
fn written_out() -> [(PathBuf, String, String); 2] {
    let (readme, example) = (root().join(REFERENCE), root().join("conf/reference.json"));
    let text = fs::read_to_string(&readme).unwrap();
    let start = text.find("| key | default | range | meaning |").expect("the table of keys");
    let end = start + text[start..].find("\n\n").expect("the end of the table of keys") + 1;
    let wanted = format!("{}{}{}", &text[..start], config::table(), &text[end..]);
    let reference = fs::read_to_string(&example).unwrap();
    [(readme, text, wanted), (example, reference, config::example())]
}

/// `VLESS_RUST_WRITE_REFERENCE=1 cargo test --test readme reference` writes them.
#[test]
fn the_reference_is_what_the_keys_say() {
    for (path, text, wanted) in written_out() {
        if env::var_os("VLESS_RUST_WRITE_REFERENCE").is_some() {
            fs::write(&path, &wanted).unwrap();
        } else {
            let differ = text.lines().zip(wanted.lines()).find(|(is, should)| is != should);
            assert!(text == wanted, "{}: {differ:?}; VLESS_RUST_WRITE_REFERENCE=1 writes it anew", path.display());
        }
    }
}

#[test]
fn the_reference_says_the_ranges() {
    let mut checked = 0;
    for (key, cells) in reference().iter().filter(|(key, _)| !key.contains("[]")) {
        let is_number = cells[0].trim_matches('`').parse::<i64>().is_ok();
        let Some((least, most)) = limits(&cells[1]) else {
            assert!(!is_number, "{key} has no range");
            continue;
        };
        assert!(loads_with(key, least) && loads_with(key, most), "{key}: {least} and {most} are possible");
        // 0 may have a meaning of its own, apart from the range.
        let takes_zero = least == 0 || cells[1].starts_with("0, or");
        assert_eq!(loads_with(key, 0), takes_zero, "{key}: 0");
        let is_least = least == 1 || !loads_with(key, least - 1);
        assert!(is_least && !loads_with(key, most + 1), "{key}: more is possible than {}", cells[1]);
        checked += 1;
    }
    assert!(checked > 25, "{checked} ranges");
}

#[test]
fn examples_of_configurations_load_once_an_id_is_put_in() {
    let examples: Vec<_> =
        blocks(&["jsonc"]).into_iter().filter(|block| block.starts_with("// config.json\n")).collect();
    assert!(examples.len() >= 2, "{} examples", examples.len());
    for example in examples {
        let path = Path::new("config.json");
        let config = Config::parse(&example.replace(PLACEHOLDER, ID), path).unwrap_or_else(|error| panic!("{error}"));
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        assert!(Config::parse(&example, path).is_err(), "the placeholder passes for an id");
    }
}

#[test]
fn examples_for_clients_are_json_with_placeholders() {
    let examples = blocks(&["json"]);
    assert_eq!(examples.len(), 2, "Xray-core and sing-box");
    for example in examples {
        serde_json::from_str::<Value>(&example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        assert!(example.contains(PLACEHOLDER) && example.contains("YOUR-SERVER"), "{example}");
    }
}

#[test]
fn every_counter_and_every_reason_is_explained() {
    let text = page(REFERENCE);
    let Value::Object(counters) = serde_json::to_value(Totals::default()).unwrap() else { panic!("no object") };
    let names = counters.keys().map(String::as_str).chain(CloseReason::ALL.iter().map(|reason| reason.name()));
    let missing: Vec<_> = names.filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_exit_code_of_the_help_is_explained() {
    let help = cli::help();
    let (_, codes) = help.split_once("exit codes:").unwrap();
    let codes = codes.split(|c: char| !c.is_ascii_digit()).filter(|code| !code.is_empty());
    let text = page(REFERENCE);
    let missing: Vec<_> = codes.filter(|code| !text.contains(&format!("\n| {code} |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_command_and_every_option_of_its_own_is_explained() {
    let text = page(REFERENCE);
    let (_, commands) = text.split_once("\n## Commands").unwrap();
    // Those of accounts, and those that all commands have, stand in examples or prose.
    let own = |row: &cli::table::CommandRow| if row.name == "user" { &[][..] } else { row.options };
    let words = cli::table::COMMANDS.iter().flat_map(|row| std::iter::once(row.name).chain(own(row).iter().copied()));
    let missing: Vec<_> = words.filter(|word| !commands.contains(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_first_page_is_short_and_leads_to_all_others() {
    let text = page(PAGES[0]);
    assert!(text.len() <= FIRST_PAGE_BYTES_MAX, "{} bytes", text.len());
    let missing: Vec<_> = PAGES[1..].iter().filter(|path| !text.contains(&format!("]({path})"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn files_and_sections_that_are_named_exist() {
    let wrong: Vec<_> = PAGES.iter().flat_map(|path| dead_ends(path, &page(path))).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_name_of_something_that_is_not_there_is_found() {
    let text = "[a](../README.md) [b](reference.json) [c](#no-such) [d](../src/README.md#no-such) [e](no-such.json)\n\
                `src/session/` `tests/no-such.rs`\n";
    let found = dead_ends("conf/README.md", text);
    let wanted = ["#no-such", "../src/README.md#no-such", "no-such.json", "tests/no-such.rs"];
    assert_eq!(found, wanted.map(|name| format!("conf/README.md: {name}")));
}

#[test]
fn each_stop_of_a_walk_is_in_its_file() {
    let text = page(PAGES[2]);
    let (_, walks) = text.split_once("\n## Walks\n").unwrap();
    let (walks, _) = walks.split_once("\n## ").unwrap();
    assert_eq!(walks.matches("\n### ").count(), 5, "walks");
    let stops: Vec<_> = walks.lines().filter_map(stop).collect();
    assert!(stops.len() > 40, "{} stops", stops.len());
    let missing: Vec<_> = stops.iter().filter(|(file, item)| !is_in(item, &page(file))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_stop_that_is_not_in_its_file_is_found() {
    let source = "impl Session { fn count(&self) {} }\n// see recount\nconst IDLE: u8 = 1;\n";
    assert!(is_in("Session::count", source) && is_in("IDLE", source) && is_in("idle", "\"idle\": 300"));
    assert!(!is_in("Session::recount", source) && !is_in("Relay::count", source) && !is_in("idle", source));
}

/// File and item of a row of a walk.
fn stop(row: &str) -> Option<(&str, &str)> {
    let mut cells = row.strip_prefix("| `")?.split("` | `");
    let file = cells.next()?;
    Some((file, cells.next()?.split_once('`')?.0))
}

/// Whether `source` has an item of this name: the last part is declared there, the others are named.
fn is_in(item: &str, source: &str) -> bool {
    let mut names = item.split("::").collect::<Vec<_>>();
    let last = names.pop().unwrap_or_default();
    // The last two are for keys: of the configuration's table, and of JSON.
    let kinds =
        [("fn ", ""), ("struct ", ""), ("enum ", ""), ("trait ", ""), ("const ", ""), ("    ", " from"), ("\"", "\"")];
    let ends = |behind: &str| !behind.starts_with(|sign: char| sign.is_alphanumeric() || sign == '_');
    let is_declared = kinds.iter().any(|(before, after)| {
        let wanted = format!("{before}{last}{after}");
        source.match_indices(&wanted).any(|(at, found)| ends(&source[at + found.len()..]))
    });
    is_declared && names.iter().all(|name| source.contains(name))
}

/// What a page links to or names as a file, and what is not there.
fn dead_ends(path: &str, text: &str) -> Vec<String> {
    let folder = root().join(path).parent().unwrap().to_path_buf();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let links = links.filter(|link| !link.contains("://"));
    let dead_links = links.filter(|link| {
        let (file, section) = link.split_once('#').unwrap_or((link, ""));
        let is_there = folder.join(file).exists();
        let target =
            if file.is_empty() { text.to_owned() } else { fs::read_to_string(folder.join(file)).unwrap_or_default() };
        !is_there || !(section.is_empty() || anchors(&target).contains(section))
    });
    // Files are named by their path from the top in every page.
    let quoted = text.split('`').skip(1).step_by(2).filter_map(|code| code.split_whitespace().next());
    let tops = ["src/", "tests/", "benches/", "conf/", "static/"];
    let paths = quoted.filter(|word| tops.iter().any(|top| word.starts_with(top)));
    let dead_paths = paths.filter(|path| !root().join(path).exists());
    dead_links.chain(dead_paths).map(|name| format!("{path}: {name}")).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// What a heading is linked by: lower case, hyphens for spaces, no other punctuation.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|&c| c.is_alphanumeric() || c == '-').collect()
}
