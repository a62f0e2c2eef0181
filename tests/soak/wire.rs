//! The wire in user space as a program: `wire DELAY_MS LOST_PPM LATE_PPM LATE_MS RESET_PPM SEED`.
//!
//! It says the names of the two namespaces in one line, and takes them away when its standard input ends.

#[path = "../support/wire.rs"]
mod wire;

use std::io::{self, Read};
use std::time::Duration;
use std::{env, iter};

use wire::{Manners, Wire};

fn main() -> io::Result<()> {
    let numbers: Result<Vec<u32>, _> = env::args().skip(1).map(|text| text.parse()).collect();
    let numbers = numbers.map_err(io::Error::other)?;
    let [delay_ms, lost_ppm, late_ppm, late_ms, reset_ppm, seed] = numbers[..] else {
        return Err(io::Error::other("usage: wire DELAY_MS LOST_PPM LATE_PPM LATE_MS RESET_PPM SEED"));
    };
    let manners = Manners {
        delay: Duration::from_millis(delay_ms.into()),
        lost_ppm,
        late_ppm,
        late_by: Duration::from_millis(late_ms.into()),
        reset_ppm,
        seed: seed.into(),
    };
    let wire = Wire::lay(manners, |_, _| {})?;
    println!("{} {}", wire.near, wire.far);
    let mut rest = [0; 64];
    iter::repeat_with(|| io::stdin().read(&mut rest)).find(|read| !matches!(read, Ok(1..)));
    Ok(())
}
