//! The relay of one byte stream to one target: both directions, what their ends mean, and its deadlines.

use std::time::Instant;

use super::close::{CloseReason, Verdict, verdict};
use super::transfer::{End, Pumped};
use super::transforms::{Decode, Encode};
use super::{Context, Next, Session, Timeouts};
use crate::inbound::InboundError;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// Both directions, and then what their ends mean.
    pub(super) fn relay_stream(&mut self, cx: &mut Context<'_>) -> Next {
        let before = self.progress();
        let Some(target) = &mut self.target else { return self.finish(CloseReason::Internal) };
        let read_bytes_max = cx.settings.read_bytes_max;
        let mut decode = Decode { inbound: &mut self.inbound, read_bytes_max };
        let uplink = self.uplink.pump(&mut self.client, target, &mut decode, &mut cx.means);
        let mut encode = Encode { inbound: &mut self.inbound, read_bytes_max };
        let downlink = self.downlink.pump(target, &mut self.client, &mut encode, &mut cx.means);
        let target_broken = target.broken;
        self.count(before, cx);

        match verdict(self.uplink.end(), self.downlink.end()) {
            // Nobody reads a source that has ended, so only its event tells that it broke since.
            Verdict::Continue if self.uplink.end().is_some() && self.client.broken => {
                self.abort(CloseReason::ClientReset)
            }
            Verdict::Continue if self.downlink.end() == Some(&End::Finished) && target_broken => {
                // No reset for the client: the end of the answer may still be on its way to it.
                self.target = None;
                self.finish_or_linger(CloseReason::TargetReset, cx)
            }
            Verdict::Continue if uplink == Pumped::Again || downlink == Pumped::Again => {
                cx.counters.turns_cut_by_budget.add(1);
                Next::Again
            }
            Verdict::Continue if uplink == Pumped::Starved || downlink == Pumped::Starved => Next::Starved,
            Verdict::Continue => Next::Wait,
            Verdict::Close(reason) => {
                self.target = None;
                self.finish_or_linger(reason, cx)
            }
            Verdict::Reset(reason) => {
                if let Some(End::Broken(error)) = self.uplink.end() {
                    log::debug!("{}: {error}", self.client_address);
                    let is_alerted = matches!(error, InboundError::Tls(_)) && !self.inbound.is_downlink_direct();
                    if is_alerted && self.downlink.end().is_none() {
                        // TLS's alert is the last thing the client hears; a reset would overtake it.
                        if let Some(mut target) = self.target.take() {
                            target.socket.reset_on_close();
                        }
                        return self.say_last_words(reason, cx);
                    }
                }
                self.abort(reason)
            }
        }
    }

    /// The first deadline, and the reason if it passes.
    pub(super) fn stream_deadline(&self, timeouts: &Timeouts) -> (Instant, CloseReason) {
        let moved_at = self.uplink.moved_at().max(self.downlink.moved_at());
        let mut first = (moved_at + timeouts.idle, CloseReason::Idle);
        let mut consider = |deadline: Instant, reason| {
            if deadline < first.0 {
                first = (deadline, reason);
            }
        };
        if self.uplink.end().is_some() || self.downlink.end().is_some() {
            consider(moved_at + timeouts.half_close, CloseReason::HalfCloseTimeout);
        }
        // Whose bytes still wait may not be there any more: they are delivered as long as that goes on.
        if self.client.broken && self.uplink.stalled_since().is_some() {
            consider(moved_at + timeouts.half_close, CloseReason::ClientReset);
        }
        if self.target.as_ref().is_some_and(|target| target.broken) && self.downlink.stalled_since().is_some() {
            consider(moved_at + timeouts.half_close, CloseReason::TargetReset);
        }
        for stalled in [self.uplink.stalled_since(), self.downlink.stalled_since()].into_iter().flatten() {
            consider(stalled + timeouts.write_stall, CloseReason::WriteStall);
        }
        first
    }
}
