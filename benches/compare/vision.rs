//! The client's Vision: padding blocks out, unpadding in, and the switch to the bare socket in both directions.
//!
//! A block is `[16 bytes user id, first block of a direction only][command][content length u16][padding length u16]
//! [content][padding]`. Command 0: another block follows; 1: this was the last, TLS stays; 2: this was the last, what
//! follows bypasses TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::ClientConfig;

use crate::leg::{Leg, discard};
use crate::tls::Tls;
use crate::vless::Header;

const COMMAND_CONTINUE: u8 = 0;
const COMMAND_END: u8 = 1;
const COMMAND_DIRECT: u8 = 2;

/// VLESS with the flow `xtls-rprx-vision` over TLS.
///
/// The caller sends inner TLS records, whole ones in each call; a call that starts with an application-data record
/// ends the padding of the uplink with the direct command. No caller sends one before it has seen the ServerHello.
pub(crate) struct VisionLeg {
    tls: Tls,
    header: Header,
    uplink: Uplink,
    /// Blocks still to be sent before padding ends by itself.
    blocks_left: usize,
    downlink: Downlink,
    unpad: Unpad,
    random: u64,
    record: Vec<u8>,
    content: Vec<u8>,
    content_head: usize,
}

#[derive(PartialEq, Eq)]
enum Uplink {
    FirstBlock,
    Padded,
    Tls,
    Direct,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Downlink {
    Padded,
    Tls,
    Direct,
}

impl VisionLeg {
    pub(crate) fn open(socket: TcpStream, config: &Arc<ClientConfig>, header: Header) -> io::Result<Self> {
        Ok(Self {
            tls: Tls::open(socket, config)?,
            unpad: Unpad { user: header.user(), state: UnpadState::User(0) },
            header,
            uplink: Uplink::FirstBlock,
            blocks_left: usize::MAX,
            downlink: Downlink::Padded,
            random: 0x2545_f491_4f6c_dd1d,
            record: Vec::new(),
            content: Vec::new(),
            content_head: 0,
        })
    }

    /// Ends the uplink's padding with the block of this number, as for content that is not TLS.
    pub(crate) fn with_blocks_max(mut self, blocks: usize) -> Self {
        self.blocks_left = blocks;
        self
    }

    /// The padding of real clients while they see inner TLS: 900 to 1399 bytes of content and padding together, or up
    /// to 255 of padding behind content that is longer.
    fn padding_bytes(&mut self, content_bytes: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let draw = (self.random >> 32) as usize;
        if content_bytes < 900 { draw % 500 + 900 - content_bytes } else { draw % 256 }
    }

    /// One more record of the padded or encrypted downlink into `content`; false at the end of the stream.
    fn recv_record(&mut self) -> io::Result<bool> {
        self.record.clear();
        let is_open = self.tls.recv_record(&mut self.record)?;
        let bytes = self.header.take_response(&self.record)?;
        if self.downlink == Downlink::Tls {
            self.content.extend_from_slice(bytes);
        } else {
            self.downlink = self.unpad.feed(bytes, &mut self.content)?;
        }
        if self.downlink == Downlink::Direct {
            self.content.extend_from_slice(self.tls.take_unread());
        }
        Ok(is_open)
    }
}

impl Leg for VisionLeg {
    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        if self.uplink == Uplink::Direct {
            return self.tls.socket().write_all(payload);
        }
        if self.uplink == Uplink::Tls {
            return self.tls.send(payload);
        }
        self.blocks_left -= 1;
        let is_direct = payload.starts_with(&[0x17, 3, 3]);
        let padding_bytes = self.padding_bytes(payload.len());
        let mut block = self.header.take_request().unwrap_or_default();
        if self.uplink == Uplink::FirstBlock {
            block.extend(self.header.user());
        }
        let (command, uplink) = match (is_direct, self.blocks_left) {
            (true, _) => (COMMAND_DIRECT, Uplink::Direct),
            (false, 0) => (COMMAND_END, Uplink::Tls),
            (false, _) => (COMMAND_CONTINUE, Uplink::Padded),
        };
        block.push(command);
        block.extend((payload.len() as u16).to_be_bytes());
        block.extend((padding_bytes as u16).to_be_bytes());
        block.extend(payload);
        block.resize(block.len() + padding_bytes, 0);
        self.uplink = uplink;
        // At most one record: several servers misread a block header that is cut in two.
        self.tls.send(&block)
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.content_head == self.content.len() {
            self.content.clear();
            self.content_head = 0;
            if self.downlink == Downlink::Direct {
                return self.tls.socket().read(buf);
            }
            if !self.recv_record()? && self.content.is_empty() {
                return Ok(0);
            }
        }
        let count = buf.len().min(self.content.len() - self.content_head);
        buf[..count].copy_from_slice(&self.content[self.content_head..self.content_head + count]);
        self.content_head += count;
        Ok(count)
    }

    fn skip(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.downlink == Downlink::Direct && self.content_head == self.content.len() {
            discard(self.tls.socket(), buf)
        } else {
            self.recv(buf)
        }
    }

    fn close(&mut self) -> io::Result<()> {
        // A direct uplink belongs to the inner connection: nothing of the outer TLS may enter it any more.
        if self.uplink == Uplink::Direct { Ok(()) } else { self.tls.send_close_notify() }
    }

    fn is_downlink_direct(&self) -> bool {
        self.downlink == Downlink::Direct
    }
}

/// Takes blocks apart, whatever way they are cut.
struct Unpad {
    user: [u8; 16],
    state: UnpadState,
}

#[derive(Clone, Copy)]
enum UnpadState {
    /// This many bytes of the user id were compared.
    User(usize),
    /// This many bytes of the block header are in.
    Header {
        filled: usize,
        bytes: [u8; 5],
    },
    /// Content, then padding, still to come.
    Body {
        command: u8,
        content: usize,
        padding: usize,
    },
    Ended(Downlink),
}

impl Unpad {
    /// Appends the content in these bytes and says what the downlink is from here on.
    fn feed(&mut self, mut bytes: &[u8], content: &mut Vec<u8>) -> io::Result<Downlink> {
        loop {
            self.state = match self.state {
                UnpadState::Ended(downlink) => {
                    content.extend_from_slice(bytes);
                    return Ok(downlink);
                }
                UnpadState::Body { command, content: 0, padding: 0 } => match command {
                    COMMAND_CONTINUE => UnpadState::Header { filled: 0, bytes: [0; 5] },
                    COMMAND_END => UnpadState::Ended(Downlink::Tls),
                    COMMAND_DIRECT => UnpadState::Ended(Downlink::Direct),
                    _ => return Err(io::Error::other("a Vision block has an unknown command")),
                },
                _ if bytes.is_empty() => return Ok(Downlink::Padded),
                UnpadState::User(compared) => {
                    if bytes[0] != self.user[compared] {
                        return Err(io::Error::other("the downlink does not start with the user's id"));
                    }
                    bytes = &bytes[1..];
                    if compared == 15 {
                        UnpadState::Header { filled: 0, bytes: [0; 5] }
                    } else {
                        UnpadState::User(compared + 1)
                    }
                }
                UnpadState::Header { filled, bytes: mut header } => {
                    header[filled] = bytes[0];
                    bytes = &bytes[1..];
                    match (filled, header) {
                        (4, [command, c0, c1, p0, p1]) => UnpadState::Body {
                            command,
                            content: usize::from(u16::from_be_bytes([c0, c1])),
                            padding: usize::from(u16::from_be_bytes([p0, p1])),
                        },
                        _ => UnpadState::Header { filled: filled + 1, bytes: header },
                    }
                }
                UnpadState::Body { command, content: content_left, padding } if content_left > 0 => {
                    let (part, rest) = bytes.split_at(content_left.min(bytes.len()));
                    content.extend_from_slice(part);
                    bytes = rest;
                    UnpadState::Body { command, content: content_left - part.len(), padding }
                }
                UnpadState::Body { command, padding, .. } => {
                    let dropped = padding.min(bytes.len());
                    bytes = &bytes[dropped..];
                    UnpadState::Body { command, content: 0, padding: padding - dropped }
                }
            };
        }
    }
}
