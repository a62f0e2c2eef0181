//! What all tables stand on: a folder, a certificate, the targets, and servers with a configuration of their own.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::client::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Api;
use crate::launch::await_listening;
use crate::leg::bounded;
use crate::ports::free_port;
use crate::targets::Targets;
use crate::tls;
use crate::vless::USER_TEXT;

/// The account of everybody but those that a table adds.
pub(crate) const BYSTANDER: &str = "bystander";
const API_SOCKET: &str = "api.sock";

pub(crate) struct Ground {
    folder: TempDir,
    program: PathBuf,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) targets: Targets,
}

impl Ground {
    pub(crate) fn new(program: PathBuf) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let signed = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        fs::write(folder.path().join("certificate.pem"), signed.cert.pem())?;
        fs::write(folder.path().join("key.pem"), signed.signing_key.serialize_pem())?;
        let tls = tls::client_config(signed.cert.der().clone());
        Ok(Self { folder, program, tls, targets: Targets::start()? })
    }

    /// Starts a server and waits until it accepts connections. `keys` replace those of the usual configuration.
    pub(crate) fn start(&self, is_tls: bool, keys: &Value) -> io::Result<Server> {
        self.start_with(is_tls, keys, None)
    }

    /// The same, with this text as the users file.
    pub(crate) fn start_with(&self, is_tls: bool, keys: &Value, users: Option<&str>) -> io::Result<Server> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let (port, monitor_port) = (free_port(), free_port());
        let mut configuration = json!({
            "server": { "listen": "127.0.0.1", "port": port },
            "users": [{ "uuid": USER_TEXT, "email": BYSTANDER, "flow": "" }],
            "users_file": "users.json",
            "outbound": { "allow": ["127.0.0.0/8"] },
            "monitoring": { "port": monitor_port, "socket": API_SOCKET },
            // All clients have a few addresses of the loopback.
            "limits": { "handshakes_per_source_max": 0 },
            "timeouts": { "idle": 3600 },
            "log": { "level": "warn" },
        });
        if is_tls {
            let file = |name: &str| self.folder.path().join(name).display().to_string();
            configuration["tls"] = json!({
                "enabled": true, "server_name": "localhost",
                "cert_file": file("certificate.pem"), "key_file": file("key.pem"),
            });
        }
        for (section, value) in keys.as_object().into_iter().flatten() {
            match (configuration[section].as_object_mut(), value.as_object()) {
                (Some(known), Some(more)) => known.extend(more.clone()),
                _ => configuration[section] = value.clone(),
            }
        }
        let (file, log) = (folder.path().join("config.json"), folder.path().join("log"));
        fs::write(&file, configuration.to_string())?;
        if let Some(users) = users {
            fs::write(folder.path().join("users.json"), users)?;
        }
        let has_api = configuration["monitoring"]["enabled"] != false;
        let output = File::create(&log)?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg(&file).current_dir(folder.path()).stdin(Stdio::null());
        let child = command.stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut server = Server { child, folder, port, monitor_port };
        let socket = server.folder.path().join(API_SOCKET);
        await_listening(&mut server.child, port, &log, || !has_api || socket.exists())?;
        Ok(server)
    }
}

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    pub(crate) port: u16,
    pub(crate) monitor_port: u16,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The API, with the right to change things.
    pub(crate) fn api(&self) -> io::Result<Api> {
        Api::open(&self.folder.path().join(API_SOCKET))
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// # Errors
    /// The server has ended.
    pub(crate) fn check_alive(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("the server ended, {status}"))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only fails for a process that has ended by itself, which `wait` then collects.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket to the server from another address of the loopback, which makes it another source.
pub(crate) fn connect_from(source: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    bounded(socket.into())
}
