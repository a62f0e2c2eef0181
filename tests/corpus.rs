//! The fuzz targets with their corpus and with what a seeded mutator makes of it, ten seconds for all together.
//!
//! `FUZZ_SECONDS=600` gives them more time, `FUZZ_SEED=7` other inputs. An input that breaks something is written to a
//! file. It belongs into `tests/fuzz/corpus/`, where every run tries it first. `tests/fuzz/run` hunts with libFuzzer.

#[path = "fuzz/driver.rs"]
mod driver;
#[path = "fuzz/input.rs"]
mod input;
#[path = "fuzz/targets/mod.rs"]
mod targets;
#[allow(dead_code, reason = "the simulation uses the rest of it")]
#[path = "support/sim/tls.rs"]
mod tls;

use std::env;
use std::fs;
use std::time::Duration;

use targets::TARGETS;

/// A folder for each target.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus");

/// Fuzzes a target for its share of the time.
fn fuzz(name: &str) {
    let seconds = env::var("FUZZ_SECONDS").map_or(10.0, |text| text.parse().expect("a number"));
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    driver::fuzz(*target, Duration::from_secs_f64(seconds / TARGETS.len() as f64));
}

/// A test per target, so that the names of those that fail are seen at once.
macro_rules! fuzz_tests {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name),)*];
    };
}

fuzz_tests! {
    request, addons, user_id, record, boundary, tls_opening, tls_relay, unpad, pad, dns, frames, packets, proxy_header, config, users_file, import, state_file, http_head,
    http_connection, web_socket, share_link, pasted_link, site, fallback, engine_answers, cluster_record, addresses, journal,
    certificate, pem, backup, system_names,
}

#[test]
fn every_target_has_a_test_and_a_corpus() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
    let mut folders: Vec<_> =
        fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort_unstable();
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(folders, sorted);
}

#[test]
fn corpus_files_are_small() {
    for target in TARGETS {
        for (path, input) in input::corpus(target.name) {
            assert!(input.len() <= 4096, "{} has {} bytes", path.display(), input.len());
        }
    }
}
