//! What a fuzz target is, and where its inputs come from.

use std::fmt::Debug;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Something to be fuzzed: an ordinary function that panics if an input breaks an invariant.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Also the name of its folder of inputs.
    pub(crate) name: &'static str,
    /// Returns the "shape" of what happened: equal for inputs that are not worth telling apart.
    pub(crate) run: fn(&[u8]) -> u64,
    /// Words that mean something there.
    pub(crate) words: &'static [&'static [u8]],
}

/// A number for everything that a [`Target`] wants told apart.
pub(crate) fn shape(of: impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{of:?}").hash(&mut hasher);
    hasher.finish()
}

/// All inputs kept for a target: `.hex` files hold digits and `#` comments, all others are taken as they are.
pub(crate) fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(crate::CORPUS).join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            let is_hex = path.extension().is_some_and(|extension| extension == "hex");
            let input = if is_hex { unhex(&String::from_utf8(bytes).unwrap()) } else { bytes };
            (path, input)
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap());
    let digits: Vec<_> = lines.flat_map(str::chars).filter_map(|digit| digit.to_digit(16)).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
