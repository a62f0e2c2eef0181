//! A control plane with a backend of the test's, and clients that speak HTTP by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use vless_rust::control::Control;
use vless_rust::control::backend::{Backend, Denied, Done, Order};
use vless_rust::control::guard::Keys;
use vless_rust::control::listeners::Places;
use vless_rust::control::sample::{
    CertificateSample, ClusterSample, NodeSample, Sample, ServerState, UserLimits, UserSample,
};
use vless_rust::control::settings::Settings;
use vless_rust::control::state::Saved;

use super::support::{PATIENCE, bounded, wait_until};

pub const VIEW: &str = "the-token-that-looks";
pub const ADMIN: &str = "the-token-that-changes";
/// The credential of the only user, and its text.
pub const ID: [u8; 16] = *b"\x57\x83\xa3\xe7\xe3\x73\x51\xcd\x86\x42\xc8\x37\x82\xb8\x07\xc5";
pub const ID_TEXT: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";

/// Says what the test put into it, and writes down what it is asked to do.
pub struct Fake {
    pub sample: Mutex<Sample>,
    pub orders: Mutex<Vec<Order>>,
    /// How many orders came together, each time.
    pub together: Mutex<Vec<usize>>,
    #[expect(clippy::type_complexity, reason = "one function, set by a test")]
    pub answer: Mutex<Box<dyn Fn(&Order) -> Result<Done, Denied> + Send>>,
}

impl Backend for Fake {
    fn sample(&self) -> Sample {
        self.sample.lock().unwrap().clone()
    }

    fn execute(&self, order: Order) -> Result<Done, Denied> {
        let result = (self.answer.lock().unwrap())(&order);
        self.orders.lock().unwrap().push(order);
        result
    }

    fn execute_all(&self, orders: Vec<Order>) -> Vec<Result<Done, Denied>> {
        self.together.lock().unwrap().push(orders.len());
        orders.into_iter().map(|order| self.execute(order)).collect()
    }
}

pub struct Plane {
    pub control: Control,
    pub backend: Arc<Fake>,
    pub address: SocketAddr,
}

/// A server with one user and one certificate.
pub fn sample() -> Sample {
    let user = UserSample {
        id: ID,
        ledger_id: ID,
        email: "ann@example.com".into(),
        note: "a \"note\" <b>".into(),
        flow: "xtls-rprx-vision",
        enabled: true,
        limits: UserLimits { quota_period: "none", quota_day: 1, ..UserLimits::default() },
        ..UserSample::default()
    };
    Sample {
        users: vec![user],
        users_revision: 7,
        certificates: vec![CertificateSample {
            names: vec!["vpn.example.com".to_owned()],
            not_after: 4_000_000_000,
            self_signed: true,
            pin_sha256: "cGlu".to_owned(),
            ..CertificateSample::default()
        }],
        closes: vec![("finished", 3), ("idle", 0)],
        rejected: vec![("unknown_user", 2)],
        sessions: 4,
        sessions_max: 100,
        state: ServerState::Serving,
        workers: 1,
        cluster: Some(cluster()),
        ..Sample::default()
    }
}

fn cluster() -> ClusterSample {
    let node =
        NodeSample { name: "fra-1".to_owned(), online: true, certificate_days: Some(3), ..NodeSample::default() };
    ClusterSample { node: "fra-1".to_owned(), is_connected: true, nodes: vec![node], ..ClusterSample::default() }
}

pub fn settings() -> Settings {
    Settings {
        places: Places { tcp: Some("127.0.0.1:0".parse().unwrap()), unix: None },
        keys: Keys {
            token: Some(VIEW.to_owned()),
            admin_token: Some(ADMIN.to_owned()),
            is_loopback: true,
            origin: None,
        },
        rules: Vec::new(),
        performance: serde_json::json!({ "buffer_size": 131_072 }),
        ..Settings::default()
    }
}

impl Plane {
    pub fn start(settings: Settings) -> Self {
        Self::with_state(settings, Saved::default())
    }

    pub fn with_state(settings: Settings, saved: Saved) -> Self {
        let backend = Arc::new(Fake {
            sample: Mutex::new(sample()),
            orders: Mutex::default(),
            together: Mutex::default(),
            answer: Mutex::new(Box::new(|_| Err(Denied::not_found("such thing")))),
        });
        let control = Control::start(settings, saved, Arc::<Fake>::clone(&backend), Instant::now()).unwrap();
        let address = control.address().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let plane = Self { control, backend, address };
        if address.port() > 0 {
            wait_until("the first sample was taken", || plane.get("/readyz").status == 200);
        }
        plane
    }

    pub fn connect(&self) -> TcpStream {
        bounded(TcpStream::connect_timeout(&self.address, PATIENCE).unwrap())
    }

    /// One request with the admin token on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        self.ask_as(Some(ADMIN), method, path, fields, body)
    }

    pub fn ask_as(&self, token: Option<&str>, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{token}{fields}{length}\r\n", self.address);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        read_answer(&mut stream, method == "HEAD")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    /// Asks until the JSON at `path` is as wanted.
    #[track_caller]
    pub fn wait_for(&self, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let body = self.get(path).json();
            if is_wanted(&body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{path} stays {body}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// Reads one answer with the length it says it has.
#[track_caller]
pub fn read_answer(stream: &mut TcpStream, is_head: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let count = stream.read(&mut byte).unwrap();
        assert_eq!(count, 1, "the answer ended early: {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: Vec::new() };
    let length = answer.field("Content-Length").map_or(0, |length| length.parse().unwrap());
    if !is_head && status != 204 && status != 304 {
        answer.body.resize(length, 0);
        stream.read_exact(&mut answer.body).unwrap();
    }
    answer
}

/// Reads to the end; a reset is an end, too.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("no end came: {error}; so far {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}
