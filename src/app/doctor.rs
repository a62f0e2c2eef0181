//! The doctor: what is wrong with this machine and configuration, each with the way out.
//!
//! Owns the list of findings and the report. It changes nothing and sends nothing but one question to each name server.
//! The report may be shared: ids, tokens and keys never get into it, and whatever secret of the configuration did would
//! be replaced at the end.

mod cluster;
mod machine;
mod unit;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::app::certs;
use crate::app::config::{Config, SECRET_BYTES_MIN};
use crate::app::exit::{self, Failure};
use crate::app::files::{folder_of, may_write};
use crate::app::link;
use crate::app::socket_client;
use crate::app::wizard::{Machine, PortProblem};

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub weight: Weight,
    pub what: String,
    /// Empty where all is well.
    pub remedy: String,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    Good,
    /// Works, and could be better.
    Hint,
    Fault,
}

/// Where the doctor looks.
pub struct Place<'a> {
    pub config: &'a Path,
    /// The root of the file system; tests have one of their own.
    pub root: PathBuf,
    pub machine: &'a dyn Machine,
    pub now: SystemTime,
}

/// Everything found, in the order in which it is read.
pub fn examine(place: &Place<'_>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let config = findings.configuration(place);
    if let Some(config) = &config {
        let is_running = socket_client::ask(config, "GET", "/healthz").is_ok();
        findings.certificates(config, place.now, is_running);
        findings.ports(config, place, is_running);
        findings.state(config);
        findings.reachability(config, place);
        findings.name_servers(place, &config.outbound.dns.servers);
        findings.cluster(config, place.now);
    }
    findings.system(place, config.as_ref());
    let secrets = config.as_ref().map_or_else(|| perhaps_secrets(place.config), secrets);
    findings.0.into_iter().map(|finding| without(finding, &secrets)).collect()
}

/// The report, with its final line break.
pub fn words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.weight {
            Weight::Good => "ok   ",
            Weight::Hint => "hint ",
            Weight::Fault => "FAULT",
        };
        text.push_str(&[mark, " ", &finding.what, "\n"].concat());
        if !finding.remedy.is_empty() {
            text.push_str(&["      -> ", &finding.remedy, "\n"].concat());
        }
    }
    let faults = findings.iter().filter(|finding| finding.weight == Weight::Fault).count();
    let end = match faults {
        0 => "\nnothing is wrong\n".to_owned(),
        1 => "\n1 fault\n".to_owned(),
        faults => format!("\n{faults} faults\n"),
    };
    text + &end
}

/// The report for scripts, with its final line break.
pub fn json(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            let weight = match finding.weight {
                Weight::Good => "good",
                Weight::Hint => "hint",
                Weight::Fault => "fault",
            };
            serde_json::json!({ "weight": weight, "what": finding.what, "remedy": finding.remedy })
        })
        .collect();
    serde_json::json!({ "findings": list }).to_string() + "\n"
}

struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: impl Into<String>) {
        self.0.push(Finding { weight: Weight::Good, what: what.into(), remedy: String::new() });
    }

    fn add(&mut self, weight: Weight, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { weight, what: what.into(), remedy: remedy.into() });
    }

    fn configuration(&mut self, place: &Place<'_>) -> Option<Config> {
        let path = place.config.display();
        let config = match Config::load(place.config) {
            Ok(config) => config,
            Err(failure) => {
                self.add(Weight::Fault, format!("configuration: {failure}"), remedy(place.config, &failure));
                return None;
            }
        };
        let count = config.users.len();
        self.good(format!("configuration {path}: {count} user{}", if count == 1 { "" } else { "s" }));
        for warning in config.warnings() {
            self.add(Weight::Hint, format!("configuration: {warning}"), "see the key in conf/README.md");
        }
        self.private(place.config, "it has ids and tokens in it");
        if let Some(file) = config.users_file.as_ref().filter(|file| file.exists()) {
            self.private(file, "it has ids in it");
        }
        Some(config)
    }

    /// A file that nobody else may read.
    fn private(&mut self, path: &Path, why: &str) {
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.permissions().mode() & 0o077 != 0 {
            let path = path.display();
            self.add(Weight::Fault, format!("others may read {path}, and {why}"), format!("chmod 600 {path}"));
        }
    }

    fn certificates(&mut self, config: &Config, now: SystemTime, is_running: bool) {
        let Some(tls) = &config.tls else { return };
        if certs::would_generate(config) {
            // A server that has run had one, unless TLS is new.
            if is_running || config.monitoring.state_file.exists() {
                let file = tls.main.cert_file.display();
                self.add(
                    Weight::Hint,
                    format!("certificate: none is there ({file}); the next start makes a self-signed one"),
                    "put the files back if clients know them: links pin the certificate, and another is refused",
                );
                return;
            }
            self.good("certificate: none yet; a self-signed one is made at the first start");
            return;
        }
        match certs::load_existing(config, now) {
            Err(failure) => {
                let remedy = match failure.code {
                    exit::NO_PERMISSION => "look as root (sudo); whom the server runs as must be able to read it",
                    exit::NO_INPUT => "put the file there, or move both away to have a self-signed pair made",
                    _ => "put a certificate and the key that belongs to it there, both in PEM",
                };
                self.add(Weight::Fault, format!("certificate: {failure}"), remedy);
            }
            Ok(certificates) => {
                for certificate in certificates {
                    let left = certificate.not_after.duration_since(now).unwrap_or_default();
                    let days = left.as_secs() / 86_400;
                    let names = certificate.names.join(", ");
                    self.good(format!("certificate for {names}: {days} days left"));
                    for warning in certificate.warnings {
                        self.add(Weight::Fault, format!("certificate: {warning}"), "renew or replace the certificate");
                    }
                }
            }
        }
        self.private(&tls.main.key_file, "it is the private key");
    }

    fn ports(&mut self, config: &Config, place: &Place<'_>, is_running: bool) {
        if is_running {
            self.good("a server runs with this configuration");
            return;
        }
        self.add(Weight::Hint, "no server runs with this configuration", "start it: `vless-rust run`, or the service");
        let port = config.server.port;
        for ip in &config.server.listen {
            self.port(*ip, port, "server.port", place.machine);
        }
        if config.monitoring.enabled {
            self.port(config.monitoring.listen, config.monitoring.port, "monitoring.port", place.machine);
        }
    }

    fn port(&mut self, ip: std::net::IpAddr, port: u16, key: &str, machine: &dyn Machine) {
        match machine.try_port(ip, port) {
            Ok(()) => self.good(format!("{key}: {port} on {ip} is free")),
            Err(PortProblem::Taken(holder)) => {
                let who = holder.map_or_else(|| "another program".to_owned(), |holder| holder.to_string());
                self.add(
                    Weight::Fault,
                    format!("{key}: {port} is taken by {who}"),
                    format!("stop it, or change {key}"),
                );
            }
            Err(PortProblem::NeedsRoot) => self.add(
                Weight::Fault,
                format!("{key}: {port} needs root, or CAP_NET_BIND_SERVICE"),
                "run it as the service (vless-rust service install), or take a port above 1023",
            ),
            Err(PortProblem::NotMine) => self.add(
                Weight::Fault,
                format!("this machine does not have the address {ip}"),
                "correct server.listen; \"0.0.0.0\" takes whatever there is",
            ),
            Err(PortProblem::Other(why)) => {
                self.add(Weight::Fault, format!("{key}: {port} on {ip}: {why}"), format!("change {key}"));
            }
        }
    }

    fn state(&mut self, config: &Config) {
        let mut files = vec![("monitoring.state_file", config.monitoring.state_file.clone())];
        files.extend(config.users_file.clone().map(|file| ("users_file", file)));
        files.extend(config.log.file.clone().map(|file| ("log.file", file)));
        for (key, file) in files {
            // What is replaced whole needs its folder.
            let checked = may_write(&file).and_then(|()| may_write(&folder_of(&file).join(".new")));
            match checked {
                Ok(()) => self.good(format!("{key}: {} can be written", file.display())),
                Err(error) => self.add(
                    Weight::Fault,
                    format!("{key}: {} cannot be written: {error}", file.display()),
                    write_remedy(error.kind()),
                ),
            }
        }
        if let Ok(text) = fs::read_to_string(&config.monitoring.state_file)
            && serde_json::from_str::<serde_json::Value>(text.lines().last().unwrap_or_default()).is_err()
            && serde_json::from_str::<serde_json::Value>(&text).is_err()
        {
            let file = config.monitoring.state_file.display();
            self.add(
                Weight::Fault,
                format!("{file} is no state file"),
                "move it away; the server goes on with the copy before, or from zero",
            );
        }
    }

    fn reachability(&mut self, config: &Config, place: &Place<'_>) {
        let host = link::host(config);
        match host.warning {
            None => self.good(format!("links name {}", host.host)),
            Some(warning) => self.add(Weight::Hint, warning, "set server.public_ip, and print the links again"),
        }
        if config.tls.is_none() {
            self.add(Weight::Hint, "there is no TLS", "set tls.enabled, unless another server in front has it");
        }
        if let Some(command) = place.machine.firewall().command(config.server.port) {
            self.add(
                Weight::Hint,
                "this machine has a firewall",
                format!("let clients in, if that is not done yet: {command}"),
            );
        }
    }
}

/// What to do about a configuration that cannot be used: only where there is none is a new one the answer.
fn remedy(config: &Path, failure: &Failure) -> String {
    let path = config.display();
    let is_missing = matches!(config.try_exists(), Ok(false));
    match failure.code {
        exit::NO_INPUT if is_missing => {
            format!("name the one that is meant (-c FILE), or begin with `vless-rust init {path}`")
        }
        exit::NO_PERMISSION => "look as root (sudo), or as the user whom the server runs as".to_owned(),
        exit::CONFIG => format!(
            "mend the file where the message says, at line and column; `vless-rust check {path}` tells when all of it is right"
        ),
        _ => "name a file that can be read (-c FILE)".to_owned(),
    }
}

/// What to do about a file that cannot be written.
fn write_remedy(why: io::ErrorKind) -> &'static str {
    match why {
        io::ErrorKind::ReadOnlyFilesystem => "name a place in the configuration that is mounted for writing",
        io::ErrorKind::IsADirectory => "a folder has its name: move that away, or name another file",
        io::ErrorKind::NotADirectory => "a file has the name of its folder: move that away, or name another place",
        _ => "make the folder, and give it to the user whom the server runs as (chown)",
    }
}

/// All texts that nobody else may see.
fn secrets(config: &Config) -> Vec<String> {
    let mut secrets: Vec<_> = config.users.iter().map(crate::app::config::User::id_text).collect();
    let tokens = [&config.monitoring.token, &config.monitoring.admin_token];
    secrets
        .extend(config.cluster.url.iter().filter_map(|url| url.password.as_ref()).map(|one| one.reveal().to_owned()));
    secrets.extend(tokens.into_iter().flatten().map(|token| token.reveal().to_owned()));
    secrets
}

/// What is in quotes in a configuration that cannot be read: where a secret stands in a wrong place, nothing tells that it
/// is one. Names of keys and what is short stay legible.
fn perhaps_secrets(config: &Path) -> Vec<String> {
    let text = fs::read_to_string(config).unwrap_or_default();
    let example = Config::parse(r#"{ "users": [ { "uuid": "example" } ] }"#, config);
    let known = example.map(|example| example.effective_json()).unwrap_or_default();
    // Also what is between two texts, since one quote too many swaps them.
    let quoted = text.split(['"', '\n']).filter(|quoted| quoted.len() >= SECRET_BYTES_MIN);
    quoted.filter(|quoted| !known.contains(&format!("\"{quoted}\""))).map(str::to_owned).collect()
}

fn without(mut finding: Finding, secrets: &[String]) -> Finding {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        finding.what = finding.what.replace(secret, "********");
        finding.remedy = finding.remedy.replace(secret, "********");
    }
    finding
}

fn read(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

#[cfg(test)]
mod tests;
