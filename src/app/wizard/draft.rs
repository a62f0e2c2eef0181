//! A configuration that is being put together.
//!
//! Owns what a newcomer's two files contain and how they are written. Accounts are in the users file, so that commands,
//! API and page may change them. Of all else only keys that a newcomer needs are there; the others have defaults.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use uuid::Uuid;

use crate::app::clock::{rfc3339_seconds, unix_time};
use crate::app::config::{DEFAULT_FILE, Flow};
use crate::app::files::folder_of;

/// Needs no privilege, and is a port that browsers and firewalls know for HTTPS.
pub const PORT: u16 = 8443;
/// The port of the page.
pub const MONITORING_PORT: u16 = 9090;
/// The first account.
pub const USER_NAME: &str = "user1@example.com";

/// What was answered so far, at first the defaults.
#[derive(Clone)]
pub struct Draft {
    pub listen: String,
    pub port: u16,
    /// What links name as this server; none = found out.
    pub public: Option<String>,
    pub users: Vec<NewUser>,
    pub tls: Option<DraftTls>,
    pub monitoring: Option<DraftMonitoring>,
    /// `None`: the server is alone.
    pub cluster: Option<DraftCluster>,
}

/// The cluster that the server is to be a node of.
#[derive(Clone)]
pub struct DraftCluster {
    /// A credential.
    pub url: String,
    /// `None`: the name of the machine.
    pub node: Option<String>,
    /// `None`: the system knows who vouches for the engine.
    pub ca_file: Option<String>,
}

/// An account.
#[derive(Clone)]
pub struct NewUser {
    pub name: String,
    /// As typed, or random.
    pub id: String,
}

/// TLS and what depends on it.
#[derive(Clone)]
pub struct DraftTls {
    pub cert_file: String,
    pub key_file: String,
    /// The files are there already.
    pub existing: bool,
    pub server_name: String,
    pub flow: Flow,
}

/// The page and its key.
#[derive(Clone)]
pub struct DraftMonitoring {
    pub listen: String,
    pub port: u16,
    /// Must be known to look, where the page is not on loopback.
    pub token: Option<String>,
    /// Must be known to change things.
    pub admin_token: String,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0".to_owned(),
            port: PORT,
            public: None,
            users: vec![NewUser { name: USER_NAME.to_owned(), id: Uuid::new_v4().to_string() }],
            tls: Some(DraftTls::default()),
            monitoring: Some(DraftMonitoring::default()),
            cluster: None,
        }
    }
}

impl Default for DraftTls {
    fn default() -> Self {
        Self {
            cert_file: "certs/server.crt".to_owned(),
            key_file: "certs/server.key".to_owned(),
            existing: false,
            server_name: "localhost".to_owned(),
            // Every current client speaks it.
            flow: Flow::Vision,
        }
    }
}

impl Default for DraftMonitoring {
    fn default() -> Self {
        Self { listen: "127.0.0.1".to_owned(), port: MONITORING_PORT, token: None, admin_token: random_token() }
    }
}

impl Draft {
    /// The text of the configuration file, which will be at `path`.
    pub fn to_json(&self, path: &Path) -> String {
        let beside = Beside::new(path);
        let mut text = String::from("{\n  \"server\": {\n");
        let mut server = vec![("listen", quoted(&self.listen)), ("port", self.port.to_string())];
        server.extend(self.public.as_ref().map(|public| ("public_ip", quoted(public))));
        section(&mut text, &server);
        // Also where it is the default: whoever reads the file learns where the accounts are.
        let _ = write!(text, "  }},\n  \"users_file\": {},\n  \"tls\": {{\n", quoted(&beside.users));
        section(&mut text, &self.tls_keys());
        text.push_str("  },\n  \"monitoring\": {\n");
        section(&mut text, &self.monitoring_keys(&beside));
        if let Some(cluster) = &self.cluster {
            text.push_str("  },\n  \"cluster\": {\n");
            let mut keys = vec![("url", quoted(&cluster.url))];
            keys.extend(cluster.node.as_ref().map(|node| ("node", quoted(node))));
            keys.extend(cluster.ca_file.as_ref().map(|file| ("ca_file", quoted(file))));
            keys.extend(beside.cluster.as_ref().map(|folder| ("folder", quoted(folder))));
            section(&mut text, &keys);
        }
        text.push_str("  }\n}\n");
        text
    }

    /// The text of the users file. Flows are those of the configuration, for all accounts.
    pub fn users_json(&self) -> String {
        let created_at = rfc3339_seconds(unix_time());
        let users = self.users.iter();
        let users =
            users.map(|user| json!({ "uuid": user.id, "email": user.name, "flow": null, "created_at": created_at }));
        json!({ "version": 1, "revision": 1, "users": users.collect::<Vec<_>>() }).to_string()
    }

    fn tls_keys(&self) -> Vec<(&'static str, String)> {
        let Some(tls) = &self.tls else { return vec![("enabled", "false".to_owned())] };
        vec![
            ("enabled", "true".to_owned()),
            ("cert_file", quoted(&tls.cert_file)),
            ("key_file", quoted(&tls.key_file)),
            ("server_name", quoted(&tls.server_name)),
            ("xtls_flow", quoted(tls.flow.as_str())),
        ]
    }

    fn monitoring_keys(&self, beside: &Beside) -> Vec<(&'static str, String)> {
        let Some(monitoring) = &self.monitoring else { return vec![("enabled", "false".to_owned())] };
        let usual = DraftMonitoring { listen: "127.0.0.1".to_owned(), port: MONITORING_PORT, ..monitoring.clone() };
        let mut keys = Vec::new();
        if (&monitoring.listen, monitoring.port) != (&usual.listen, usual.port) {
            keys.push(("listen", quoted(&monitoring.listen)));
            keys.push(("port", monitoring.port.to_string()));
        }
        keys.extend(monitoring.token.as_ref().map(|token| ("token", quoted(token))));
        keys.push(("admin_token", quoted(&monitoring.admin_token)));
        keys.extend(beside.state.as_ref().map(|file| ("state_file", quoted(file))));
        keys.extend(beside.socket.as_ref().map(|file| ("socket", quoted(file))));
        keys
    }
}

/// Where the accounts of a new configuration at `config` are.
pub fn users_file(config: &Path) -> PathBuf {
    folder_of(config).join(Beside::new(config).users)
}

/// The names of the files that a server has beside its configuration. Two servers in one folder have none in common.
struct Beside {
    users: String,
    /// `None`: the default.
    state: Option<String>,
    socket: Option<String>,
    cluster: Option<String>,
}

impl Beside {
    fn new(config: &Path) -> Self {
        let stem = config.file_stem().map(OsStr::to_string_lossy).unwrap_or_default();
        if config.file_name() == Some(OsStr::new(DEFAULT_FILE)) {
            return Self { users: "users.json".to_owned(), state: None, socket: None, cluster: None };
        }
        let named = |what: &str| format!("{stem}.{what}");
        Self {
            users: named("users.json"),
            state: Some(named("state.json")),
            socket: Some(named("sock")),
            cluster: Some(named("cluster")),
        }
    }
}

/// 122 random bits.
pub fn random_token() -> String {
    Uuid::new_v4().simple().to_string()
}

fn section(text: &mut String, keys: &[(&str, String)]) {
    for (position, (key, value)) in keys.iter().enumerate() {
        let comma = if position + 1 < keys.len() { "," } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(text, "    \"{key}\": {value}{comma}");
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
