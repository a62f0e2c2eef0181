//! Vision on real sockets: our server between a client with its own idea of Vision and a target that a test plays.
//!
//! Every test goes step by step: what one end says, the other must have heard before the next step. So each step meets
//! the server in a known state, and no test depends on timing.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod deadlines;
mod endings;
mod padding;
mod splice;
mod switch;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use support::inner_tls::{CHANGE_CIPHER_SPEC, Inner, client_hello, data, record, server_hello};
use support::server::{Options, Server, VISION};
use support::vision_client::{CONTINUE, DIRECT, END, How, Phase, VisionClient};
use support::{bounded, reset_on_close};

/// A client and the target it asked for, with our server between them.
struct Talk {
    client: VisionClient,
    target: Target,
    /// How the client sends.
    up_phase: Phase,
}

/// The target's end of a session.
struct Target(TcpStream);

fn server() -> Server {
    Server::start(Options::tls())
}

impl Talk {
    /// The target has received the inner ClientHello.
    fn begin(server: &Server) -> Self {
        Self::begin_with(server, How::with(VISION), &client_hello())
    }

    /// The target has received `first`.
    fn begin_with(server: &Server, how: How, first: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = VisionClient::open(server, how, listener.local_addr().unwrap(), first);
        let mut target = Target::accept(&listener);
        target.expect(first);
        Self { client, target, up_phase: Phase::Padded }
    }

    /// The inner handshake is done, both directions are still padded.
    fn shaken(server: &Server, inner: Inner) -> Self {
        Self::shaken_with(server, How::with(VISION), inner)
    }

    fn shaken_with(server: &Server, how: How, inner: Inner) -> Self {
        let mut talk = Self::begin_with(server, how, &client_hello());
        talk.say_down(&[&server_hello(inner), CHANGE_CIPHER_SPEC, &record(0x16, 2000)].concat());
        talk.say_up(&[CHANGE_CIPHER_SPEC, &data(53)].concat());
        talk
    }

    /// Inner TLS 1.3, and both directions have left TLS.
    fn direct(server: &Server) -> Self {
        Self::direct_with(server, How::with(VISION))
    }

    fn direct_with(server: &Server, how: How) -> Self {
        let mut talk = Self::shaken_with(server, how, Inner::Tls13);
        talk.bring_up(Phase::Raw);
        talk.say_down(&data(700));
        assert_eq!(talk.client.down.phase, Phase::Raw);
        talk
    }

    /// Ends the uplink's padding this way.
    fn bring_up(&mut self, phase: Phase) {
        let command = match phase {
            Phase::Padded => CONTINUE,
            Phase::Tls => END,
            Phase::Raw => DIRECT,
        };
        let content = data(333);
        self.client.up.send_block(command, &content, 77);
        self.target.expect(&content);
        self.up_phase = phase;
    }

    /// The client says `content`, which the target receives.
    fn say_up(&mut self, content: &[u8]) {
        match self.up_phase {
            Phase::Padded => self.client.up.send_block(CONTINUE, content, 30),
            Phase::Tls => self.client.up.send_tls(content),
            Phase::Raw => self.client.up.send_wire(content),
        }
        self.target.expect(content);
    }

    /// The target says `content`, which the client receives.
    fn say_down(&mut self, content: &[u8]) {
        self.target.say(content);
        self.client.down.expect(content);
    }

    /// The client ends its direction in order, which the target sees.
    fn end_up(&mut self) {
        if self.up_phase != Phase::Raw {
            let goodbye = self.client.up.close_notify();
            self.client.up.send_wire(&goodbye);
        }
        self.client.up.finish();
        self.target.expect_end();
    }

    /// The target ends its direction in order, which the client sees.
    fn end_down(&mut self) {
        self.target.finish();
        self.client.down.expect_end();
    }
}

impl Target {
    fn accept(listener: &TcpListener) -> Self {
        Self(bounded(listener.accept().unwrap().0))
    }

    fn say(&self, bytes: &[u8]) {
        (&self.0).write_all(bytes).unwrap();
    }

    #[track_caller]
    fn expect(&mut self, expected: &[u8]) {
        let mut chunk = vec![0; 64 << 10];
        for part in expected.chunks(chunk.len()) {
            self.0.read_exact(&mut chunk[..part.len()]).unwrap();
            assert!(chunk[..part.len()] == *part, "other bytes than the client said");
        }
    }

    fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    #[track_caller]
    fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap(), 0, "a byte that the client never said");
    }

    #[track_caller]
    fn expect_reset(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    fn reset(self) {
        reset_on_close(&self.0);
    }

    /// The same connection, for another thread.
    fn again(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }
}
