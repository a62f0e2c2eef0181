//! The opening of a session: TLS handshake and request header, decoded record by record, until it is known what the
//! client wants and whether it may have it.

use std::sync::Arc;
use std::time::Instant;

use super::close::{CloseReason, beyond, broken, refused};
use super::dialling::Dialling;
use super::intake::{ReadMax, Received};
use super::mux::{FirstFrame, Mux};
use super::party::{Account, Party, source_of};
use super::pause::{Ending, Pause};
use super::relay::Relay;
use super::view::State;
use super::{Context, Flow, Leg, Next, Phase, Session, Timeouts, User, Wish};
use crate::inbound::users::Barred;
use crate::inbound::{Converted, InboundError, Step};
use crate::io::buf::Buf;
use crate::io::buffer_memory::{RECORD_HOLD_BYTES, STEP_BYTES};
use crate::io::buffer_pool::{BufferPool, Loan, OpeningCharge};
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::io::taker::Taker;
use crate::protocol::request::{self, Command, Decoded, Request};

/// Received at a time until the relay begins: a record and a little more, so that a client which is not a user yet
/// cannot make us hold much.
const OPENING_READ_BYTES: usize = 16 << 10;

/// Reads per turn until then. A stranger can go on sending records that carry nothing, and short ones cost by far more
/// than their bytes in the relay do.
const OPENING_READS_PER_TURN: usize = 4;

/// Version, id and length of the addons: what has fewer bytes in its first record is taken for no request.
const REQUEST_BYTES_MIN: usize = 18;

/// How far an opening has come.
pub(super) enum Opening {
    /// Whoever passes the client on has to say who it is.
    ProxyHeader,
    /// It was said who it is. What its source may have is known to the worker, who answers within the turn.
    Announced,
    Handshake {
        /// What TLS keeps of a message that is not whole.
        held: Option<OpeningCharge>,
    },
    FirstByte,
    Request,
    /// The request is complete, but there is no memory for what came with it.
    Admission,
}

/// What there is to decode, and what was decoded of it: both in the worker's scratch memory.
pub(super) struct Opened {
    pub(super) rest: Buf,
    pub(super) payload: Buf,
}

impl Opening {
    /// The instant by which the client must have come further, and the reason if it has not. `since` is when this part
    /// began.
    pub(super) fn deadline(&self, accepted_at: Instant, since: Instant, timeouts: &Timeouts) -> (Instant, CloseReason) {
        match self {
            Self::ProxyHeader | Self::Announced | Self::Handshake { .. } => {
                (accepted_at + timeouts.tls_handshake, CloseReason::HandshakeTimeout)
            }
            Self::FirstByte => (since + timeouts.first_byte, CloseReason::FirstByteTimeout),
            Self::Request | Self::Admission => (since + timeouts.request, CloseReason::RequestTimeout),
        }
    }

    pub(super) fn state(&self) -> State {
        match self {
            Self::ProxyHeader | Self::Announced | Self::Handshake { .. } => State::Handshake,
            Self::FirstByte => State::FirstByte,
            Self::Request | Self::Admission => State::Request,
        }
    }

    /// TLS keeps memory for the beginning of a message.
    pub(super) fn holds_memory(&self) -> bool {
        matches!(self, Self::Handshake { held: Some(_) })
    }
}

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// Handshake and request header: decodes record by record until the header is complete, nothing is left or the turn
    /// is over.
    pub(super) fn open(&mut self, cx: &mut Context<'_>) -> Next {
        match self.phase {
            Phase::Opening(Opening::Admission) => return self.retry_admission(cx),
            Phase::Opening(Opening::Announced) => return Next::Wait,
            _ => {}
        }
        for _ in 0..OPENING_READS_PER_TURN {
            if !self.send_unasked(cx) {
                return self.wait_or_abort();
            }
            let mut rest = cx.means.scratch.take_input();
            let most = ReadMax { bytes: OPENING_READ_BYTES, taker: Taker::Unknown };
            match self.uplink.intake.receive(&mut self.client, most, |_| most.bytes, &mut rest, cx.means.pool) {
                Ok(Received::Bytes(_)) => {
                    if let Some(next) = self.decode_announced(rest, cx) {
                        return next;
                    }
                }
                outcome => {
                    cx.means.scratch.give_input(rest);
                    return match outcome {
                        Ok(Received::End) => self.finish_or_linger(CloseReason::ClientLeft, cx),
                        Ok(_) => self.abort(CloseReason::ClientReset),
                        Err(Pause::Starved) => Next::Starved,
                        Err(_) => Next::Wait,
                    };
                }
            }
        }
        cx.counters.turns_cut_by_budget.add(1);
        Next::Again
    }

    /// Decodes what was received of the client. `None`: more must arrive.
    pub(super) fn decode_opening(&mut self, rest: Buf, cx: &mut Context<'_>) -> Option<Next> {
        let mut opened = Opened { rest, payload: cx.means.scratch.take_output() };
        self.uplink.intake.put_back_undigested(&mut opened.payload);
        let verdict = self.decode_records(&mut opened, cx);
        match verdict {
            Ok(Some((request, length))) => Some(self.admit(request, length, opened, cx)),
            Ok(None) => {
                self.keep_opened(opened, cx);
                None
            }
            Err(refused) => {
                if let Some(fallback) = self.fallback_for(&refused, &opened, cx) {
                    return Some(self.fall_back(fallback, opened, cx));
                }
                self.give_back(opened, cx);
                Some(match refused {
                    Ending::Broken(error) => self.refuse_inbound(&error, cx),
                    ending => self.end(ending, cx),
                })
            }
        }
    }

    /// Decodes record by record until there is a request. Returns it with its length in bytes. `None`: more must
    /// arrive.
    fn decode_records(
        &mut self,
        opened: &mut Opened,
        cx: &mut Context<'_>,
    ) -> Result<Option<(Request, usize)>, Ending> {
        loop {
            let decoded = self.inbound.decode(&mut opened.rest, &mut opened.payload, Step::OneRecord);
            self.charge_handshake(cx);
            let again = match decoded.map_err(Ending::Broken)? {
                Converted::Moved { again } => again,
                Converted::Unchanged if opened.payload.append(opened.rest.bytes()) => {
                    opened.rest.reset(0);
                    false
                }
                Converted::Unchanged => return Err(Ending::Broken(InboundError::NoRoom)),
            };
            self.note_opening_progress(!opened.payload.is_empty(), cx);
            let (users, mut barred) = (&cx.settings.users, None);
            let decoded = request::decode(opened.payload.bytes(), |id| {
                barred = users.barred(id);
                users.find(id).is_some()
            });
            match decoded {
                Ok(Decoded::Request { request, len }) => return Ok(Some((request, len))),
                Ok(Decoded::NeedMore) if self.inbound.is_uplink_closed() => {
                    return Err(Ending::InOrder(CloseReason::ClientLeft));
                }
                // Fallbacks are chosen after the first record, because a web server would answer to it.
                Ok(Decoded::NeedMore) if is_too_short(&opened.payload) && !cx.settings.fallbacks.is_empty() => {
                    return Err(Ending::InOrder(CloseReason::NotVless));
                }
                Ok(Decoded::NeedMore) if again => {}
                Ok(Decoded::NeedMore) => return Ok(None),
                Err(error) => {
                    log::debug!("{}: refused: {error:?}", self.client_address);
                    let reason = match error {
                        request::DecodeError::UnknownUser => unknown_user(barred, cx),
                        error => refused(error),
                    };
                    return Err(Ending::InOrder(reason));
                }
            }
        }
    }

    fn keep_opened(&mut self, opened: Opened, cx: &mut Context<'_>) {
        self.uplink.intake.keep_request(&opened.payload, cx.means.pool);
        self.uplink.intake.keep(&opened.rest, false, cx.means.pool);
        self.give_back(opened, cx);
    }

    #[expect(clippy::unused_self, reason = "beside the others that end with an opening's buffers")]
    pub(super) fn give_back(&self, opened: Opened, cx: &mut Context<'_>) {
        cx.means.scratch.give_input(opened.rest);
        cx.means.scratch.give_output(opened.payload);
    }

    /// What TLS keeps of a handshake message counts like the buffers of a client that is not admitted.
    fn charge_handshake(&mut self, cx: &Context<'_>) {
        let Phase::Opening(Opening::Handshake { held }) = &mut self.phase else { return };
        let bytes = self.inbound.handshake_bytes();
        if held.as_ref().map_or(0, OpeningCharge::bytes) != bytes {
            *held = (bytes > 0).then(|| cx.means.pool.charge_opening(bytes));
        }
    }

    /// A complete request, the first `len` bytes of the payload: what came behind it is a relay's from here on, and
    /// waits for memory like everything that a relay begins.
    fn admit(&mut self, request: Request, len: usize, mut opened: Opened, cx: &mut Context<'_>) -> Next {
        let brings_more = opened.payload.len() > len || !opened.rest.is_empty();
        if brings_more && !may_hold(&opened, cx.means.pool) {
            self.keep_opened(opened, cx);
            self.phase = Phase::Opening(Opening::Admission);
            return Next::Starved;
        }
        opened.payload.consume(len);
        self.accept(request, opened, cx)
    }

    /// Looks again whether there is memory.
    fn retry_admission(&mut self, cx: &mut Context<'_>) -> Next {
        if self.client.is_broken() {
            return self.abort(CloseReason::ClientReset);
        }
        let mut opened = Opened { rest: cx.means.scratch.take_input(), payload: cx.means.scratch.take_output() };
        self.uplink.intake.put_back_kept(&mut opened.rest);
        self.uplink.intake.put_back_undigested(&mut opened.payload);
        match request::decode(opened.payload.bytes(), |id| cx.settings.users.find(id).is_some()) {
            Ok(Decoded::Request { request, len }) => self.admit(request, len, opened, cx),
            // The users are other ones now.
            Ok(Decoded::NeedMore) | Err(_) => {
                self.give_back(opened, cx);
                self.refuse(CloseReason::UnknownUser, cx)
            }
        }
    }

    /// Moves on from the handshake when TLS is open, and from the wait for the first byte when there is one.
    fn note_opening_progress(&mut self, has_payload: bool, cx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Opening(Opening::Handshake { .. })) && self.inbound.is_open() {
            cx.counters.tls_handshakes.add(1);
            cx.counters.timings.handshake.record(cx.means.now.saturating_duration_since(self.accepted_at()));
            self.enter(Phase::Opening(Opening::FirstByte), cx.means.now);
        }
        if matches!(self.phase, Phase::Opening(Opening::FirstByte)) && has_payload {
            self.enter(Phase::Opening(Opening::Request), cx.means.now);
        }
    }

    /// A well-formed request of a known user: checks what it asks for and wishes for its target. The payload holds the
    /// rest of the request's record, the rest what came behind that record.
    fn accept(&mut self, request: Request, opened: Opened, cx: &mut Context<'_>) -> Next {
        let user = cx.settings.users.find(&request.user_id).cloned();
        let checked = user.ok_or(CloseReason::UnknownUser).and_then(|user| {
            self.check_request(&user, &request)?;
            Ok(user)
        });
        let user = match checked {
            Ok(user) => user,
            Err(reason) => {
                self.give_back(opened, cx);
                return self.refuse(reason, cx);
            }
        };
        let permit = match user.ledger.open_session(cx.worker, source_of(self.client_address.ip())) {
            Ok(permit) => permit,
            Err(limit) => {
                self.give_back(opened, cx);
                return self.refuse(beyond(limit), cx);
            }
        };
        let before = self.progress();
        if let Err(error) = self.begin_uplink(&request, opened, cx) {
            return self.refuse_inbound(&error, cx);
        }
        cx.counters.requests_accepted.add(1);
        cx.counters.vision_requests.add(u64::from(request.flow == Flow::Vision));
        self.party = Party::User(Box::new(Account {
            _permit: permit,
            user: Arc::clone(&user),
            target: request.target.clone(),
            flow: request.flow,
            asked_at: cx.means.now.into(),
            books: None,
        }));
        // The first block came with the request.
        self.count(before, cx);
        let dialling = if request.command == Command::Udp { Dialling::Address } else { Dialling::Stream };
        self.enter(Phase::Dialling(dialling), cx.means.now);
        match (request.command, request.target) {
            (Command::Tcp, Some(target)) => cx.wishes.push(Wish::Dial { leg: Leg::Target, target }),
            (Command::Udp, Some(target)) => cx.wishes.push(Wish::Resolve { leg: Leg::Target, target }),
            (_, _) => {
                let is_only_xudp = user.flow == Flow::Vision && request.flow == Flow::None;
                let first_frame = if is_only_xudp { FirstFrame::Xudp } else { FirstFrame::Any };
                let mux = Mux::new(user, first_frame, cx.means.now);
                self.start_relay(Relay::Mux(Box::new(mux)), cx.means.now);
                return self.relay(cx);
            }
        }
        Next::Wait
    }

    /// What came behind the request is the beginning of the uplink.
    fn begin_uplink(&mut self, request: &Request, opened: Opened, cx: &mut Context<'_>) -> Result<(), InboundError> {
        let is_unwrapped = !self.inbound.is_uplink_transparent();
        match request.flow {
            Flow::None => self.inbound.accept_request(),
            Flow::Vision => self.inbound.accept_vision(request.user_id, cx.settings.vision_seed),
        }
        self.uplink.admit(is_unwrapped);
        self.downlink.admit(false);
        let mut early = Buf::new(opened.payload.len());
        let decoded = self.inbound.decode_first(opened.payload.bytes(), &mut early);
        if !early.is_empty() {
            let pool = cx.means.pool;
            if request.command == Command::Tcp {
                let unwrapped_bytes = if is_unwrapped { early.len() } else { 0 };
                self.uplink.delivery.begin_with(pool.hold(early.bytes(), 0, Loan::Waiting), unwrapped_bytes);
            } else {
                // Digesting it may come to a packet whose rest has to be waited for.
                self.uplink.intake.begin_with(pool.hold(early.bytes(), STEP_BYTES, Loan::Waiting));
            }
        }
        self.uplink.intake.keep(&opened.rest, true, cx.means.pool);
        self.give_back(opened, cx);
        decoded
    }

    /// What a user may ask for: its own flow, inside TLS 1.3 where that is Vision.
    fn check_request(&self, user: &User, request: &Request) -> Result<(), CloseReason> {
        let checked = self.check_flow(user, request);
        if let Err(reason) = checked {
            log::debug!(
                "{}: refused ({}): user {} asked for {:?} with flow {:?}",
                self.client_address,
                reason.name(),
                user.email,
                request.command,
                request.flow
            );
        }
        checked
    }

    fn check_flow(&self, user: &User, request: &Request) -> Result<(), CloseReason> {
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

/// Something came, and it is less than the shortest request.
fn is_too_short(payload: &Buf) -> bool {
    (1..REQUEST_BYTES_MIN).contains(&payload.len())
}

/// There is memory for what came with the request.
fn may_hold(opened: &Opened, pool: &BufferPool) -> bool {
    let rest_bytes = pool.hold_bytes(opened.rest.len()).max(RECORD_HOLD_BYTES);
    pool.may_begin() && pool.has_room(pool.hold_bytes(opened.payload.len()) + rest_bytes)
}

/// Who has an id of no user gets the same answer whoever he is. The operator learns whose account may not connect.
fn unknown_user(barred: Option<Barred>, cx: &Context<'_>) -> CloseReason {
    let Some(barred) = barred else { return CloseReason::UnknownUser };
    let (counter, reason) = match barred {
        Barred::Disabled => (&cx.counters.disabled_users_refused, CloseReason::UserDisabled),
        Barred::Expired => (&cx.counters.expired_users_refused, CloseReason::Expired),
        Barred::QuotaUsed => (&cx.counters.used_quotas_refused, CloseReason::QuotaUsed),
    };
    counter.add(1);
    reason
}
