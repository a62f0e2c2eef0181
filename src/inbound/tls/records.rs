//! TLS 1.3 records after the handshake (RFC 8446 5): sealing from one buffer into another, opening likewise.
//!
//! rustls does the handshake and keeps the schedule of the secrets. Its own record layer allocates and copies twice per
//! record in each direction, which was a tenth of the server's CPU time per byte. Here a record is sealed from the
//! bytes that were received straight to where they are sent from, and opened likewise. In exchange the rest of the
//! record protocol is done here: alerts, key updates, limits. Everything else that a client sends after its handshake
//! is an error.

use std::mem;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::aead::{MAX_TAG_LEN, UnboundKey};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, PeerMisbehaved};

use crate::io::buf::Buf;
use crate::protocol::record::RECORD_HEADER_BYTES;

/// What a record adds to its content: header, content type, tag. It is the same for all suites of TLS 1.3 that rustls
/// has.
const OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + 1 + TAG_BYTES;
const TAG_BYTES: usize = 16;
const _: () = assert!(TAG_BYTES == MAX_TAG_LEN);

/// The most content of a record, without its type (RFC 8446 5.1).
const CONTENT_BYTES_MAX: usize = 1 << 14;
/// The most that a record has behind its header (RFC 8446 5.2).
const BODY_BYTES_MAX: usize = CONTENT_BYTES_MAX + 256;

/// Records sealed with one key. AES-GCM is good for 2^24.5 full ones (RFC 8446 5.5). Unit tests use fewer, to get
/// there.
const RECORDS_PER_KEY: u64 = if cfg!(test) { 1 << 8 } else { 1 << 24 };

/// The most records that a client sends without payload between them, as in OpenSSL: each costs us as much as a full one.
const EMPTY_RECORDS_MAX: u32 = 32;

/// The most key updates that a client sends without payload between them. Each costs us more than it costs the client.
const KEY_UPDATES_MAX: u32 = 32;

/// Content types (RFC 8446 B.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// A whole key update message, but for its last byte: type, and a length of one (RFC 8446 4.6.3).
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// The records of one connection, both directions.
pub(super) struct RecordLayer {
    /// Knows how to derive the next secrets.
    secrets: KernelConnection<ServerConnectionData>,
    seal: Keys,
    open: Keys,
    /// The beginning of a handshake message that a client spread over records. Only a key update may come.
    handshake: Vec<u8>,
    key_updates: u32,
    /// Records without payload since the last with some.
    empty_records: u32,
    /// The client asked for a key update of ours, which goes before the next record.
    key_update_due: bool,
}

/// What a record was, besides payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// So many bytes of payload.
    Payload(usize),
    /// Nothing for the application.
    Control,
    /// close_notify.
    Closed,
}

/// Why a record is refused, with the alert that says so.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) alert: Option<AlertDescription>,
    pub(super) error: Error,
}

impl Refusal {
    fn new(alert: AlertDescription, error: Error) -> Self {
        Self { alert: Some(alert), error }
    }

    fn unexpected() -> Self {
        Self::new(
            AlertDescription::UnexpectedMessage,
            Error::General("unexpected record after the handshake".to_owned()),
        )
    }

    fn oversized() -> Self {
        Self::new(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord)
    }
}

/// One direction's key, and how often it was used.
struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("unknown kind of key".to_owned())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::EncryptError)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record (RFC 8446 5.3). The sequence number never comes near its end: keys are replaced
    /// long before.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, mask) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= mask;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl RecordLayer {
    /// Takes over from rustls after the handshake. By then the caller has taken everything that rustls had to say, and
    /// rustls has used everything that it was given.
    pub(super) fn new(connection: UnbufferedServerConnection) -> Result<Self, Error> {
        let (extracted, secrets) = connection.dangerous_into_kernel_connection()?;
        Ok(Self {
            secrets,
            seal: Keys::new(extracted.tx)?,
            open: Keys::new(extracted.rx)?,
            handshake: Vec::new(),
            key_updates: 0,
            empty_records: 0,
            key_update_due: false,
        })
    }

    /// Opens one whole record into the room behind what `payload` holds, which must be as long as the record. The
    /// caller then queues as many bytes as [`Opened::Payload`] says.
    pub(super) fn open_into(&mut self, record: &[u8], payload: &mut Buf) -> Result<Opened, Refusal> {
        let (header, body) = split(record)?;
        let (ciphertext, tag) = body.split_at(body.len() - TAG_BYTES);
        let Some(plaintext) = payload.spare_mut().get_mut(..ciphertext.len()) else {
            return Err(Refusal { alert: None, error: Error::General("no room to decrypt".to_owned()) });
        };
        let nonce = self.open.next_nonce();
        self.open
            .key
            .open_separate_gather(nonce, Aad::from(header), ciphertext, tag, plaintext)
            .map_err(|_| Refusal::new(AlertDescription::BadRecordMac, Error::DecryptError))?;
        self.opened(plaintext)
    }

    /// Opens one whole record in place. Payload then starts behind the record's header.
    pub(super) fn open_in_place(&mut self, record: &mut [u8]) -> Result<Opened, Refusal> {
        split(record)?;
        let (header, body) = record.split_at_mut(RECORD_HEADER_BYTES);
        let (ciphertext, tag) = body.split_at_mut(body.len() - TAG_BYTES);
        let nonce = self.open.next_nonce();
        self.open
            .key
            .open_in_place_separate_tag(nonce, Aad::from(header), tag, ciphertext)
            .map_err(|_| Refusal::new(AlertDescription::BadRecordMac, Error::DecryptError))?;
        self.opened(ciphertext)
    }

    /// Judges what a record held: content, its type, and zeros behind it (RFC 8446 5.4).
    fn opened(&mut self, plaintext: &[u8]) -> Result<Opened, Refusal> {
        // Padding does not lift the limit (RFC 8446 5.4).
        if plaintext.len() > CONTENT_BYTES_MAX + 1 {
            return Err(Refusal::oversized());
        }
        let end = plaintext.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let Some((&content_type, content)) = plaintext.get(..end).and_then(<[u8]>::split_last) else {
            return Err(Refusal::unexpected());
        };
        match content_type {
            // A handshake message may not be interrupted (RFC 8446 5.1).
            APPLICATION_DATA if self.handshake.is_empty() => {
                if content.is_empty() {
                    self.note_empty_record()?;
                } else {
                    (self.key_updates, self.empty_records) = (0, 0);
                }
                Ok(Opened::Payload(content.len()))
            }
            ALERT if self.handshake.is_empty() && !content.is_empty() => {
                self.note_empty_record()?;
                alert(content)
            }
            HANDSHAKE if !content.is_empty() => self.on_handshake(content),
            _ => Err(Refusal::unexpected()),
        }
    }

    /// A record brought no payload, which is allowed and only so often in a row.
    fn note_empty_record(&mut self) -> Result<(), Refusal> {
        self.empty_records += 1;
        if self.empty_records > EMPTY_RECORDS_MAX {
            return Err(Refusal::new(
                AlertDescription::UnexpectedMessage,
                Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments),
            ));
        }
        Ok(())
    }

    fn on_handshake(&mut self, content: &[u8]) -> Result<Opened, Refusal> {
        self.handshake.extend_from_slice(content);
        let message = &self.handshake;
        let is_key_update = message.iter().zip(&KEY_UPDATE).all(|(byte, expected)| byte == expected);
        if !is_key_update || message.len() > KEY_UPDATE.len() + 1 {
            return Err(Refusal::unexpected());
        }
        let Some(&wanted) = message.get(KEY_UPDATE.len()) else { return Ok(Opened::Control) };
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_MAX {
            return Err(Refusal::new(
                AlertDescription::UnexpectedMessage,
                Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests),
            ));
        }
        match wanted {
            0 => {}
            1 => self.key_update_due = true,
            _ => {
                let error = Error::InvalidMessage(rustls::InvalidMessage::InvalidKeyUpdate);
                return Err(Refusal::new(AlertDescription::IllegalParameter, error));
            }
        }
        self.handshake = Vec::new();
        let internal = |error| Refusal::new(AlertDescription::InternalError, error);
        self.open = self.secrets.update_rx_secret().and_then(Keys::new).map_err(internal)?;
        Ok(Opened::Control)
    }

    /// Seals `payload`, at most 2^14 bytes, as one record behind what is in `wire`. A key update goes before it if one
    /// is due. Returns the bytes added.
    pub(super) fn seal(&mut self, payload: &[u8], wire: &mut Buf) -> Result<usize, Error> {
        let before = wire.len();
        if mem::take(&mut self.key_update_due) || self.seal.sequence >= RECORDS_PER_KEY {
            let [kind, high, middle, low] = KEY_UPDATE;
            // The last byte: an update of theirs is not asked for.
            self.seal_as(HANDSHAKE, &[kind, high, middle, low, 0], wire)?;
            self.seal = self.secrets.update_tx_secret().and_then(Keys::new)?;
        }
        self.seal_as(APPLICATION_DATA, payload, wire)?;
        Ok(wire.len() - before)
    }

    /// Seals an alert behind what is in `wire`.
    pub(super) fn seal_alert(&mut self, alert: AlertDescription, wire: &mut Buf) -> Result<(), Error> {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        let level = if alert == AlertDescription::CloseNotify { WARNING } else { FATAL };
        self.seal_as(ALERT, &[level, alert.into()], wire)
    }

    fn seal_as(&mut self, content_type: u8, content: &[u8], wire: &mut Buf) -> Result<(), Error> {
        let Some(record) = wire.spare_mut().get_mut(..content.len() + OVERHEAD_BYTES) else {
            return Err(Error::EncryptError);
        };
        let (header, body) = record.split_at_mut(RECORD_HEADER_BYTES);
        let [high, low] = (body.len() as u16).to_be_bytes();
        header.copy_from_slice(&[APPLICATION_DATA, 3, 3, high, low]);
        let (ciphertext, type_and_tag) = body.split_at_mut(content.len());
        let nonce = self.seal.next_nonce();
        self.seal
            .key
            .seal_out_of_place_scatter(nonce, Aad::from(&*header), content, ciphertext, &[content_type], type_and_tag)
            .map_err(|_| Error::EncryptError)?;
        wire.fill(content.len() + OVERHEAD_BYTES);
        Ok(())
    }
}

/// Header and body of a record that can be a protected one.
fn split(record: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let Some((header, body)) = record.split_first_chunk::<RECORD_HEADER_BYTES>() else {
        return Err(Refusal::unexpected());
    };
    let [content_type, _, _, high, low] = *header;
    if content_type != APPLICATION_DATA {
        return Err(Refusal::unexpected());
    }
    // What the header announces: of a record that is too long for anybody only the beginning is given.
    if usize::from(u16::from_be_bytes([high, low])) > BODY_BYTES_MAX {
        return Err(Refusal::oversized());
    }
    if body.len() <= TAG_BYTES {
        return Err(Refusal::new(AlertDescription::BadRecordMac, Error::DecryptError));
    }
    Ok((header, body))
}

fn alert(content: &[u8]) -> Result<Opened, Refusal> {
    let &[_, description] = content else {
        let error = Error::InvalidMessage(rustls::InvalidMessage::MessageTooShort);
        return Err(Refusal::new(AlertDescription::DecodeError, error));
    };
    match AlertDescription::from(description) {
        AlertDescription::CloseNotify => Ok(Opened::Closed),
        // Only says why close_notify follows (RFC 8446 6.1).
        AlertDescription::UserCanceled => Ok(Opened::Control),
        // Every other alert ends the connection, whatever its level says; there is nothing to answer.
        description => Err(Refusal { alert: None, error: Error::AlertReceived(description) }),
    }
}
