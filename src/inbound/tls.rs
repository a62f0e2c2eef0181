//! The TLS engine. No module of the data plane but this one and its parts names rustls.
//!
//! The caller owns the wire buffer, does the framing, and hands over exactly one whole record at a time. Whatever
//! follows a record is still the caller's: that lets Vision leave TLS in the middle of a segment. The engine knows no
//! socket. What TLS says unasked (handshake flights, tickets, key-update answers, alerts) collects in
//! [`TlsEngine::outgoing`] until the caller takes it.
//!
//! rustls does the handshake, and all of TLS 1.2. With TLS 1.3 the engine gives up rustls's connection after the
//! handshake; from then on it seals and opens records itself (`records.rs`).

mod acceptor;
mod asked_name;
mod records;

use std::fmt;
use std::mem;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{AlertDescription, ProtocolVersion};

pub use self::acceptor::{Certificate, TlsAcceptor, TlsSettings};
use self::asked_name::AskedName;
pub use self::asked_name::TlsNames;
use self::records::{Opened, RecordLayer, Refusal};
use crate::io::buf::Buf;
use crate::protocol::record::RECORD_HEADER_BYTES;

/// Payload of a full record (RFC 8446 5.1).
pub const RECORD_PAYLOAD_BYTES: usize = 1 << 14;

/// The most that sealing adds to a record, in bytes: header, explicit nonce or content type, tag, and a key update
/// before it.
pub const RECORD_OVERHEAD_BYTES: usize = 64;

/// Room for an alert or a key update under protection: more than either needs.
const CONTROL_BYTES: usize = 256;

/// The most bytes that wait for the rest of a handshake message that a peer splits over records. Any stranger can have
/// this memory. The largest real message, a hello with two post-quantum key shares and an encrypted inner hello, has
/// less than 8 KiB. rustls would take 64 KiB.
const PENDING_BYTES_MAX: usize = 32 << 10;

/// TLS refused to go on. The alert for the peer, if there is one, waits in the engine's output.
///
/// It is boxed because session state keeps it by value, and it is rare.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsError(Box<rustls::Error>);

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One client's TLS.
pub struct TlsEngine {
    stage: Stage,
    /// Records that rustls has seen and not finished with: the beginning of a handshake message. rustls keeps offsets
    /// into them, so they stand in front of whatever it is given next, also when it is only asked to write.
    pending: Vec<u8>,
    /// Bytes for the wire that nobody asked for, in order, before anything sealed later.
    outgoing: Vec<u8>,
    peer_closed: bool,
    close_sent: bool,
    /// The peer broke the protocol. Nobody calls rustls any more: it would look for records that are gone.
    failed: bool,
    /// Hears which name the client asks for; `None` where names are not remembered.
    asked_name: Option<Arc<AskedName>>,
    /// The names of a connection that rustls has given up.
    names: Option<Box<TlsNames>>,
}

enum Stage {
    /// The handshake; with TLS 1.2 the records, too.
    Rustls(Box<UnbufferedServerConnection>),
    /// TLS 1.3 after its handshake.
    Records(Box<RecordLayer>),
    /// Between the two, and for good if rustls refuses to hand over.
    Nothing,
}

impl TlsEngine {
    fn new(connection: UnbufferedServerConnection, asked_name: Option<Arc<AskedName>>) -> Self {
        Self {
            stage: Stage::Rustls(Box::new(connection)),
            pending: Vec::new(),
            outgoing: Vec::new(),
            peer_closed: false,
            close_sent: false,
            failed: false,
            asked_name,
            names: None,
        }
    }

    /// Gives TLS one whole record and hands its payload, if it carries any, to `on_payload`.
    ///
    /// It overwrites `record`, because it decrypts in place. The caller may also give it a header that no record can
    /// have, with whatever follows: TLS then fails with the fitting alert.
    ///
    /// # Errors
    /// The peer broke the protocol. The alert is in [`TlsEngine::outgoing`], and nothing may be fed afterwards.
    pub fn feed(&mut self, record: &mut [u8], mut on_payload: impl FnMut(&[u8])) -> Result<(), TlsError> {
        self.guarded(|engine| {
            let Stage::Records(records) = &mut engine.stage else { return engine.feed_rustls(record, on_payload) };
            let opened = records.open_in_place(record);
            if let Opened::Payload(length @ 1..) = engine.settle(opened)? {
                let behind_header = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
                on_payload(behind_header.get(..length).unwrap_or_default());
            }
            Ok(())
        })
    }

    /// As [`TlsEngine::feed`], but appends the payload to `payload`, which must have room for all of `record`. This is
    /// cheaper: the record is decrypted to where its payload is wanted.
    pub fn feed_into(&mut self, record: &mut [u8], payload: &mut Buf) -> Result<(), TlsError> {
        self.guarded(|engine| {
            if let Stage::Records(records) = &mut engine.stage {
                let opened = records.open_into(record, payload);
                if let Opened::Payload(length) = engine.settle(opened)? {
                    payload.fill(length);
                }
                return Ok(());
            }
            let mut fits = true;
            engine.feed_rustls(record, |bytes| fits &= payload.append(bytes))?;
            if fits { Ok(()) } else { Err(rustls::Error::General("no room to decrypt".to_owned()).into()) }
        })
    }

    /// Ignores what follows close_notify (RFC 8446 6.1), and refuses what follows a failure.
    fn guarded(&mut self, feed: impl FnOnce(&mut Self) -> Result<(), TlsError>) -> Result<(), TlsError> {
        if self.peer_closed {
            return Ok(());
        }
        if self.failed {
            return Err(TlsError::from(rustls::Error::HandshakeNotComplete));
        }
        let outcome = feed(self);
        self.failed = outcome.is_err();
        outcome
    }

    /// Takes note of what a record was. It answers a refused one with its alert.
    fn settle(&mut self, opened: Result<Opened, Refusal>) -> Result<Opened, TlsError> {
        match opened {
            Ok(opened) => {
                self.peer_closed |= opened == Opened::Closed;
                Ok(opened)
            }
            Err(Refusal { alert, error }) => {
                // close_notify was our last word (RFC 8446 6.1).
                if let Some(alert) = alert.filter(|_| !self.close_sent) {
                    self.queue_alert(alert);
                }
                Err(error.into())
            }
        }
    }

    fn queue_alert(&mut self, alert: AlertDescription) {
        let mut wire = Buf::new(CONTROL_BYTES);
        if let Stage::Records(records) = &mut self.stage
            && records.seal_alert(alert, &mut wire).is_ok()
        {
            self.outgoing.extend_from_slice(wire.bytes());
        }
    }

    fn feed_rustls(&mut self, record: &mut [u8], on_payload: impl FnMut(&[u8])) -> Result<(), TlsError> {
        if self.pending.is_empty() {
            let used = self.advance(record, on_payload)?;
            self.pending.extend_from_slice(record.get(used..).unwrap_or_default());
        } else {
            let mut pending = mem::take(&mut self.pending);
            pending.extend_from_slice(record);
            let used = self.advance(&mut pending, on_payload)?;
            pending.drain(..used);
            self.pending = pending;
        }
        if self.pending.len() > PENDING_BYTES_MAX {
            return Err(TlsError::from(rustls::Error::General("handshake message over too many records".to_owned())));
        }
        if self.pending.is_empty() && self.pending.capacity() > 0 {
            self.pending = Vec::new();
        }
        self.take_over()
    }

    /// Lets rustls work until it wants more input. Returns how many bytes of `input` it is done with.
    fn advance(&mut self, input: &mut [u8], mut on_payload: impl FnMut(&[u8])) -> Result<usize, TlsError> {
        let Stage::Rustls(connection) = &mut self.stage else {
            return Err(TlsError::from(rustls::Error::HandshakeNotComplete));
        };
        let mut start = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                connection.process_tls_records(input.get_mut(start..).unwrap_or_default());
            let mut wants_more = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        on_payload(record.map_err(TlsError::from)?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => append_encoded(&mut data, &mut self.outgoing)?,
                // The bytes are in `outgoing`, whose order the caller keeps: for TLS they are as good as sent.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                // Early data is never enabled; the other states mean that TLS waits for input or for us.
                Ok(_) => wants_more = true,
                Err(error) => {
                    collect_alert(connection, &mut self.outgoing);
                    return Err(error.into());
                }
            }
            start += discard;
            if wants_more {
                return Ok(start);
            }
        }
    }

    /// Gives up rustls's connection once a TLS 1.3 handshake is done and nothing of it is left over.
    fn take_over(&mut self) -> Result<(), TlsError> {
        if !self.is_open() || !self.is_tls13() || !self.pending.is_empty() || self.peer_closed {
            return Ok(());
        }
        match mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Rustls(connection) => {
                let asked = self.asked_name.take();
                self.names = asked.map(|asked| Box::new(asked.names(&connection)));
                self.stage = Stage::Records(Box::new(RecordLayer::new(*connection)?));
            }
            other => self.stage = other,
        }
        Ok(())
    }

    /// Bytes for the wire that must go before anything sealed later. The caller takes all of them.
    pub fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Seals `payload`, at most [`RECORD_PAYLOAD_BYTES`] bytes, as one record behind what is in `wire`. Returns the
    /// bytes added. `wire` must have room for the payload and [`RECORD_OVERHEAD_BYTES`] more. The caller takes
    /// [`TlsEngine::outgoing`] before.
    ///
    /// # Errors
    /// The handshake is not done, the peer broke the protocol, or the keys are used up.
    pub fn seal(&mut self, payload: &[u8], wire: &mut Buf) -> Result<usize, TlsError> {
        if self.failed {
            return Err(TlsError::from(rustls::Error::HandshakeNotComplete));
        }
        match &mut self.stage {
            Stage::Records(records) => Ok(records.seal(payload, wire)?),
            Stage::Rustls(connection) => {
                let state = connection.process_tls_records(&mut self.pending).state;
                let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
                    return Err(TlsError::from(rustls::Error::HandshakeNotComplete));
                };
                let length = traffic
                    .encrypt(payload, wire.spare_mut())
                    .map_err(|_| TlsError::from(rustls::Error::EncryptError))?;
                wire.fill(length);
                Ok(length)
            }
            Stage::Nothing => Err(TlsError::from(rustls::Error::HandshakeNotComplete)),
        }
    }

    /// Queues close_notify in [`TlsEngine::outgoing`]: once, and only if the handshake is done and TLS did not fail.
    pub fn close(&mut self) {
        if mem::replace(&mut self.close_sent, true) || self.failed {
            return;
        }
        let Stage::Rustls(connection) = &mut self.stage else {
            return self.queue_alert(AlertDescription::CloseNotify);
        };
        let state = connection.process_tls_records(&mut self.pending).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let start = self.outgoing.len();
            self.outgoing.resize(start + CONTROL_BYTES, 0);
            let room = self.outgoing.get_mut(start..).unwrap_or_default();
            let length = traffic.queue_close_notify(room).unwrap_or(0);
            self.outgoing.truncate(start + length);
        }
    }

    /// By which names the client came, if these are remembered.
    pub fn names(&self) -> TlsNames {
        match (&self.stage, &self.asked_name) {
            (Stage::Rustls(connection), Some(asked)) => asked.names(connection),
            _ => self.names.as_deref().cloned().unwrap_or_default(),
        }
    }

    /// Gives up the names, which nobody needs any more.
    pub fn forget_names(&mut self) {
        self.names = None;
    }

    /// Bytes of memory kept for the beginning of a handshake message.
    pub fn pending_bytes(&self) -> usize {
        self.pending.capacity()
    }

    /// The handshake is done: payload may be sealed and will be decrypted.
    pub fn is_open(&self) -> bool {
        match &self.stage {
            Stage::Rustls(connection) => !connection.is_handshaking(),
            Stage::Records(_) => true,
            Stage::Nothing => false,
        }
    }

    /// The peer sent close_notify: no payload follows.
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// TLS 1.3 was negotiated.
    pub fn is_tls13(&self) -> bool {
        match &self.stage {
            Stage::Rustls(connection) => connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            Stage::Records(_) => true,
            Stage::Nothing => false,
        }
    }
}

/// Takes the alert that rustls queued for an error. Nobody calls rustls beyond that: it would look again at input that
/// is gone, and panic where a message was left in it.
fn collect_alert(connection: &mut UnbufferedServerConnection, outgoing: &mut Vec<u8>) {
    while connection.wants_write() {
        let state = connection.process_tls_records(&mut []).state;
        let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { return };
        if append_encoded(&mut data, outgoing).is_err() {
            return;
        }
    }
}

fn append_encoded<D>(
    data: &mut rustls::unbuffered::EncodeTlsData<'_, D>,
    outgoing: &mut Vec<u8>,
) -> Result<(), TlsError> {
    use rustls::unbuffered::{EncodeError, InsufficientSizeError};

    let start = outgoing.len();
    // The first call is there to ask for the size: nothing fits into nothing.
    let size = match data.encode(&mut []) {
        Ok(0) => return Ok(()),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return Err(TlsError::from(rustls::Error::EncryptError)),
    };
    outgoing.resize(start + size, 0);
    let room = outgoing.get_mut(start..).unwrap_or_default();
    let length = data.encode(room).map_err(|_| TlsError::from(rustls::Error::EncryptError))?;
    outgoing.truncate(start + length);
    Ok(())
}

#[cfg(test)]
mod tests;
