//! The answer of a relay to a turn: what it waits for, or how the session ends.
//!
//! Both directions answer alike, whatever they carry, and the session waits for the more urgent of the two.

use super::close::CloseReason;
use crate::inbound::InboundError;

/// What a direction waits for. The order is that of urgency: of two directions the greater one decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pause {
    /// For an event on one of its sockets, or it has ended.
    Wait,
    /// For its limit to let something through again.
    Later,
    /// For buffer memory, and for nothing else that would wake it.
    Starved,
    /// For its next turn: it could go on at once.
    Again,
}

/// How a relay ends its session.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ending {
    /// Both directions have ended, and the client was told.
    Settled(CloseReason),
    /// To be closed in order, with what the stack around the payload has to say.
    InOrder(CloseReason),
    /// To be reset, as one of the connections was.
    Abrupt(CloseReason),
    /// The client broke a protocol below VLESS.
    Broken(InboundError),
}

/// What came of a turn.
pub(super) type Turn = Result<Pause, Ending>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_go_on_is_not_parked() {
        let all = [Pause::Wait, Pause::Later, Pause::Starved, Pause::Again];
        assert!(all.is_sorted());
        assert_eq!(Pause::Starved.max(Pause::Again), Pause::Again);
        assert_eq!(Pause::Wait.max(Pause::Starved), Pause::Starved);
    }
}
