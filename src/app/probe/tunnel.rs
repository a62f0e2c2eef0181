//! One connection to a VLESS server, as a client makes it: TCP, TLS, request, Vision.
//!
//! Owns the order of bytes. Records are given to TLS one by one, so that what follows the switch to direct mode is
//! never decrypted. Blocking, with a timeout on every wait.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};

use super::link::{Link, LinkTls};
use super::witness::client_config;
use crate::protocol::address::Target;
use crate::protocol::record::{Record, record_len};
use crate::protocol::vision::{Phase, Sniff, Unpad, Verdict};

/// For every single wait.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Content of a block, so that block, id and response header fit one record.
const BLOCK_CONTENT_MAX: usize = 7900;
const VISION_ADDONS: &[u8] = b"\x0a\x10xtls-rprx-vision";

/// What is said about bytes that are no TLS.
pub(super) const NOT_TLS: &str = "what came is not TLS";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Tcp,
    Udp,
    /// Many sessions; the server dials nothing until the first frame comes.
    Mux,
}

/// A connection after its TLS handshake.
pub(super) struct Tunnel {
    tcp: TcpStream,
    tls: Option<ClientConnection>,
    /// Received and not yet a whole record.
    wire: Vec<u8>,
    /// Decoded and not yet read.
    content: Vec<u8>,
    /// The request and the id, which go out with the first bytes.
    opening: Vec<u8>,
    is_vision: bool,
    uplink: Phase,
    downlink: Option<Unpad>,
    sniff: Sniff,
    /// Bytes of the response header still to come, at first its two fixed ones.
    response: Response,
    is_ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Response {
    Nothing,
    Version,
    Addons(u8),
    Complete,
}

/// A TLS handshake that is done.
pub(super) struct Shown {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) version: &'static str,
    pub(super) alpn: Option<String>,
}

impl Tunnel {
    /// Speaks TLS on `tcp`, if the link says so.
    ///
    /// # Errors
    /// What the handshake failed with; a TLS error is inside.
    pub(super) fn open(mut tcp: TcpStream, tls: Option<&LinkTls>) -> io::Result<(Self, Option<Shown>)> {
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        tcp.set_nodelay(true)?;
        let mut wire = Vec::new();
        let (mut connection, mut shown) = (None, None);
        if let Some(tls) = tls {
            let (made, seen) = handshake(&mut tcp, tls, &mut wire)?;
            (connection, shown) = (Some(made), Some(seen));
        }
        let tunnel = Self {
            tcp,
            tls: connection,
            wire,
            content: Vec::new(),
            opening: Vec::new(),
            is_vision: false,
            uplink: Phase::Tls,
            downlink: None,
            sniff: Sniff::new(),
            response: Response::Nothing,
            is_ended: false,
        };
        Ok((tunnel, shown))
    }

    /// Puts a request in front of the first bytes that are written.
    pub(super) fn request(&mut self, link: &Link, asked: Asked, target: Option<&Target>) {
        self.is_vision = link.is_vision && asked != Asked::Udp;
        let addons = if self.is_vision { VISION_ADDONS } else { &[] };
        self.opening = vec![0];
        self.opening.extend_from_slice(&link.id);
        self.opening.push(addons.len() as u8);
        self.opening.extend_from_slice(addons);
        self.opening.push(match asked {
            Asked::Tcp => 1,
            Asked::Udp => 2,
            Asked::Mux => 3,
        });
        if let Some(target) = target {
            // A name that is too long leaves the request without a target, which the server refuses.
            let _ = target.encode(&mut self.opening);
        }
        if self.is_vision {
            (self.uplink, self.downlink) = (Phase::Padded, Some(Unpad::new(link.id)));
        }
    }

    /// Whether the server has answered with its two bytes.
    pub(super) fn is_accepted(&self) -> bool {
        self.response == Response::Complete
    }

    /// Whether both directions went past TLS: uplink, downlink.
    pub(super) fn is_direct(&self) -> (bool, bool) {
        (self.uplink == Phase::Raw, self.downlink.as_ref().is_some_and(|unpad| unpad.phase() == Phase::Raw))
    }

    /// For how long a read waits from now on.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.tcp.set_read_timeout(Some(timeout))
    }

    /// Whether the server keeps the connection open without a word for `patience`; its words are not read.
    pub(super) fn is_kept_open(&mut self, patience: Duration) -> io::Result<bool> {
        self.set_read_timeout(patience)?;
        // Tickets of TLS come first, and say nothing about VLESS.
        loop {
            match self.receive() {
                Ok(()) if self.is_ended => return Ok(false),
                Ok(()) => {}
                Err(error) => return Ok(is_timeout(&error)),
            }
        }
    }

    /// Everything decoded so far, for whoever wonders who answered.
    pub(super) fn heard(&self) -> &[u8] {
        &self.content
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; 64 << 10];
        let count = self.tcp.read(&mut chunk)?;
        self.is_ended = count == 0;
        self.wire.extend_from_slice(chunk.get(..count).unwrap_or_default());
        self.digest()
    }

    /// Decodes what is whole.
    fn digest(&mut self) -> io::Result<()> {
        while !self.wire.is_empty() {
            let is_raw = self.tls.is_none() || self.is_direct().1;
            let plaintext = if is_raw {
                std::mem::take(&mut self.wire)
            } else {
                let Some(record) = take_record(&mut self.wire)? else { return Ok(()) };
                let opened = open_record(self.tls.as_mut(), &record)?;
                // TLS has said goodbye; some servers leave TCP open for our half.
                self.is_ended |= opened.is_last;
                opened.plaintext
            };
            self.take(&plaintext)?;
        }
        Ok(())
    }

    fn take(&mut self, mut plaintext: &[u8]) -> io::Result<()> {
        while self.response != Response::Complete {
            let Some((&byte, rest)) = plaintext.split_first() else { return Ok(()) };
            self.response = match self.response {
                Response::Nothing if byte == 0 => Response::Version,
                // A web server, or whatever else a fallback leads to.
                Response::Nothing => {
                    self.content.extend_from_slice(plaintext);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "not a VLESS response"));
                }
                Response::Version if byte == 0 => Response::Complete,
                Response::Version => Response::Addons(byte),
                Response::Addons(left @ 2..) => Response::Addons(left - 1),
                Response::Addons(_) | Response::Complete => Response::Complete,
            };
            plaintext = rest;
        }
        let Some(unpad) = &mut self.downlink else {
            self.content.extend_from_slice(plaintext);
            return Ok(());
        };
        let start = self.content.len();
        while let Some(content) = unpad
            .next_content(&mut plaintext)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a broken Vision block"))?
        {
            self.content.extend_from_slice(content);
        }
        self.sniff.downlink(self.content.get(start..).unwrap_or_default());
        Ok(())
    }

    fn send(&mut self, plaintext: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(plaintext)?;
                while tls.wants_write() {
                    tls.write_tls(&mut self.tcp)?;
                }
                Ok(())
            }
            None => self.tcp.write_all(plaintext),
        }
    }

    /// Content in a block, behind the request if that has not gone out.
    fn send_block(&mut self, content: &[u8]) -> io::Result<()> {
        self.sniff.uplink(content);
        let goes_direct = self.sniff.verdict() == Verdict::Direct && content.starts_with(&[0x17, 3, 3]);
        let ends = matches!(self.sniff.verdict(), Verdict::NotTls | Verdict::TlsOnly);
        let command = if goes_direct { 2 } else { u8::from(ends) };
        let mut block = std::mem::take(&mut self.opening);
        if !block.is_empty() {
            // The id stands in front of the first block only; it is bytes 1 to 16 of the request.
            let id = block.get(1..17).unwrap_or_default().to_vec();
            block.extend_from_slice(&id);
        }
        block.push(command);
        block.extend_from_slice(&(content.len() as u16).to_be_bytes());
        let padding = if content.len() < 900 { 900 - content.len() } else { 64 };
        block.extend_from_slice(&(padding as u16).to_be_bytes());
        block.extend_from_slice(content);
        block.resize(block.len() + padding, 0);
        self.send(&block)?;
        if goes_direct {
            self.uplink = Phase::Raw;
        } else if ends {
            self.uplink = Phase::Tls;
        }
        Ok(())
    }
}

impl Read for Tunnel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.content.is_empty() && !self.is_ended {
            self.receive()?;
        }
        let count = self.content.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.content.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

impl Write for Tunnel {
    /// An empty write sends the request alone.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.uplink {
            Phase::Padded => {
                let part = bytes.get(..bytes.len().min(BLOCK_CONTENT_MAX)).unwrap_or_default();
                self.send_block(part)?;
                Ok(part.len())
            }
            Phase::Tls => {
                let mut plaintext = std::mem::take(&mut self.opening);
                plaintext.extend_from_slice(bytes);
                self.send(&plaintext)?;
                Ok(bytes.len())
            }
            Phase::Raw => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn handshake(tcp: &mut TcpStream, tls: &LinkTls, wire: &mut Vec<u8>) -> io::Result<(ClientConnection, Shown)> {
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the server name of the link is no name"))?;
    let (config, witness) = client_config(&tls.alpn);
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() || connection.wants_write() {
        while connection.wants_write() {
            connection.write_tls(tcp)?;
        }
        if !connection.is_handshaking() {
            break;
        }
        while let Some(record) = take_record(wire)? {
            open_record(Some(&mut connection), &record)?;
        }
        if !connection.is_handshaking() || connection.wants_write() {
            continue;
        }
        let mut chunk = [0; 16 << 10];
        let count = tcp.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        wire.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let alpn = connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let chain = witness.chain();
    Ok((connection, Shown { chain, version, alpn }))
}

/// What was in a record.
struct Opened {
    /// Nothing for handshake messages and alerts.
    plaintext: Vec<u8>,
    /// It was the end of TLS.
    is_last: bool,
}

/// One record goes into TLS.
fn open_record(tls: Option<&mut ClientConnection>, record: &[u8]) -> io::Result<Opened> {
    let Some(tls) = tls else { return Ok(Opened { plaintext: record.to_vec(), is_last: false }) };
    let (mut rest, mut plaintext, mut is_last) = (record, Vec::new(), false);
    while !rest.is_empty() {
        tls.read_tls(&mut rest)?;
        let state = tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        is_last |= state.peer_has_closed();
        let mut chunk = [0; 16 << 10];
        while let Ok(count @ 1..) = tls.reader().read(&mut chunk) {
            plaintext.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }
    Ok(Opened { plaintext, is_last })
}

/// Takes one whole record from the front.
fn take_record(wire: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    match record_len(wire) {
        Record::Whole(length) => Ok(Some(wire.drain(..length).collect())),
        Record::Impossible => Err(io::Error::new(io::ErrorKind::InvalidData, NOT_TLS)),
        Record::NeedMore => Ok(None),
    }
}
