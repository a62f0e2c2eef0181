//! The opening of a session: TLS handshake and request header, decoded record by record, until it is known what the
//! client wants and whether it may have it.

use std::sync::Arc;

use super::close::{CloseReason, broken};
use super::mux::{Mux, Opening};
use super::transfer::Received;
use super::{Account, Context, Flow, Leg, Next, Phase, Relay, Session, User, Wish};
use crate::inbound::{Converted, InboundError, Step};
use crate::io::buffer_pool::{Loan, OpeningCharge};
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::protocol::request::{self, Command, Decoded, Request};

/// Received at a time until the relay begins: a record and a little more, so that a client which is not a user yet
/// cannot make us hold much.
const OPENING_READ_BYTES: usize = 16 << 10;

/// Reads per turn until then. A stranger can go on sending records that carry nothing, and short ones cost by far more
/// than their bytes in the relay do.
const OPENING_READS_PER_TURN: usize = 4;

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// Handshake and request header: decodes record by record until the header is complete, nothing is left or the turn
    /// is over.
    pub(super) fn open(&mut self, cx: &mut Context<'_>) -> Next {
        for _ in 0..OPENING_READS_PER_TURN {
            if !self.send_unasked(cx) {
                return self.wait_or_abort();
            }
            match self.uplink.receive(&mut self.client, OPENING_READ_BYTES, |_| OPENING_READ_BYTES, &mut cx.means) {
                Received::Bytes => {}
                Received::Blocked => return Next::Wait,
                Received::Starved => return Next::Starved,
                Received::End => return self.finish_or_linger(CloseReason::ClientLeft, cx),
                Received::Failed => return self.abort(CloseReason::ClientReset),
            }
            if let Some(next) = self.decode_opening(cx) {
                return next;
            }
        }
        cx.counters.turns_cut_by_budget.add(1);
        Next::Again
    }

    /// Decodes what the scratch input holds; `None` when more must arrive.
    fn decode_opening(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        self.uplink.load_output(&mut cx.means);
        loop {
            let (input, output) = cx.means.scratch.parts();
            let decoded = self.inbound.decode(input, output, Step::OneRecord);
            self.charge_handshake(cx);
            let (input, output) = cx.means.scratch.parts();
            let again = match decoded {
                Ok(Converted::Moved { again }) => again,
                Ok(Converted::Unchanged) => {
                    if !output.append(input.bytes()) {
                        return Some(self.abort(CloseReason::Internal));
                    }
                    input.reset(0);
                    false
                }
                Err(error) => return Some(self.refuse_inbound(&error, cx)),
            };
            self.note_opening_progress(cx);
            let (_, output) = cx.means.scratch.parts();
            match request::decode(output.bytes(), |id| cx.settings.users.find(id).is_some()) {
                Ok(Decoded::Request { request, len }) => return Some(self.admit(request, len, cx)),
                Ok(Decoded::NeedMore) if self.inbound.is_uplink_closed() => {
                    return Some(self.refuse(CloseReason::ClientLeft, cx));
                }
                Ok(Decoded::NeedMore) if again => {}
                Ok(Decoded::NeedMore) => break,
                Err(error) => {
                    log::debug!("{}: refused: {error:?}", self.client_address);
                    return Some(self.refuse(close_reason(error), cx));
                }
            }
        }
        self.uplink.keep_output(&cx.means);
        self.uplink.keep_input(false, &cx.means);
        None
    }

    /// What TLS keeps of a handshake message counts like the buffers of a client that is not admitted.
    fn charge_handshake(&mut self, cx: &Context<'_>) {
        let Phase::Handshake { held } = &mut self.phase else { return };
        let bytes = self.inbound.handshake_bytes();
        if held.as_ref().map_or(0, OpeningCharge::bytes) != bytes {
            *held = (bytes > 0).then(|| cx.means.pool.charge_opening(bytes));
        }
    }

    /// A complete request, the first `len` bytes of the scratch output: what came behind it is a relay's from here on, and
    /// waits for memory like everything that a relay begins.
    fn admit(&mut self, request: Request, len: usize, cx: &mut Context<'_>) -> Next {
        let (input, output) = cx.means.scratch.parts();
        let brings_more = output.len() > len || !input.is_empty();
        if brings_more && !cx.means.pool.may_begin() {
            self.uplink.keep_output(&cx.means);
            self.uplink.keep_input(false, &cx.means);
            self.phase = Phase::Admission;
            return Next::Starved;
        }
        output.consume(len);
        self.accept(request, cx)
    }

    /// Another look whether there is memory.
    pub(super) fn retry_admission(&mut self, cx: &mut Context<'_>) -> Next {
        if self.client.broken {
            return self.abort(CloseReason::ClientReset);
        }
        if !cx.means.pool.may_begin() {
            return Next::Starved;
        }
        self.uplink.load(&mut cx.means);
        let (_, output) = cx.means.scratch.parts();
        match request::decode(output.bytes(), |id| cx.settings.users.find(id).is_some()) {
            Ok(Decoded::Request { request, len }) => self.admit(request, len, cx),
            // The users are other ones now.
            Ok(Decoded::NeedMore) | Err(_) => self.refuse(CloseReason::UnknownUser, cx),
        }
    }

    /// Moves on from the handshake when TLS is open, and from the wait for the first byte when there is one.
    fn note_opening_progress(&mut self, cx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Handshake { .. }) && self.inbound.is_open() {
            cx.counters.tls_handshakes.add(1);
            cx.counters.timings.handshake.record(cx.means.now.saturating_duration_since(self.accepted_at));
            self.enter(Phase::FirstByte, cx.means.now);
        }
        let (_, payload) = cx.means.scratch.parts();
        if matches!(self.phase, Phase::FirstByte) && !payload.is_empty() {
            self.enter(Phase::Request, cx.means.now);
        }
    }

    /// A well-formed request of a known user: checks what it asks for and wishes for its target. The scratch output holds
    /// the rest of the request's record, the scratch input what came behind that record.
    fn accept(&mut self, request: Request, cx: &mut Context<'_>) -> Next {
        let Some(user) = cx.settings.users.find(&request.user_id) else { return self.abort(CloseReason::Internal) };
        let user = Arc::clone(user);
        if let Err(reason) = self.check_request(&user, &request) {
            log::debug!(
                "{}: refused: user {} asked for {:?} with flow {:?}",
                self.client_address,
                user.email,
                request.command,
                request.flow
            );
            return self.refuse(reason, cx);
        }
        let before = self.progress();
        let is_unwrapped = !self.inbound.is_uplink_transparent();
        match request.flow {
            Flow::None => self.inbound.accept_request(),
            Flow::Vision => self.inbound.accept_vision(request.user_id, cx.settings.vision_seed),
        }
        self.uplink.admit();
        self.downlink.admit();
        let (_, rest) = cx.means.scratch.parts();
        let mut early = cx.means.pool.take(rest.len(), Loan::Waiting);
        if let Err(error) = self.inbound.decode_first(rest.bytes(), &mut early) {
            return self.refuse_inbound(&error, cx);
        }
        let unwrapped_bytes = if is_unwrapped { early.len() } else { 0 };
        self.uplink.begin_with(early, unwrapped_bytes, &cx.means);
        cx.counters.requests_accepted.add(1);
        cx.counters.vision_requests.add(u64::from(request.flow == Flow::Vision));
        self.account = Some(Account {
            _permit: user.ledger.open_session(cx.worker),
            user: Arc::clone(&user),
            target: request.target.clone(),
            flow: request.flow,
        });
        // The first block came with the request.
        self.count(before, cx);
        self.enter(Phase::Dialling, cx.means.now);
        match (request.command, request.target) {
            (Command::Tcp, Some(target)) => cx.wishes.push(Wish::Dial { leg: Leg::Target, target }),
            (Command::Udp, Some(target)) => cx.wishes.push(Wish::Resolve { leg: Leg::Target, target }),
            (_, _) => {
                let is_only_xudp = user.flow == Flow::Vision && request.flow == Flow::None;
                let opening = if is_only_xudp { Opening::Xudp } else { Opening::Any };
                self.relay = Relay::Mux(Box::new(Mux::new(user, opening, cx.means.now)));
                self.start_relay(cx.means.now);
                return self.relay(cx);
            }
        }
        Next::Wait
    }

    /// What a user may ask for: its own flow, inside TLS 1.3 where that is Vision.
    fn check_request(&self, user: &User, request: &Request) -> Result<(), CloseReason> {
        match (user.flow, request.flow) {
            (Flow::None, Flow::None) => {}
            (Flow::Vision, Flow::Vision) if request.command == Command::Udp => return Err(CloseReason::FlowRefused),
            (Flow::Vision, Flow::Vision) if self.inbound.is_tls13() => {}
            // What is not TCP may come without Vision's padding (sing-box without packet encoding does).
            (Flow::Vision, Flow::None) if request.command != Command::Tcp => {}
            _ => return Err(CloseReason::FlowRefused),
        }
        match &request.target {
            Some(target) if target.is_reserved_name() => Err(CloseReason::ReservedName),
            _ => Ok(()),
        }
    }

    /// Ends an opening in which the client broke a protocol below VLESS.
    fn refuse_inbound(&mut self, error: &InboundError, cx: &mut Context<'_>) -> Next {
        log::debug!("{}: {error}", self.client_address);
        self.refuse(broken(error), cx)
    }
}

fn close_reason(error: request::DecodeError) -> CloseReason {
    match error {
        request::DecodeError::BadVersion(_) => CloseReason::NotVless,
        request::DecodeError::UnknownUser => CloseReason::UnknownUser,
        request::DecodeError::UnknownFlow => CloseReason::FlowRefused,
        request::DecodeError::BadCommand(_) => CloseReason::CommandRefused,
        _ => CloseReason::BadRequest,
    }
}
