//! The client-facing protocol stack without its socket: wire bytes to payload bytes and back.
//!
//! [`Inbound`] is TLS or nothing, with VLESS inside, and for some sessions Vision inside that.
//!
//! - Without Vision the uplink is payload as it stands behind the request header. The downlink starts with the two
//!   bytes of the response header, in the same record as the first payload.
//! - With Vision each direction may leave TLS for good. When both have, TLS is dropped.
//!
//! It owns no buffer that lives longer than a call, but for what TLS itself keeps.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(not(test), deny(clippy::string_slice))]

mod error;
pub mod fallback;
mod sealing;
mod step;
pub mod tls;
pub mod users;
pub mod vision;

use std::mem;

pub use self::error::InboundError;
use self::sealing::{Records, seal_all, take_outgoing};
pub use self::step::{Converted, Step};
use self::tls::{RECORD_PAYLOAD_BYTES, TlsAcceptor, TlsEngine, TlsNames};
use self::vision::{PADDED_BYTES_MAX, Padding, Vision};
use crate::io::buf::Buf;
use crate::io::random::Random;
use crate::io::tally::Tally;
use crate::protocol::record::{self, Record};
use crate::protocol::request;
use crate::protocol::vision::{Phase, Seed};

/// Room that must be free in front of the bytes given to [`Inbound::encode`].
pub const HEADROOM_BYTES: usize = request::RESPONSE.len();

/// The most records sealed from one read: as many as fit the largest buffer of the pool together with their overhead.
const RECORDS_PER_READ: usize = 7;

/// One client's stack.
pub struct Inbound {
    security: Security,
    /// The client said inside TLS that nothing follows.
    uplink_closed: bool,
    /// [`Inbound::finish`] has been called.
    downlink_finished: bool,
    response: Response,
    vision: Option<Box<Vision>>,
    /// What [`Vision`] counted before it was dropped.
    padding: Padding,
}

enum Security {
    /// There is no TLS, or neither direction needs it any more.
    Plain,
    /// Vision has left TLS in both directions, and both are dropped.
    Left,
    /// No byte has arrived yet. A client that says nothing costs no TLS state.
    TlsUntouched(TlsAcceptor),
    Tls(Box<TlsEngine>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Response {
    /// No request was accepted: nothing may be sent.
    NotYet,
    /// The response header goes out with the first payload.
    Due,
    Sent,
}

impl Inbound {
    /// A stack without TLS.
    pub fn plain() -> Self {
        Self::new(Security::Plain)
    }

    /// A stack with TLS.
    pub fn tls(acceptor: TlsAcceptor) -> Self {
        Self::new(Security::TlsUntouched(acceptor))
    }

    fn new(security: Security) -> Self {
        Self {
            security,
            uplink_closed: false,
            downlink_finished: false,
            response: Response::NotYet,
            vision: None,
            padding: Padding::default(),
        }
    }

    /// Whether payload can flow: there is no TLS, or its handshake is done.
    pub fn is_open(&self) -> bool {
        match &self.security {
            Security::Plain | Security::Left => true,
            Security::TlsUntouched(_) => false,
            Security::Tls(engine) => engine.is_open(),
        }
    }

    /// Whether the client speaks TLS, and at least one direction needs it.
    pub fn is_tls(&self) -> bool {
        matches!(self.security, Security::TlsUntouched(_) | Security::Tls(_))
    }

    /// Bytes of memory that TLS keeps for the beginning of a handshake message.
    pub fn handshake_bytes(&self) -> usize {
        match &self.security {
            Security::Tls(engine) => engine.pending_bytes(),
            _ => 0,
        }
    }

    /// Whether the session runs inside TLS 1.3. Without that there is no Vision.
    pub fn is_tls13(&self) -> bool {
        matches!(&self.security, Security::Tls(engine) if engine.is_tls13())
    }

    /// Says that the request was accepted. The response header goes out before the first payload byte (VLESS-2).
    pub fn accept_request(&mut self) {
        self.response = Response::Due;
        self.forget_names();
    }

    /// Says that the client is a stranger who is passed on. The downlink carries payload alone, without a VLESS header.
    pub fn accept_stranger(&mut self) {
        self.response = Response::Sent;
        self.forget_names();
    }

    /// By which names the client came; empty without TLS.
    pub fn names(&self) -> TlsNames {
        match &self.security {
            Security::Tls(engine) => engine.names(),
            _ => TlsNames::default(),
        }
    }

    fn forget_names(&mut self) {
        if let Security::Tls(engine) = &mut self.security {
            engine.forget_names();
        }
    }

    /// Says that the request was accepted and asks for Vision. `user_id` is the id as it was received.
    pub fn accept_vision(&mut self, user_id: [u8; 16], seed: Seed) {
        self.response = Response::Due;
        self.forget_names();
        self.vision = Some(Box::new(Vision::new(user_id, seed)));
    }

    /// Appends to `payload` what `plaintext`, the rest of the record behind the request header, carries.
    pub fn decode_first(&mut self, plaintext: &[u8], payload: &mut Buf) -> Result<(), InboundError> {
        match &mut self.vision {
            Some(vision) => vision.decode(plaintext, payload)?,
            None if payload.append(plaintext) => {}
            None => return Err(InboundError::NoRoom),
        }
        self.drop_tls_when_left();
        Ok(())
    }

    /// Decodes from the front of `wire` into `payload` (behind what is there).
    ///
    /// With TLS it takes whole records only. The rest stays in `wire` until more has arrived. `payload` must have room
    /// for a full record.
    ///
    /// # Errors
    /// The client broke TLS or Vision. The caller takes the alert ([`Inbound::take_outgoing`]) and calls nothing else.
    pub fn decode(&mut self, wire: &mut Buf, payload: &mut Buf, step: Step) -> Result<Converted, InboundError> {
        if let Security::TlsUntouched(acceptor) = &self.security {
            self.security = Security::Tls(Box::new(acceptor.engine()?));
        }
        if self.is_uplink_transparent() {
            return Ok(Converted::Unchanged);
        }
        while !wire.is_empty() && !self.is_uplink_closed() {
            let length = match record::record_len(wire.bytes()) {
                Record::NeedMore => return Ok(Converted::Moved { again: false }),
                Record::Whole(length) if payload.spare() < length => return Ok(Converted::Moved { again: true }),
                Record::Whole(length) => length,
                Record::Impossible => return Err(self.refuse_record(wire)),
            };
            let record = wire.bytes_mut().get_mut(..length).ok_or(InboundError::NoRoom)?;
            self.decode_record(record, payload)?;
            wire.consume(length);
            // Behind a record that ended in DIRECT the bytes are raw and must not enter TLS.
            if step == Step::OneRecord || self.is_uplink_transparent() {
                self.drop_tls_when_left();
                return Ok(Converted::Moved { again: !wire.is_empty() });
            }
        }
        self.drop_tls_when_left();
        Ok(Converted::Moved { again: false })
    }

    fn decode_record(&mut self, record: &mut [u8], payload: &mut Buf) -> Result<(), InboundError> {
        let Security::Tls(engine) = &mut self.security else { return Ok(()) };
        let mut result = Ok(());
        match &mut self.vision {
            None => engine.feed_into(record, payload)?,
            Some(vision) => engine.feed(record, |bytes| {
                if result.is_ok() {
                    result = vision.decode(bytes, payload);
                }
            })?,
        }
        self.uplink_closed = engine.is_peer_closed();
        result
    }

    /// Gives TLS what cannot be a record, so that its own alert answers. The connection is over, whatever TLS says.
    fn refuse_record(&mut self, wire: &mut Buf) -> InboundError {
        match &mut self.security {
            Security::Tls(engine) => match engine.feed(wire.bytes_mut(), |_| ()) {
                Ok(()) => InboundError::BadRecord,
                Err(error) => error.into(),
            },
            _ => InboundError::BadRecord,
        }
    }

    /// How many bytes complete the record that `wire` begins, or its header.
    pub fn missing_bytes(&self, wire: &[u8]) -> usize {
        if self.is_uplink_transparent() { usize::MAX } else { record::missing_bytes(wire) }
    }

    /// Whether no payload follows in the uplink, because the client closed its direction inside TLS.
    pub fn is_uplink_closed(&self) -> bool {
        self.uplink_closed && !self.is_uplink_direct()
    }

    /// Whether the uplink may end here, if all that was received was decoded: no record and no block is cut.
    pub fn may_uplink_end(&self, is_all_decoded: bool) -> bool {
        let is_block_cut = self.vision.as_ref().is_some_and(|vision| vision.is_uplink_cut());
        (is_all_decoded || self.is_uplink_closed()) && !is_block_cut
    }

    /// Whether the uplink has left TLS.
    pub fn is_uplink_direct(&self) -> bool {
        match &self.vision {
            Some(vision) => vision.uplink_phase() == Phase::Raw,
            None => matches!(self.security, Security::Left),
        }
    }

    /// Whether the downlink has left TLS. Nothing may be sent through it any more then.
    pub fn is_downlink_direct(&self) -> bool {
        match &self.vision {
            Some(vision) => vision.downlink_phase() == Phase::Raw,
            None => matches!(self.security, Security::Left),
        }
    }

    /// Whether the uplink's bytes are payload as they stand, for good.
    pub fn is_uplink_transparent(&self) -> bool {
        matches!(self.security, Security::Plain) || self.is_uplink_direct()
    }

    /// Whether the downlink's payload goes out as it stands, for good.
    pub fn is_downlink_transparent(&self) -> bool {
        self.is_downlink_direct() || (matches!(self.security, Security::Plain) && self.response == Response::Sent)
    }

    /// Bytes that Vision sent and received around payload so far.
    pub fn padding(&self) -> Padding {
        self.vision.as_ref().map_or(self.padding, |vision| vision.padding())
    }

    /// The most payload for one [`Inbound::encode`], in bytes, so that records come out full. At most `read_bytes_max`.
    pub fn encode_bytes_max(&self, read_bytes_max: usize) -> usize {
        let headers = if self.response == Response::Due { request::RESPONSE.len() } else { 0 };
        match &self.vision {
            Some(vision) if vision.downlink_phase() == Phase::Padded => read_bytes_max.min(PADDED_BYTES_MAX),
            _ if self.is_downlink_transparent() => read_bytes_max,
            // The header in front must fit a buffer, too, in case the client takes nothing of it all.
            _ if matches!(self.security, Security::Plain) => read_bytes_max - headers,
            _ => read_bytes_max.min(RECORDS_PER_READ * RECORD_PAYLOAD_BYTES - headers),
        }
    }

    /// Encodes all of `payload`. It must have [`HEADROOM_BYTES`] free in front and hold at most
    /// [`Inbound::encode_bytes_max`] bytes. `wire` must be an empty buffer of the largest size. `tally` learns which
    /// bytes on the wire carry payload.
    pub fn encode(
        &mut self,
        payload: &mut Buf,
        wire: &mut Buf,
        tally: &mut Tally,
        random: &mut Random,
    ) -> Result<Converted, InboundError> {
        if self.is_downlink_direct() {
            return Ok(Converted::Unchanged);
        }
        let response_due = self.response == Response::Due && !payload.is_empty();
        if response_due {
            self.response = Response::Sent;
        }
        let headers = if response_due { request::RESPONSE.len() } else { 0 };
        let Security::Tls(engine) = &mut self.security else {
            tally.wrap(headers, 0);
            let fits = !response_due || payload.prepend(&request::RESPONSE);
            return if fits { Ok(Converted::Unchanged) } else { Err(InboundError::NoRoom) };
        };
        take_outgoing(engine, wire, tally);
        if let Some(vision) = &mut self.vision
            && vision.downlink_phase() == Phase::Padded
        {
            vision.encode(response_due, payload, Records { engine, wire, tally }, random)?;
            self.drop_tls_when_left();
            return Ok(Converted::Moved { again: false });
        }
        if response_due && !payload.prepend(&request::RESPONSE) {
            return Err(InboundError::NoRoom);
        }
        seal_all(engine, headers, payload, wire, tally)
    }

    /// Ends the downlink. It appends to `wire` what is still due: the response header if no payload ever carried it,
    /// and TLS's close_notify. With Vision the header is never sent alone. Once the downlink is raw, nothing is due.
    pub fn finish(&mut self, wire: &mut Buf, tally: &mut Tally) -> Result<(), InboundError> {
        if self.is_downlink_direct() {
            return Ok(());
        }
        let header_due = mem::replace(&mut self.response, Response::Sent) == Response::Due && self.vision.is_none();
        let Security::Tls(engine) = &mut self.security else {
            if header_due {
                tally.wrap(request::RESPONSE.len(), 0);
                return if wire.append(&request::RESPONSE) { Ok(()) } else { Err(InboundError::NoRoom) };
            }
            return Ok(());
        };
        take_outgoing(engine, wire, tally);
        if header_due {
            let sealed = engine.seal(&request::RESPONSE, wire)?;
            tally.wrap(sealed, 0);
        }
        engine.close();
        take_outgoing(engine, wire, tally);
        self.downlink_finished = true;
        self.drop_tls_when_left();
        Ok(())
    }

    /// Refuses or gives up. Nothing but close_notify follows, and only if TLS is open and still in use.
    pub fn close(&mut self) {
        if let Security::Tls(engine) = &mut self.security {
            engine.close();
        }
    }

    /// TLS has something to say that nobody asked for, and may still say it.
    pub fn has_outgoing(&self) -> bool {
        matches!(&self.security, Security::Tls(engine) if engine.has_outgoing()) && !self.is_downlink_direct()
    }

    /// Moves what TLS has to say unasked to the end of `wire`, as much as fits.
    pub fn take_outgoing(&mut self, wire: &mut Buf, tally: &mut Tally) {
        let is_downlink_direct = self.is_downlink_direct();
        if let Security::Tls(engine) = &mut self.security
            && !is_downlink_direct
        {
            take_outgoing(engine, wire, tally);
        }
    }

    /// Frees TLS as soon as neither direction needs it, and Vision when there is nothing more for it to know.
    fn drop_tls_when_left(&mut self) {
        if self.is_uplink_direct() && self.is_downlink_direct() {
            self.padding = self.padding();
            self.vision = None;
            self.security = Security::Left;
            return;
        }
        let uplink_needs_it = !self.is_uplink_direct() && !self.uplink_closed;
        let downlink_needs_it = !self.is_downlink_direct() && (!self.downlink_finished || self.has_outgoing());
        if !uplink_needs_it && !downlink_needs_it {
            self.security = Security::Plain;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffer_pool::BUFFER_BYTES_MAX;

    #[test]
    fn a_full_read_and_the_response_header_fit_one_buffer() {
        let mut inbound = Inbound::plain();
        inbound.accept_request();
        assert_eq!(inbound.encode_bytes_max(BUFFER_BYTES_MAX) + HEADROOM_BYTES, BUFFER_BYTES_MAX);
    }
}
