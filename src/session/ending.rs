//! The end of a session: what is still said, to whom, and how the sockets are closed.

use std::time::Duration;

use super::close::CloseReason;
use super::{Context, Next, Phase, Relay, Session};
use crate::io::datagram::DatagramSocket;
use crate::io::socket::{Recv, Socket};

/// After the last word of ours, how long a client may take to close its side before we stop listening for it. Closing
/// a socket with bytes unread resets it (Linux), which would destroy what is still on its way to the client, and that
/// takes a slow one its time.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Bytes of a refused or finished client that are read and thrown away while lingering.
const LINGER_BYTES_MAX: usize = 1 << 20;

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// Closes without a VLESS byte: TLS says goodbye (or its alert), then the stream ends.
    pub(super) fn refuse(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        self.inbound.close();
        self.say_last_words(reason, cx)
    }

    /// Sends what TLS still has to say, and then the end of the stream.
    pub(super) fn say_last_words(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        self.uplink.discard();
        let before = self.progress();
        self.send_unasked(cx);
        self.count(before, cx);
        self.enter(Phase::Lingering { reason, read_bytes: 0, end_due: true }, cx.means.now);
        self.linger(cx)
    }

    /// Everything was said. Listens on until the client closes too, so that closing does not reset the connection.
    pub(super) fn finish_or_linger(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Next {
        self.uplink.discard();
        self.enter(Phase::Lingering { reason, read_bytes: 0, end_due: false }, cx.means.now);
        self.linger(cx)
    }

    pub(super) fn linger(&mut self, cx: &mut Context<'_>) -> Next {
        let Phase::Lingering { reason, mut read_bytes, mut end_due } = self.phase else { return Next::Close };
        if end_due {
            let before = self.progress();
            if self.downlink.flush(&mut self.client, &mut cx.means) {
                self.client.socket.shutdown_write();
                end_due = false;
            }
            self.count(before, cx);
            self.count_rest(cx);
        }
        let (input, _) = cx.means.scratch.parts();
        input.reset(0);
        while self.client.readable && read_bytes < LINGER_BYTES_MAX {
            match self.client.recv(input.spare_mut()) {
                Recv::Bytes(count) => read_bytes += count,
                Recv::Blocked => {}
                Recv::End if end_due => break,
                Recv::End | Recv::Failed => return self.finish(reason),
            }
        }
        // Whoever goes on sending is not listened to any more, but still gets what is on its way.
        self.phase = Phase::Lingering { reason, read_bytes, end_due };
        Next::Wait
    }

    /// Ends both sides abruptly, as one of them did.
    pub(super) fn abort(&mut self, reason: CloseReason) -> Next {
        self.client.socket.reset_on_close();
        if let Some(target) = &mut self.target {
            target.socket.reset_on_close();
        }
        if let Relay::Mux(mux) = &mut self.relay {
            mux.reset_targets();
        }
        self.finish(reason)
    }

    pub(super) fn finish(&mut self, reason: CloseReason) -> Next {
        if let Relay::Mux(mux) = &mut self.relay {
            mux.reset_owed_targets();
        }
        self.uplink.discard();
        self.downlink.discard();
        self.phase = Phase::Closed(reason);
        Next::Close
    }
}
