//! The relay of one byte stream to one target: both directions, what their ends mean, and its deadlines.

use std::time::Instant;

use super::channel::Channel;
use super::close::{CloseReason, Verdict, verdict};
use super::pause::{Ending, Turn};
use super::transfer::{End, Transfer};
use super::transforms::{Decode, Encode};
use super::{Context, Timeouts};
use crate::io::endpoint::Endpoint;
use crate::io::socket::Socket;

/// Both directions, and then what their ends mean.
pub(super) fn turn<S: Socket>(target: &mut Endpoint<S>, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
    let Channel { client, inbound, uplink, downlink } = channel;
    let read_bytes_max = cx.settings.read_bytes_max;
    let mut decode = Decode { inbound, read_bytes_max };
    let up = uplink.pump(client, target, &mut decode, &mut cx.allowance.uplink, &mut cx.means);
    let mut encode = Encode { inbound, read_bytes_max };
    let down = downlink.pump(target, client, &mut encode, &mut cx.allowance.downlink, &mut cx.means);
    let (uplink, downlink) = (uplink.delivery.end(), downlink.delivery.end());
    match verdict(uplink, downlink) {
        // Nobody reads a source that has ended, so only its event tells that it broke since.
        Verdict::Continue if uplink.is_some() && client.is_broken() => Err(Ending::Abrupt(CloseReason::ClientReset)),
        Verdict::Continue if downlink == Some(&End::Finished) && target.is_broken() => {
            // No reset for the client: the end of the answer may still be on its way to it.
            Err(Ending::Settled(CloseReason::TargetReset))
        }
        Verdict::Continue => Ok(up.max(down)),
        Verdict::Close(reason) => Err(Ending::Settled(reason)),
        Verdict::Reset(reason) => match uplink {
            Some(End::Broken(error)) => Err(Ending::Broken(error.clone())),
            _ => Err(Ending::Abrupt(reason)),
        },
    }
}

/// The first deadline, and the reason if it passes.
pub(super) fn deadline<S: Socket>(
    target: &Endpoint<S>,
    client: &Endpoint<S>,
    (uplink, downlink): (&Transfer, &Transfer),
    timeouts: &Timeouts,
) -> (Instant, CloseReason) {
    let (uplink, downlink) = (&uplink.delivery, &downlink.delivery);
    let moved_at = uplink.moved_at().max(downlink.moved_at());
    let mut first = (moved_at + timeouts.idle, CloseReason::Idle);
    let mut consider = |deadline: Instant, reason| {
        if deadline < first.0 {
            first = (deadline, reason);
        }
    };
    if uplink.end().is_some() || downlink.end().is_some() {
        consider(moved_at + timeouts.half_close, CloseReason::HalfCloseTimeout);
    }
    // Whose bytes still wait may not be there any more: they are delivered as long as that goes on.
    if client.is_broken() && uplink.stalled_since().is_some() {
        consider(moved_at + timeouts.half_close, CloseReason::ClientReset);
    }
    if target.is_broken() && downlink.stalled_since().is_some() {
        consider(moved_at + timeouts.half_close, CloseReason::TargetReset);
    }
    for stalled in [uplink.stalled_since(), downlink.stalled_since()].into_iter().flatten() {
        consider(stalled + timeouts.write_stall, CloseReason::WriteStall);
    }
    first
}
