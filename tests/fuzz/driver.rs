//! A small mutating fuzzer for stable Rust: seeded, without instrumentation.
//!
//! An input with a new shape joins the pool that later ones are made from. That stands in for coverage.

use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use rustix::time::{ClockId, clock_gettime};

use crate::input::{Target, corpus, hex, shape};

const INPUT_BYTES_MAX: usize = 8 << 10;
const POOL_MAX: usize = 2000;

/// No input takes nearly as much of a processor, on whatever machine.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs a target's corpus, and then inputs made from it for `time`.
///
/// # Panics
/// At the first input that breaks something, which is then in a file of its own.
pub(crate) fn fuzz(target: Target, time: Duration) {
    let mut pool: Vec<_> = corpus(target.name).into_iter().map(|(_, input)| input).collect();
    assert!(!pool.is_empty(), "no corpus for {}", target.name);
    let mut shapes: HashSet<u64> = pool.iter().map(|input| attempt(target, input)).collect();
    let seed = env::var("FUZZ_SEED").map_or(1, |text| text.parse().expect("a number"));
    let mut dice = Dice(seed ^ 0x9e37_79b9_7f4a_7c15);
    let end = Instant::now() + time;
    let mut count = 0_u64;
    while Instant::now() < end {
        let input = mutate(&pool, target.words, &mut dice);
        if shapes.insert(attempt(target, &input)) && pool.len() < POOL_MAX {
            pool.push(input);
        }
        count += 1;
    }
    println!("{}: {count} inputs of {} shapes", target.name, shapes.len());
}

fn attempt(target: Target, input: &[u8]) -> u64 {
    let begin = cpu_time();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    match outcome {
        Ok(shape) if cpu_time().saturating_sub(begin) < INPUT_TIME_MAX => shape,
        _ => {
            let hex = hex(input);
            let file = format!("{}-{:016x}.hex", target.name, shape(input));
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
            fs::write(&path, &hex).unwrap();
            panic!("{} failed with {} (keep it in its corpus): {hex}", target.name, path.display());
        }
    }
}

/// Of this thread: a busy machine may keep it waiting for long.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// An input made from one or two others.
fn mutate(pool: &[Vec<u8>], words: &[&[u8]], dice: &mut Dice) -> Vec<u8> {
    let mut input = pool[dice.below(pool.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        let end = (at + dice.below(24)).min(input.len());
        match dice.below(10) {
            0 | 1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            2 => {
                const TELLING: [u8; 8] = [0, 1, 2, 3, 0x7f, 0x80, 0xfe, 0xff];
                if let Some(byte) = input.get_mut(at) {
                    *byte = TELLING[dice.below(8)];
                }
            }
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            6 => drop(input.splice(at..at, (0..dice.below(8)).map(|_| dice.next() as u8).collect::<Vec<_>>())),
            7 if !words.is_empty() => drop(input.splice(at..at, words[dice.below(words.len())].iter().copied())),
            8 if !words.is_empty() => drop(input.splice(at..end, words[dice.below(words.len())].iter().copied())),
            _ => {
                let other = &pool[dice.below(pool.len())];
                input.truncate(at);
                input.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// A splitmix64 generator.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
