//! An instant in eight bytes.
//!
//! A session keeps several instants, idle or not, and std's `Instant` takes sixteen bytes each.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long before the first instant that was kept the count begins. Earlier ones are taken for its beginning.
const LEAD: Duration = Duration::from_hours(1);

/// Where the count begins, in the whole process.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// An instant, kept as nanoseconds since an hour before the first one that was kept. An `Option` of it takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl Moment {
    /// Never 0.
    pub(super) fn nanoseconds(self) -> u64 {
        self.0.get()
    }
}

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let origin = ORIGIN.get_or_init(|| at.checked_sub(LEAD).unwrap_or(at));
        let since = at.saturating_duration_since(*origin);
        // Five hundred years of nanoseconds fit.
        let nanoseconds = since.as_secs().saturating_mul(1_000_000_000).saturating_add(since.subsec_nanos().into());
        Self(NonZeroU64::MIN.saturating_add(nanoseconds))
    }
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        let since = Duration::from_nanos(moment.0.get() - NonZeroU64::MIN.get());
        // There is no moment before the first one was made, which sets the origin.
        ORIGIN.get().map_or_else(Self::now, |origin| *origin + since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_comes_back_as_it_was() {
        let now = Instant::now();
        for offset in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(16), Duration::from_hours(9000)] {
            assert_eq!(Instant::from(Moment::from(now + offset)), now + offset);
        }
        let earlier = now.checked_sub(Duration::from_mins(1)).unwrap();
        assert_eq!(Instant::from(Moment::from(earlier)), earlier);
        assert!(Moment::from(earlier) < Moment::from(now));
    }

    #[test]
    fn it_takes_eight_bytes() {
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }
}
