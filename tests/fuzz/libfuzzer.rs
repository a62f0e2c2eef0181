//! A fuzz target under libFuzzer: the one whose name this was built under.
//!
//! libFuzzer wants raw inputs in a folder. The committed corpus is readable text, so the folder that `FUZZ_CORPUS_OUT`
//! names is filled from it at the start.
#![no_main]

mod input;
mod targets;
#[allow(dead_code, reason = "the simulation uses the rest of it")]
#[path = "../support/sim/tls.rs"]
mod tls;

use std::path::Path;
use std::{env, fs};

use libfuzzer_sys::fuzz_target;

/// A folder for each target.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");

const NAME: &str = env!("CARGO_BIN_NAME");

fuzz_target!(init: write_corpus(), |data: &[u8]| {
    let target = targets::TARGETS.iter().find(|target| target.name == NAME).expect("a target of this name");
    (target.run)(data);
});

fn write_corpus() {
    let Some(folder) = env::var_os("FUZZ_CORPUS_OUT") else { return };
    for (path, input) in input::corpus(NAME) {
        let file = path.file_stem().expect("a file");
        fs::write(Path::new(&folder).join(file), input).expect("a writable folder");
    }
}
