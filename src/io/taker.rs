//! What is known of whoever takes the bytes of a direction: whether much may be received for it at once.
//!
//! What was received and is not taken has to be kept. Whoever takes nothing at all looks like everybody else at first,
//! because the kernel's own buffers take the first bytes. So a taker is unknown until it has taken more than those
//! hold, and is again when it has paused for long. While memory or pipes are short, less is received at a time for an
//! unknown one, so that thousands of them who stall leave enough for those who go on.

use std::time::Duration;

/// So much is taken of a steady one since it was last unknown. It is more than is left over from the longest read.
const STEADY_BYTES: usize = 512 << 10;

/// The most that the kernel takes for a peer that takes nothing (Linux, tcp_wmem: 4 MiB by default).
const KERNEL_BYTES: usize = 4 << 20;

/// Whoever takes nothing for so long is unknown again. Others fill their buffers and empty them many times a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The unit in which bytes are counted, so that a count takes no room in a session. Less at a time does not count: whoever
/// is sent so little needs no long reads.
const UNIT_BYTES: usize = 128;

const _: () = assert!((KERNEL_BYTES + STEADY_BYTES) / UNIT_BYTES <= u16::MAX as usize);

/// Who takes what is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taker {
    /// Maybe somebody who takes nothing.
    Unknown,
    /// Somebody who has taken much without a long pause.
    Steady,
}

/// What a direction's sink has yet to take until it is a steady one.
#[derive(Clone, Copy, Debug)]
pub struct Probation {
    missing_units: u16,
}

impl Probation {
    #[expect(clippy::new_without_default, reason = "made where a direction is, never by default")]
    pub const fn new() -> Self {
        Self { missing_units: units(KERNEL_BYTES + STEADY_BYTES) }
    }

    /// The sink took so many bytes, before which it took nothing for this long although there was something.
    pub fn took(&mut self, bytes: usize, pause: Duration) {
        if pause >= PAUSE_MAX {
            self.missing_units = units(STEADY_BYTES);
        }
        self.missing_units = self.missing_units.saturating_sub(units(bytes));
    }

    /// The sink takes no more for now, so the kernel's buffers are full. What it takes next its peer has made room for.
    pub fn refused(&mut self) {
        self.missing_units = self.missing_units.min(units(STEADY_BYTES));
    }

    pub fn taker(self) -> Taker {
        if self.missing_units == 0 { Taker::Steady } else { Taker::Unknown }
    }
}

const fn units(bytes: usize) -> u16 {
    let units = bytes / UNIT_BYTES;
    if units > u16::MAX as usize { u16::MAX } else { units as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_refuses_is_steady_beyond_what_the_kernel_takes() {
        let mut probation = Probation::new();
        for _ in 0..35 {
            probation.took(128 << 10, Duration::ZERO);
            assert_eq!(probation.taker(), Taker::Unknown);
        }
        probation.took(128 << 10, Duration::ZERO);
        assert_eq!(probation.taker(), Taker::Steady);
        probation.refused();
        assert_eq!(probation.taker(), Taker::Steady, "a full buffer is no pause");
    }

    #[test]
    fn what_is_taken_behind_a_refusal_was_made_room_for() {
        let mut probation = Probation::new();
        probation.took(3 << 20, Duration::ZERO);
        probation.refused();
        for _ in 0..3 {
            probation.took(128 << 10, Duration::from_millis(100));
            probation.refused();
            assert_eq!(probation.taker(), Taker::Unknown);
        }
        probation.took(128 << 10, Duration::from_millis(100));
        assert_eq!(probation.taker(), Taker::Steady);
    }

    #[test]
    fn a_long_pause_makes_a_taker_unknown() {
        let mut probation = Probation::new();
        probation.took(usize::MAX, Duration::ZERO);
        assert_eq!(probation.taker(), Taker::Steady);
        probation.took(STEADY_BYTES / 2, PAUSE_MAX);
        assert_eq!(probation.taker(), Taker::Unknown);
        probation.took(STEADY_BYTES / 2, PAUSE_MAX / 2);
        assert_eq!(probation.taker(), Taker::Steady);
    }
}
