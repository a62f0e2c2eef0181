//! The program as its own process, and what it says on stderr.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::client::request;
use crate::support::{bounded, wait_until};

/// A configuration as tests write it: `PORT` stands for the server's port.
pub(crate) struct Process {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Serves `config` in a folder of its own, into which `prepare` may put more first. Returns when it listens.
    pub(crate) fn start(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        // Free when we looked; should somebody else take it, the start fails loudly.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let file = folder.path().join("config.json");
        fs::write(&file, with_port(config, address)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vless-rust"))
            .arg("run")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        listen_to(child.stderr.take().unwrap(), Arc::clone(&said));
        let process = Self { child, folder, address, said };
        wait_until("the server listens", || TcpStream::connect(address).is_ok());
        process
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lines of stderr so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// A plain VLESS session to `origin`; `None` if the server ends it without an answer.
    pub(crate) fn open(&self, id: &[u8; 16], origin: SocketAddr) -> Option<TcpStream> {
        let mut socket = bounded(TcpStream::connect(self.address).unwrap());
        socket.write_all(&request(id, origin)).unwrap();
        socket.write_all(b"ping").unwrap();
        let mut answer = [0; 6];
        socket.read_exact(&mut answer).ok()?;
        assert_eq!(&answer, b"\0\0ping");
        Some(socket)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("{}", self.said().join("\n"));
        }
    }
}

/// Whether a session still carries bytes both ways.
pub(crate) fn echoes(mut session: &TcpStream) -> bool {
    let mut answer = [0; 4];
    session.write_all(b"more").is_ok() && session.read_exact(&mut answer).is_ok() && &answer == b"more"
}

fn with_port(config: &str, address: SocketAddr) -> String {
    config.replace("PORT", &address.port().to_string())
}

fn listen_to(stderr: ChildStderr, said: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said.lock().unwrap().push(line);
        }
    });
}
