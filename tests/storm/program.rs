//! The server as a process, seen from outside: its memory, and its counters through the API.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, thread};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::ask;
use crate::support::ports::{free_address, free_port};
use crate::support::server::VISION;
use crate::support::wait_until;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A server that ends with this value.
pub(crate) struct Program {
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<CertificateDer<'static>>,
    said: Arc<Mutex<Vec<String>>>,
    peaks: Arc<Peaks>,
}

#[derive(Default)]
struct Peaks {
    resident_bytes: AtomicU64,
    is_over: AtomicBool,
}

/// The text form of an id.
fn uuid(id: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*id));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

impl Program {
    /// Serves `users`, with TLS or without, with `sections` in its configuration beside what all have.
    pub(crate) fn start(tls: bool, users: &[[u8; 16]], sections: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free when we looked; should somebody else take it, the start fails loudly.
        let address = free_address();
        let flow = |id: &[u8; 16]| if tls && *id == VISION { "xtls-rprx-vision" } else { "" };
        let users: Vec<_> = users.iter().map(|id| json!({ "uuid": uuid(id), "flow": flow(id) })).collect();
        let mut config = json!({
            "server": { "listen": "127.0.0.1", "port": address.port() },
            "users": users,
            "users_file": null,
            "tls": { "enabled": tls },
            "monitoring": { "port": free_port() },
            "connection_pool": { "enabled": false },
            "outbound": { "allow": ["127.0.0.0/8"] },
        });
        config.as_object_mut().unwrap().extend(sections.as_object().unwrap().clone());
        let file = folder.path().join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let program = env::var_os("STORM_SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_vless-rust").into());
        let mut child =
            Command::new(program).arg("run").arg(&file).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let (of_thread, stderr) = (Arc::clone(&said), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                of_thread.lock().unwrap().push(line);
            }
        });
        let peaks = Arc::<Peaks>::default();
        let mut server = Self { child, folder, address, certificate: None, said, peaks };
        wait_until("the server listens", || TcpStream::connect(address).is_ok());
        wait_until("its API answers", || UnixStream::connect(server.folder.path().join("vless-rust.sock")).is_ok());
        server.certificate =
            tls.then(|| CertificateDer::from_pem_file(server.folder.path().join("certs/server.crt")).unwrap());
        server.watch();
        server
    }

    fn watch(&self) {
        let (path, peaks) = (format!("/proc/{}/statm", self.child.id()), Arc::clone(&self.peaks));
        thread::spawn(move || {
            while !peaks.is_over.load(Ordering::Relaxed) {
                let Some(bytes) = resident_bytes(&path) else { return };
                peaks.resident_bytes.fetch_max(bytes, Ordering::Relaxed);
                thread::sleep(LOOK);
            }
        });
    }

    /// The most memory it has had.
    pub(crate) fn resident_bytes_peak(&self) -> u64 {
        self.peaks.resident_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        resident_bytes(&format!("/proc/{}/statm", self.child.id())).unwrap()
    }

    /// Processor time it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let behind_name = text.rsplit(") ").next().unwrap();
        let ticks: u64 = behind_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// A counter or gauge by its name in the metrics.
    #[track_caller]
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let answer = ask(&self.folder.path().join("vless-rust.sock"), "GET", "/api/performance", None, None);
        let found = answer.body["counters"][name].as_u64().filter(|_| answer.status == 200);
        found.unwrap_or_else(|| panic!("no counter {name} in {}", answer.body))
    }

    /// The sum of all series in the metrics whose lines begin so.
    pub(crate) fn sum(&self, beginning: &str) -> u64 {
        let mut stream = UnixStream::connect(self.folder.path().join("vless-rust.sock")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(beginning));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Waits until nobody is served and nothing is held.
    pub(crate) fn wait_until_empty(&self) {
        for name in ["vless_sessions", "vless_buffers_held", "vless_pipes_held", "vless_sessions_awaiting_buffer"] {
            wait_until(&format!("{name} is 0"), || self.counter(name) == 0);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.peaks.is_over.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("{}", self.said.lock().unwrap().join("\n"));
        }
    }
}

fn resident_bytes(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}
