//! The end of a session: what is still said, to whom, and how the sockets are closed.

use std::time::Duration;

use super::close::{CloseReason, broken};
use super::pause::Ending;
use super::{Context, Next, Phase, Session};
use crate::inbound::InboundError;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::{Recv, Socket};

/// How long a session listens for the client's close after its own last word. Closing a socket with bytes unread resets
/// it (Linux), which would destroy what is still on its way to a slow client.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// The most bytes of a refused or finished client that are read and thrown away while lingering.
const LINGER_BYTES_MAX: usize = 1 << 20;

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// Does what a relay's end asks for.
    pub(super) fn end(&mut self, ending: Ending, cx: &mut Context<'_>) -> Next {
        match ending {
            Ending::Settled(reason) => self.finish_or_linger(reason, cx),
            Ending::InOrder(reason) => self.refuse(reason, cx),
            Ending::Abrupt(reason) => self.abort(reason),
            Ending::Broken(error) => {
                log::debug!("{}: {error}", self.client_address);
                let is_alerted = matches!(error, InboundError::Tls(_)) && !self.inbound.is_downlink_direct();
                if is_alerted && self.downlink.delivery.end().is_none() {
                    // TLS's alert is the last thing the client hears. A reset would overtake it.
                    self.reset_targets();
                    return self.say_last_words(broken(&error), cx);
                }
                self.abort(broken(&error))
            }
        }
    }

    /// Closes without a VLESS byte. TLS says goodbye or its alert, then the stream ends.
    pub(super) fn refuse(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        self.inbound.close();
        self.say_last_words(reason, cx)
    }

    /// Sends what TLS still has to say, and then the end of the stream.
    fn say_last_words(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        let before = self.progress();
        self.send_unasked(cx);
        self.count(before, cx);
        self.start_lingering(reason, true, cx)
    }

    /// Listens on, after everything was said, until the client closes too. Closing then does not reset the connection.
    pub(super) fn finish_or_linger(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        self.start_lingering(reason, false, cx)
    }

    fn start_lingering(&mut self, reason: CloseReason, end_due: bool, cx: &mut Context<'_>) -> Next {
        self.uplink.discard();
        self.leave_relay();
        self.enter(Phase::Lingering { reason, read_bytes: 0, end_due }, cx.means.now);
        self.linger(cx)
    }

    pub(super) fn linger(&mut self, cx: &mut Context<'_>) -> Next {
        let Phase::Lingering { reason, mut read_bytes, mut end_due } = self.phase else { return Next::Close };
        if end_due {
            let before = self.progress();
            if self.downlink.delivery.flush(&mut self.client, cx.means.now) {
                self.client.shutdown_write();
                end_due = false;
            }
            self.count(before, cx);
        }
        let mut thrown_away = cx.means.scratch.take_input();
        let mut is_over = false;
        let share = &mut cx.allowance.uplink;
        while self.client.is_readable() && read_bytes < LINGER_BYTES_MAX && share.work_bytes > 0 && !is_over {
            let room = thrown_away.spare().min(share.work_bytes);
            match self.client.recv(thrown_away.spare_mut().get_mut(..room).unwrap_or_default()) {
                Recv::Bytes(count) => {
                    read_bytes += count;
                    share.work(count);
                }
                Recv::Blocked => {}
                Recv::End if end_due => break,
                Recv::End | Recv::Failed => is_over = true,
            }
        }
        let is_cut_short = share.work_bytes == 0 && self.client.is_readable() && read_bytes < LINGER_BYTES_MAX;
        cx.means.scratch.give_input(thrown_away);
        if is_over {
            return self.finish(reason);
        }
        // Whoever goes on sending is not listened to any more, but still gets what is on its way.
        self.phase = Phase::Lingering { reason, read_bytes, end_due };
        if is_cut_short {
            cx.counters.turns_cut_by_budget.add(1);
            return Next::Again;
        }
        Next::Wait
    }

    /// Ends the session now, whatever it is doing. TLS still says goodbye if the client takes it at once.
    pub fn cut(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        // Whoever is owed bytes must not take this for the end of the stream.
        let (uplink_ended, downlink_ended) =
            (self.uplink.delivery.end().is_some(), self.downlink.delivery.end().is_some());
        let target_waits = self.uplink.owes_bytes() || (!uplink_ended && self.client.is_readable());
        let target_has_more = matches!(&self.phase, Phase::Relaying(relay) if relay.has_more());
        let client_waits = self.downlink.owes_bytes() || (!downlink_ended && target_has_more);
        let before = self.progress();
        if !client_waits && !downlink_ended {
            self.inbound.close();
            self.send_unasked(cx);
        }
        if client_waits || self.downlink.owes_bytes() {
            self.client.reset_on_close();
        }
        if target_waits {
            self.reset_targets();
        }
        self.count(before, cx);
        self.finish(reason)
    }

    /// Ends both sides abruptly, as one of them did.
    pub(super) fn abort(&mut self, reason: CloseReason) -> Next {
        self.client.reset_on_close();
        self.reset_targets();
        self.finish(reason)
    }

    pub(super) fn finish(&mut self, reason: CloseReason) -> Next {
        self.leave_relay();
        self.uplink.discard();
        self.downlink.discard();
        self.phase = Phase::Closed(reason);
        Next::Close
    }

    fn reset_targets(&mut self) {
        if let Phase::Relaying(relay) = &mut self.phase {
            relay.reset_targets();
        }
    }

    /// Drops the relay. What it has counted stays, because bytes under way to the client are still to be counted.
    fn leave_relay(&mut self) {
        let Phase::Relaying(relay) = &mut self.phase else { return };
        relay.reset_owed_targets();
        if let Some(account) = self.party.account_mut() {
            account.books = relay.books_mut().map(|books| Box::new(std::mem::take(books)));
        }
    }
}
