//! Renegotiation, as a real client asks for it: `openssl s_client` with TLS 1.2.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{env, thread};

use vless_rust::session::close::CloseReason;

use crate::support::client::{Client, request};
use crate::support::origin::Origin;
use crate::support::server::{ALICE, Options, Server};
use crate::support::wait_until;

/// `openssl s_client`, which takes an R at the beginning of a line for the wish to renegotiate.
struct Renegotiator {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Renegotiator {
    /// `None` where there is no such program, which CI has.
    fn start(server: &Server) -> Option<Self> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-tls1_2", "-servername", "localhost", "-connect"]);
        let piped = command.arg(server.address.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match piped.stderr(Stdio::piped()).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound && env::var_os("CI").is_none() => return None,
            child => child.unwrap(),
        };
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for mut output in outputs {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = output.read(&mut chunk) {
                    said.lock().unwrap().extend_from_slice(&chunk[..count]);
                }
            });
        }
        Some(Self { child, said })
    }

    fn type_in(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn wait_for(&self, text: &str) {
        wait_until(&format!("openssl says \"{text}\""), || {
            String::from_utf8_lossy(&self.said.lock().unwrap()).contains(text)
        });
    }
}

impl Drop for Renegotiator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_client_that_wants_to_renegotiate_is_told_no_and_nobody_else_notices() {
    let (server, origin) = (Server::start(Options::tls()), Origin::echo());
    let Some(mut client) = Renegotiator::start(&server) else {
        return eprintln!("not run, for there is no `openssl`");
    };
    client.wait_for("Verify return code");
    client.type_in(&[&request(&ALICE, origin.address), &b"first words\n"[..]].concat());
    client.wait_for("\0\0first words");
    client.type_in(b"R\n");
    client.wait_for("RENEGOTIATING");
    // RFC 5246 7.2.2: an alert that the other side may take for the end, as OpenSSL does.
    client.wait_for("no renegotiation");
    server.closed_for(CloseReason::TlsFailed);
    assert_eq!(server.totals().tls_handshakes, 1, "there was no second handshake");
    let next = Client::open(&server, &ALICE, origin.address, b"next");
    next.take_response();
    assert_eq!(next.take(4), b"next");
}
