//! Why sessions end, and the table that decides about half-closed and broken directions.

use crate::inbound::InboundError;
use crate::protocol::request::DecodeError;
use crate::session::transfer::End;
use crate::stats::gate::Refusal;

/// Declares [`CloseReason`] with its names, so that counters and logs cannot miss one.
macro_rules! close_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a session ended. Each has a counter and a name for logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseReason {
            $($(#[$doc])* $variant,)*
        }

        impl CloseReason {
            /// All reasons, in the order of [`CloseReason::index`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in logs and statistics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

close_reasons! {
    /// Both directions ended in order, or one did and the other had nothing more to say.
    Finished = "finished",
    /// The client's connection broke.
    ClientReset = "client_reset",
    /// The target's connection broke.
    TargetReset = "target_reset",
    /// The client left before its request was complete.
    ClientLeft = "client_left",
    /// The client broke TLS.
    TlsFailed = "tls_failed",
    /// The client broke Vision's block format.
    BadPadding = "bad_padding",
    /// The client's stream ended inside a TLS record or a Vision block.
    Truncated = "truncated",
    /// The TLS handshake was not done in time.
    HandshakeTimeout = "handshake_timeout",
    /// No byte followed the handshake in time.
    FirstByteTimeout = "first_byte_timeout",
    /// The request header was not complete in time.
    RequestTimeout = "request_timeout",
    /// Clients that were not admitted, visitors of a fallback among them, were too many or held too much memory. This
    /// was the oldest of them.
    OpeningShed = "opening_shed",
    /// A connection from a source that must announce its clients did not begin with a PROXY header.
    BadProxyHeader = "bad_proxy_header",
    /// The client that a PROXY header announced comes from a source that has as much as a source may have.
    SourceLimit = "source_limit",
    /// The first byte was not a VLESS version we speak.
    NotVless = "not_vless",
    /// The id belongs to no user.
    UnknownUser = "unknown_user",
    /// A stranger was to be passed on, and the fallback could not be reached.
    FallbackUnreachable = "fallback_unreachable",
    /// A known user sent a malformed request.
    BadRequest = "bad_request",
    /// The flow asked for is not the user's.
    FlowRefused = "flow_refused",
    /// The client broke the format of Mux.cool frames.
    BadFrame = "bad_frame",
    /// The user has as many UDP sockets as a user may have.
    UdpLimit = "udp_limit",
    /// The command asked for is not built.
    CommandRefused = "command_refused",
    /// The target is a name by which a client asks for a protocol inside that is not built.
    ReservedName = "reserved_name",
    /// The destination policy refuses the target.
    PolicyRefused = "policy_refused",
    /// The target's name has no address, or nobody could say.
    TargetUnresolved = "target_unresolved",
    /// No address of the target accepted the connection.
    TargetUnreachable = "target_unreachable",
    /// The target was not connected in time.
    TargetTimeout = "target_timeout",
    /// No descriptor or other local resource was left for the target's socket.
    NoResources = "no_resources",
    /// No payload moved for the idle time.
    Idle = "idle",
    /// One direction had ended and nothing moved in the other for the half-close time.
    HalfCloseTimeout = "half_close_timeout",
    /// Bytes waited and the peer took none for the write-stall time.
    WriteStall = "write_stall",
    /// The user has as many sessions as a user may have.
    UserSessionsLimit = "user_sessions_limit",
    /// The user has sessions from as many addresses as a user may have.
    UserAddressesLimit = "user_addresses_limit",
    /// Somebody with the right to it cut the session.
    Cut = "cut",
    /// The account was removed, or has another id now.
    UserRemoved = "user_removed",
    /// The account was switched off.
    UserDisabled = "user_disabled",
    /// The account's time is over.
    Expired = "expired",
    /// The account has used what it may use in this period.
    QuotaUsed = "quota_used",
    /// The server was shut down.
    Shutdown = "shutdown",
    /// A bug of ours.
    Internal = "internal",
}

impl CloseReason {
    /// The reason's place in [`CloseReason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What to do about a relay in which at least one direction may have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on: a direction still runs, or has only ended where the other can still deliver.
    Continue,
    /// Close both sides in order.
    Close(CloseReason),
    /// Close both sides and let them see a reset.
    Reset(CloseReason),
}

/// Decides from how the two directions ended (`None`: still running).
///
/// A direction that ends in order, or whose sink takes no more, does not end the other one: an answer may still come,
/// or bytes may still be on their way. A source that broke ends both: the other direction's sink is the same socket.
pub fn verdict(uplink: Option<&End>, downlink: Option<&End>) -> Verdict {
    match (uplink, downlink) {
        (Some(End::Broken(error)), _) | (_, Some(End::Broken(error))) => Verdict::Reset(broken(error)),
        (Some(End::SourceFailed), _) => Verdict::Reset(CloseReason::ClientReset),
        (_, Some(End::SourceFailed)) => Verdict::Reset(CloseReason::TargetReset),
        (None, _) | (_, None) => Verdict::Continue,
        (_, Some(End::SinkFailed)) => Verdict::Reset(CloseReason::ClientReset),
        (Some(End::SinkFailed), Some(End::Finished)) => Verdict::Close(CloseReason::TargetReset),
        (Some(End::Finished), Some(End::Finished)) => Verdict::Close(CloseReason::Finished),
    }
}

/// The reason that goes with a client's breach of protocol.
pub fn broken(error: &InboundError) -> CloseReason {
    match error {
        InboundError::Tls(_) | InboundError::BadRecord => CloseReason::TlsFailed,
        InboundError::BadPadding => CloseReason::BadPadding,
        InboundError::Truncated => CloseReason::Truncated,
        InboundError::NoRoom => CloseReason::Internal,
    }
}

/// The reason that goes with a limit of the user.
pub(super) fn beyond(limit: Refusal) -> CloseReason {
    match limit {
        Refusal::Sessions => CloseReason::UserSessionsLimit,
        Refusal::Addresses => CloseReason::UserAddressesLimit,
    }
}

/// The reason that goes with a request that cannot be accepted.
pub(super) fn refused(error: DecodeError) -> CloseReason {
    match error {
        DecodeError::BadVersion(_) => CloseReason::NotVless,
        DecodeError::UnknownUser => CloseReason::UnknownUser,
        DecodeError::UnknownFlow => CloseReason::FlowRefused,
        DecodeError::BadCommand(_) => CloseReason::CommandRefused,
        _ => CloseReason::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_closed_relays_go_on() {
        for end in [End::Finished, End::SinkFailed] {
            assert_eq!(verdict(Some(&end), None), Verdict::Continue);
            assert_eq!(verdict(None, Some(&end)), Verdict::Continue);
        }
        assert_eq!(verdict(None, None), Verdict::Continue);
    }

    #[test]
    fn a_broken_source_ends_both_directions() {
        assert_eq!(verdict(Some(&End::SourceFailed), None), Verdict::Reset(CloseReason::ClientReset));
        assert_eq!(verdict(None, Some(&End::SourceFailed)), Verdict::Reset(CloseReason::TargetReset));
        let broken = End::Broken(InboundError::Truncated);
        assert_eq!(verdict(Some(&broken), None), Verdict::Reset(CloseReason::Truncated));
    }

    #[test]
    fn two_ends_close_the_session() {
        let (finished, failed) = (End::Finished, End::SinkFailed);
        assert_eq!(verdict(Some(&finished), Some(&finished)), Verdict::Close(CloseReason::Finished));
        assert_eq!(verdict(Some(&failed), Some(&finished)), Verdict::Close(CloseReason::TargetReset));
        assert_eq!(verdict(Some(&finished), Some(&failed)), Verdict::Reset(CloseReason::ClientReset));
    }

    #[test]
    fn every_reason_has_its_own_name_and_index() {
        let mut names: Vec<_> = CloseReason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CloseReason::ALL.len());
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
