//! The program as a node of a cluster, and its API.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Answer, ask};
use crate::support::client::request;
use crate::support::ports::{free_address, free_port};
use crate::support::{bounded, wait_until};

pub(crate) struct Node {
    child: Child,
    folder: TempDir,
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// A node of the cluster at `url`, or a server that is alone where that is empty; `more` are further keys of its section, as JSON.
    pub(crate) fn start(name: &str, url: &str, more: &Value) -> Self {
        Self::start_with(name, url, more, &json!([]))
    }

    /// `users` are those in its configuration file.
    pub(crate) fn start_with(name: &str, url: &str, more: &Value, users: &Value) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let mut cluster = json!({ "url": url, "node": name, "interval": 1 });
        for (key, value) in more.as_object().into_iter().flatten() {
            cluster[key] = value.clone();
        }
        let mut config = json!({
            "server": { "listen": "127.0.0.1", "port": address.port(), "workers": 2, "public_ip": format!("{name}.example") },
            "outbound": { "allow": ["127.0.0.0/8"] }, "users": users, "cluster": cluster,
            "monitoring": { "listen": "127.0.0.1", "port": free_port(), "state_interval": 1 },
            "log": { "access": true },
        });
        if url.is_empty() {
            config.as_object_mut().unwrap().remove("cluster");
        }
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let child = spawn(&folder.path().join("config.json"), &said);
        let node = Self { child, folder, name: name.to_owned(), address, said };
        node.wait_until_it_serves();
        node
    }

    fn wait_until_it_serves(&self) {
        wait_until("the node serves", || {
            TcpStream::connect(self.address).is_ok() && UnixStream::connect(self.file("vless-rust.sock")).is_ok()
        });
    }

    pub(crate) fn wait_until_connected(&self) {
        wait_until("the engine answers the node", || self.cluster()["connected"] == true);
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.file("config.json"), &self.said);
        self.wait_until_it_serves();
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        for _ in 0..2 {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        self.child.wait().unwrap();
    }

    /// Has the process neither work nor end, or go on.
    pub(crate) fn pause(&self, is_paused: bool) {
        let signal = if is_paused { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// What `/api/nodes` says.
    pub(crate) fn cluster(&self) -> Value {
        self.ask("GET", "/api/nodes", None, None).body
    }

    pub(crate) fn users(&self) -> Value {
        self.ask("GET", "/api/users", None, None).body
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, revision: Option<u64>, body: Option<&Value>) -> Answer {
        ask(&self.file("vless-rust.sock"), method, path, revision, body)
    }

    /// Makes a change that must succeed, whoever else changes something at the same time.
    #[track_caller]
    pub(crate) fn change(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut revision = self.users()["revision"].as_u64().unwrap();
        for _ in 0..100 {
            let answer = self.ask(method, path, Some(revision), body);
            if answer.status == 412 {
                revision = answer.body["revision"].as_u64().unwrap();
                continue;
            }
            assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
            return answer.body;
        }
        panic!("{method} {path}: always too late");
    }

    pub(crate) fn add(&self, email: &str, limits: &Value) -> [u8; 16] {
        let user = self.change("POST", "/api/users", Some(&json!({ "email": email, "limits": limits })));
        uuid::Uuid::parse_str(user["uuid"].as_str().unwrap()).unwrap().into_bytes()
    }

    /// A session to `origin`, which must echo; `None` if it is refused.
    pub(crate) fn open(&self, id: &[u8; 16], origin: SocketAddr) -> Option<TcpStream> {
        let mut socket = bounded(TcpStream::connect(self.address).unwrap());
        socket.write_all(&request(id, origin)).ok()?;
        socket.write_all(b"ping").ok()?;
        let mut answer = [0; 6];
        socket.read_exact(&mut answer).ok()?;
        assert_eq!(&answer, b"\0\0ping");
        Some(socket)
    }

    #[track_caller]
    pub(crate) fn wait_for_user(&self, email: &str, is_there: bool) {
        wait_until(&format!("{} knows of {email}: {is_there}", self.name), || {
            let users = self.users();
            users["users"].as_array().unwrap().iter().any(|user| user["email"] == email) == is_there
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("--- {}\n{}", self.name, self.said().join("\n"));
        }
    }
}

fn spawn(config: &std::path::Path, said: &Arc<Mutex<Vec<String>>>) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vless-rust"))
        .arg("run")
        .arg(config)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stderr, said) = (child.stderr.take().unwrap(), Arc::clone(said));
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said.lock().unwrap().push(line);
        }
    });
    child
}
