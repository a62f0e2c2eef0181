//! A blocking Vision client that owes nothing to the code under test: its own record framing, blocks and unpadding.
//!
//! The uplink does exactly what a test tells it, right or wrong. The downlink is strict: a record with anything but one
//! whole block while padding, a second user id, or a byte of TLS behind DIRECT fails the test. The two halves may live in
//! two threads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConnection, SupportedProtocolVersion, version};
use socket2::{Domain, Socket, Type};

use super::client::config;
use super::server::Server;
use super::{bounded, reset_on_close};

/// The addons of a request with flow Vision, and the longest plaintext that may come in one record while padding: a
/// block of 8192 bytes behind the response header.
pub const ADDONS: &[u8] = b"\x0a\x10xtls-rprx-vision";
const PADDED_RECORD_BYTES_MAX: usize = 8194;

pub const CONTINUE: u8 = 0;
pub const END: u8 = 1;
pub const DIRECT: u8 = 2;

/// One connection to a server.
pub struct VisionClient {
    pub up: Up,
    pub down: Down,
}

/// What the client sends.
pub struct Up {
    tcp: TcpStream,
    tls: Arc<Mutex<ClientConnection>>,
    user: [u8; 16],
    user_due: bool,
}

/// What the client receives.
pub struct Down {
    tcp: TcpStream,
    tls: Arc<Mutex<ClientConnection>>,
    user: [u8; 16],
    user_due: bool,
    /// Received and not yet a whole record.
    wire: Vec<u8>,
    /// What the target said, in order.
    pub content: Vec<u8>,
    pub blocks: Vec<Block>,
    pub phase: Phase,
    pub close_notify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Padded,
    Tls,
    Raw,
}

/// What is remembered of a block that was received.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub command: u8,
    pub content_bytes: usize,
    pub padding_bytes: usize,
    /// All but the content: user id, command, lengths and padding.
    pub around_bytes: usize,
}

/// How a client connects; the rest is the same for all.
#[derive(Clone, Copy)]
pub struct How {
    pub user: [u8; 16],
    pub version: &'static SupportedProtocolVersion,
    /// SO_RCVBUF, for clients that are to be full soon; 0 leaves it to the kernel.
    pub recv_buffer_bytes: usize,
}

impl How {
    pub fn with(user: [u8; 16]) -> Self {
        Self { user, version: &version::TLS13, recv_buffer_bytes: 0 }
    }
}

/// A request with these addons for this command.
pub fn request(user: &[u8; 16], addons: &[u8], command: u8, target: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(target) = target else { panic!("targets of these tests are IPv4") };
    let mut header = vec![0];
    header.extend_from_slice(user);
    header.push(addons.len() as u8);
    header.extend_from_slice(addons);
    header.push(command);
    header.extend_from_slice(&target.port().to_be_bytes());
    header.push(1);
    header.extend_from_slice(&target.ip().octets());
    header
}

impl VisionClient {
    pub fn connect(server: &Server, how: How) -> Self {
        Self::connect_to(server.address, server.certificate.as_ref().expect("a server with TLS"), how)
    }

    pub fn connect_to(address: SocketAddr, certificate: &CertificateDer<'static>, how: How) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if how.recv_buffer_bytes > 0 {
            socket.set_recv_buffer_size(how.recv_buffer_bytes).unwrap();
        }
        socket.connect(&address.into()).unwrap();
        let tcp = bounded(socket.into());
        let settings = config(certificate, &[how.version]);
        let tls = ClientConnection::new(settings, "localhost".try_into().unwrap()).unwrap();
        let tls = Arc::new(Mutex::new(tls));
        let up = Up { tcp: tcp.try_clone().unwrap(), tls: Arc::clone(&tls), user: how.user, user_due: true };
        let mut down = Down {
            tcp,
            tls,
            user: how.user,
            user_due: true,
            wire: Vec::new(),
            content: Vec::new(),
            blocks: Vec::new(),
            phase: Phase::Padded,
            close_notify: false,
        };
        while up.is_handshaking() {
            up.send_wire(&up.take_outgoing());
            if up.is_handshaking() {
                assert!(down.receive().unwrap(), "the server ended the handshake");
            }
        }
        up.send_wire(&up.take_outgoing());
        Self { up, down }
    }

    /// Asks for `target`; the request goes out together with the first block, which carries `first`.
    pub fn open(server: &Server, how: How, target: SocketAddr, first: &[u8]) -> Self {
        let mut client = Self::connect(server, how);
        client.ask(how.user, target, first);
        client
    }

    /// As [`VisionClient::open`], on a connection that is there.
    pub fn ask(&mut self, user: [u8; 16], target: SocketAddr, first: &[u8]) {
        let block = self.up.block(CONTINUE, first, 100);
        self.up.send_tls(&[request(&user, ADDONS, 1, target), block].concat());
    }
}

impl Up {
    fn is_handshaking(&self) -> bool {
        self.tls.lock().unwrap().is_handshaking()
    }

    fn take_outgoing(&self) -> Vec<u8> {
        let mut outgoing = Vec::new();
        let mut tls = self.tls.lock().unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut outgoing).unwrap();
        }
        outgoing
    }

    /// The plaintext of a block, with the user id in front of the first.
    pub fn block(&mut self, command: u8, content: &[u8], padding_bytes: u16) -> Vec<u8> {
        let mut block = Vec::new();
        if std::mem::take(&mut self.user_due) {
            block.extend_from_slice(&self.user);
        }
        block.push(command);
        block.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        block.extend_from_slice(&padding_bytes.to_be_bytes());
        block.extend_from_slice(content);
        block.resize(block.len() + usize::from(padding_bytes), 0xa5);
        block
    }

    /// Records that carry `plaintext`: one, if it is not longer than a record can be.
    pub fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        for part in plaintext.chunks(16 << 10) {
            self.tls.lock().unwrap().writer().write_all(part).unwrap();
            wire.extend(self.take_outgoing());
        }
        wire
    }

    pub fn send_tls(&self, plaintext: &[u8]) {
        self.send_wire(&self.seal(plaintext));
    }

    pub fn send_block(&mut self, command: u8, content: &[u8], padding_bytes: u16) {
        let block = self.block(command, content, padding_bytes);
        self.send_tls(&block);
    }

    /// Sends below TLS.
    pub fn send_wire(&self, bytes: &[u8]) {
        (&self.tcp).write_all(bytes).unwrap();
    }

    /// Asks the other side to change its keys, which it would answer with a record of its own.
    pub fn send_key_update(&self) {
        self.tls.lock().unwrap().refresh_traffic_keys().unwrap();
        self.send_wire(&self.take_outgoing());
    }

    /// The record with which TLS says goodbye.
    pub fn close_notify(&self) -> Vec<u8> {
        self.tls.lock().unwrap().send_close_notify();
        self.take_outgoing()
    }

    /// Ends the TCP stream.
    pub fn finish(&self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// The next close of the connection, with which both halves must be dropped, breaks it.
    pub fn reset_on_close(&self) {
        reset_on_close(&self.tcp);
    }

    /// The socket itself, for bytes that may not be taken.
    pub fn wire(&self) -> &TcpStream {
        &self.tcp
    }
}

impl Down {
    /// Receives something; false at the end of the stream.
    pub fn receive(&mut self) -> io::Result<bool> {
        let mut chunk = vec![0; 256 << 10];
        let count = (&self.tcp).read(&mut chunk)?;
        self.wire.extend_from_slice(&chunk[..count]);
        while self.phase != Phase::Raw {
            let Some(record) = take_record(&mut self.wire) else { break };
            assert!(!self.close_notify, "a record behind close_notify");
            let plaintext = self.open(&record);
            match self.phase {
                _ if plaintext.is_empty() => {}
                Phase::Padded => self.take_block(&plaintext),
                Phase::Tls => self.content.extend_from_slice(&plaintext),
                Phase::Raw => unreachable!(),
            }
        }
        if self.phase == Phase::Raw {
            self.content.append(&mut self.wire);
        }
        Ok(count > 0)
    }

    /// One record goes into TLS; what comes out is its payload, nothing for handshake messages and alerts.
    fn open(&mut self, record: &[u8]) -> Vec<u8> {
        let mut tls = self.tls.lock().unwrap();
        let mut rest = record;
        let mut plaintext = Vec::new();
        while !rest.is_empty() {
            tls.read_tls(&mut rest).unwrap();
            let state = tls.process_new_packets().unwrap();
            self.close_notify |= state.peer_has_closed();
            let mut chunk = [0; 16 << 10];
            while let Ok(count @ 1..) = tls.reader().read(&mut chunk) {
                plaintext.extend_from_slice(&chunk[..count]);
            }
        }
        plaintext
    }

    fn take_block(&mut self, plaintext: &[u8]) {
        assert!(plaintext.len() <= PADDED_RECORD_BYTES_MAX, "a block of {} bytes", plaintext.len());
        let mut block = plaintext;
        let user_bytes = if std::mem::take(&mut self.user_due) {
            let expected = [&[0, 0], &self.user[..]].concat();
            block = block.strip_prefix(&expected[..]).expect("the response header and the id as it was sent");
            self.user.len()
        } else {
            0
        };
        let &[command @ CONTINUE..=DIRECT, c1, c0, p1, p0, ref rest @ ..] = block else {
            panic!("no block header: {:02x?}", &block[..block.len().min(5)])
        };
        let [content_bytes, padding_bytes] = [[c1, c0], [p1, p0]].map(|field| usize::from(u16::from_be_bytes(field)));
        assert_eq!(rest.len(), content_bytes + padding_bytes, "a record is exactly one block");
        self.content.extend_from_slice(&rest[..content_bytes]);
        let around_bytes = user_bytes + 5 + padding_bytes;
        self.blocks.push(Block { command, content_bytes, padding_bytes, around_bytes });
        self.phase = [Phase::Padded, Phase::Tls, Phase::Raw][usize::from(command)];
    }

    /// Receives the next bytes of content, which must be `expected`, and forgets them.
    #[track_caller]
    pub fn expect(&mut self, mut expected: &[u8]) {
        loop {
            let count = self.content.len().min(expected.len());
            assert!(self.content[..count] == expected[..count], "other content than was sent");
            self.content.drain(..count);
            expected = &expected[count..];
            if expected.is_empty() {
                return;
            }
            assert!(self.receive().unwrap(), "the stream ended with {} bytes missing", expected.len());
        }
    }

    /// Receives to the end, which must be an orderly one with nothing left over, and with close_notify only if TLS is
    /// still in use.
    #[track_caller]
    pub fn expect_end(&mut self) {
        while self.receive().unwrap() {}
        assert_eq!(self.content, b"", "bytes that the target never said");
        assert_eq!(self.wire, b"", "a record is cut");
        assert_eq!(self.close_notify, self.phase != Phase::Raw, "in phase {:?}", self.phase);
    }

    /// Receives to the end, which must be a reset.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        loop {
            match self.receive() {
                Ok(true) => {}
                Ok(false) => panic!("an orderly end"),
                Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    }

    /// Receives to an end of any kind, before which there must not be another byte.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        match self.receive() {
            Ok(true) => panic!("{} bytes that nobody said", self.content.len() + self.wire.len()),
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(false) | Err(_) => {}
        }
    }

    /// All bytes around content in the blocks so far.
    pub fn around_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.around_bytes as u64).sum()
    }
}

/// Takes one whole record from the front.
fn take_record(wire: &mut Vec<u8>) -> Option<Vec<u8>> {
    let &[_, _, _, high, low, ..] = &wire[..] else { return None };
    let length = 5 + usize::from(u16::from_be_bytes([high, low]));
    (wire.len() >= length).then(|| wire.drain(..length).collect())
}
