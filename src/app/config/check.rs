//! From what may be written to what may be used.
//!
//! Owns every rule about values, and notes every breach instead of stopping at the first. A value that breaks a rule
//! is replaced by something harmless so that the checks after it can go on; the result is thrown away if there is
//! even one problem. Rules that many keys share are in `rules.rs`,
//! what single texts mean in `values.rs`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::error::quoted;
use super::rules::{Check, Problem, non_empty};
use super::settings::{
    CertificateFiles, ConnectionPool, Fallback, Flow, Log, LogFormat, Monitoring, Outbound, Performance, Prefer,
    Server, Timeouts, Tls, TlsVersion, User,
};
use super::{Config, schema, values};
use crate::outbound::policy::is_public;
use crate::protocol::user_id;

/// The settings that `file` means, and everything that is wrong with it.
pub(super) fn check(file: schema::File, path: &Path) -> (Config, Vec<Problem>) {
    let mut check = Check { config_file: path, problems: Vec::new(), warnings: Vec::new() };
    let server = check.server(&file.server);
    let default_flow = check.flow("tls.xtls_flow", &file.tls.xtls_flow);
    let tls = check.tls(&file.tls);
    let users = check.users(&file.users, file.tls.enabled.then_some(default_flow));
    let monitoring = check.monitoring(&file.monitoring);
    let config = Config {
        file: path.to_owned(),
        users,
        fallbacks: check.fallbacks(&file.fallbacks),
        performance: check.performance(&file.performance),
        connection_pool: check.connection_pool(&file.connection_pool),
        outbound: check.outbound(&file.outbound),
        timeouts: check.timeouts(&file.timeouts),
        log: check.log(&file.log),
        server,
        tls: file.tls.enabled.then_some(tls),
        monitoring,
        warnings: Vec::new(),
        source: file,
    };
    check.warn_about_plain(&config);
    (Config { warnings: check.warnings, ..config }, check.problems)
}

/// A day: longer than any phase of a connection has a reason to last.
const SECONDS_MAX: i64 = 86_400;
/// More reactors than this no machine of today needs; a mistyped number would start thousands of threads.
const WORKERS_MAX: i64 = 256;
/// Larger socket buffers the kernel does not grant anyway.
const SOCKET_BUFFER_MAX: i64 = 1 << 30;
/// Long enough for every address, short enough for a log line.
const EMAIL_CHARS_MAX: usize = 255;
/// Content, padding and header of a Vision block share 8192 bytes, 21 of them the header (VISION-1).
const VISION_PADDING_MAX: i64 = 8171;

impl Check<'_> {
    fn server(&mut self, server: &schema::Server) -> Server {
        let mut listen = Vec::new();
        for (position, text) in server.listen.iter().enumerate() {
            let key =
                if server.listen.len() == 1 { "server.listen".into() } else { format!("server.listen[{position}]") };
            // The IPv4 address that an IPv4-mapped one means is what gets bound.
            let Some(ip) = self.ip(&key, text).map(|ip| ip.to_canonical()) else { continue };
            if listen.contains(&ip) {
                self.problem(&key, format!("{ip} is listed twice; remove one"));
            }
            listen.push(ip);
        }
        if server.listen.is_empty() {
            self.problem(
                "server.listen",
                "the list is empty; \"0.0.0.0\" listens on all IPv4 addresses, \"::\" on all",
            );
        }
        self.covered_listeners(&listen);
        let public_host = non_empty(server.public_ip.as_ref()).and_then(|text| {
            self.parsed("server.public_ip", values::host(text), "an IP address or a host name without a port")
        });
        Server {
            listen,
            port: self.port("server.port", server.port),
            public_host,
            workers: self.number("server.workers", server.workers, 0..=WORKERS_MAX, "") as usize,
        }
    }

    /// A wildcard address takes the port of every address it covers: the second bind would fail.
    fn covered_listeners(&mut self, listen: &[IpAddr]) {
        for (position, ip) in listen.iter().enumerate() {
            let covers = |all: &&IpAddr| all.is_unspecified() && *all != ip && (all.is_ipv6() || ip.is_ipv4());
            if let Some(all) = listen.iter().find(covers) {
                self.problem(&format!("server.listen[{position}]"), format!("\"{all}\" covers {ip} too; remove one"));
            }
        }
    }

    fn users(&mut self, users: &[schema::User], flow_with_tls: Option<Flow>) -> Vec<User> {
        if users.is_empty() {
            self.problem(
                "users",
                "at least one user is needed, such as { \"uuid\": \"...\", \"email\": \"me@example.com\" }; \
                 `vless-rust init --yes NEW.json` writes a file with one",
            );
        }
        let mut known = Vec::with_capacity(users.len());
        let mut by_email = HashMap::new();
        let mut by_id = HashMap::new();
        for (position, user) in users.iter().enumerate() {
            let key = |name: &str| format!("users[{position}].{name}");
            let email = self.email(&key("email"), user.email.as_ref(), position);
            if let Some(first) = by_email.insert(email.clone(), position) {
                let message = format!("\"{email}\" is also the email of users[{first}]; each user needs its own");
                self.problem(&key("email"), message);
            }
            let id = self.user_id(&key("uuid"), &user.uuid);
            if let Some(other) = id.and_then(|id| by_id.insert(user_id::mask(id), email.clone())) {
                self.problem(
                    &key("uuid"),
                    format!(
                        "{email} has the same id as {other} (the third group of four digits does not count); \
                         give one of them a new id"
                    ),
                );
            }
            let flow = self.user_flow(&key("flow"), user.flow.as_ref(), flow_with_tls);
            known.push(User { id: id.unwrap_or_default(), email, flow });
        }
        known
    }

    fn email(&mut self, key: &str, email: Option<&String>, position: usize) -> String {
        let Some(email) = non_empty(email) else { return format!("user-{}", position + 1) };
        if email.chars().count() > EMAIL_CHARS_MAX || email.chars().any(char::is_control) {
            self.problem(key, format!("must be 1 to {EMAIL_CHARS_MAX} characters without line breaks or tabs"));
        }
        email.clone()
    }

    fn user_id(&mut self, key: &str, text: &str) -> Option<user_id::UserId> {
        user_id::parse(text).map_err(|error| self.problem(key, error.to_string())).ok()
    }

    fn user_flow(&mut self, key: &str, flow: Option<&String>, flow_with_tls: Option<Flow>) -> Flow {
        let Some(text) = flow else { return flow_with_tls.unwrap_or(Flow::None) };
        let flow = self.flow(key, text);
        if flow.is_vision() && flow_with_tls.is_none() {
            self.problem(key, format!("{text} needs TLS: set tls.enabled to true, or this to \"\" for no flow"));
        }
        flow
    }

    fn flow(&mut self, key: &str, text: &str) -> Flow {
        let known = [
            ("", Flow::None),
            ("none", Flow::None),
            ("xtls-rprx-vision", Flow::Vision),
            ("xtls-rprx-vision-udp443", Flow::VisionUdp443),
        ];
        self.choice(key, text, &known)
    }

    fn tls(&mut self, tls: &schema::Tls) -> Tls {
        let main = self.certificate("tls", &tls.cert_file, &tls.key_file, &[]);
        let mut more = Vec::new();
        for (position, entry) in tls.certificates.iter().enumerate() {
            let key = format!("tls.certificates[{position}]");
            more.push(self.certificate(&key, &entry.cert_file, &entry.key_file, &entry.server_names));
        }
        for (position, protocol) in tls.alpn.iter().enumerate() {
            // RFC 7301 3.1: a name has 1 to 255 bytes.
            if !(1..=255).contains(&protocol.len()) {
                self.problem(
                    &format!("tls.alpn[{position}]"),
                    "must be a protocol name such as \"h2\" or \"http/1.1\"",
                );
            }
        }
        let server_name =
            self.parsed("tls.server_name", values::host(&tls.server_name), "a host name such as \"vpn.example.com\"");
        Tls {
            main,
            more,
            server_name: server_name.unwrap_or_default(),
            alpn: tls.alpn.clone(),
            min_version: self.choice(
                "tls.min_version",
                &tls.min_version,
                &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)],
            ),
        }
    }

    fn certificate(&mut self, key: &str, cert_file: &str, key_file: &str, names: &[String]) -> CertificateFiles {
        let mut lower = Vec::new();
        for (position, name) in names.iter().enumerate() {
            let key = format!("{key}.server_names[{position}]");
            let expected = "a host name such as \"example.com\" or \"*.example.com\"";
            lower.extend(self.parsed(&key, values::certificate_name(name), expected));
        }
        CertificateFiles {
            cert_file: self.path(&format!("{key}.cert_file"), cert_file),
            key_file: self.path(&format!("{key}.key_file"), key_file),
            server_names: lower,
        }
    }

    fn fallbacks(&mut self, fallbacks: &[schema::Fallback]) -> Vec<Fallback> {
        let mut known: Vec<Fallback> = Vec::new();
        for (position, entry) in fallbacks.iter().enumerate() {
            let key = |name: &str| format!("fallbacks[{position}].{name}");
            if !entry.path.is_empty() && !entry.path.starts_with('/') {
                let given = quoted(&key("path"), &entry.path);
                self.problem(&key("path"), format!("must be empty or begin with \"/\", not {given}"));
            }
            let dest = self.parsed(
                &key("dest"),
                values::fallback_dest(&entry.dest),
                "a port such as 80, \"host:port\", \"/path/of/a/socket\" or \"@abstract-socket\"",
            );
            let xver = self.number(&key("xver"), entry.xver, 0..=2, "") as u8;
            let Some(dest) = dest else { continue };
            let fallback = Fallback {
                name: entry.name.to_lowercase(),
                alpn: entry.alpn.clone(),
                path: entry.path.clone(),
                dest,
                xver,
            };
            let same = |other: &Fallback| {
                (&other.name, &other.alpn, &other.path) == (&fallback.name, &fallback.alpn, &fallback.path)
            };
            if known.iter().any(same) {
                self.warnings
                    .push(format!("fallbacks[{position}] replaces an earlier one for the same name, alpn and path"));
                known.retain(|other| !same(other));
            }
            known.push(fallback);
        }
        known
    }

    fn monitoring(&mut self, monitoring: &schema::Monitoring) -> Monitoring {
        let ip = self.ip("monitoring.listen", &monitoring.listen);
        let token = self.token("monitoring.token", monitoring.token.as_ref());
        let admin_token = self.token("monitoring.admin_token", monitoring.admin_token.as_ref());
        if monitoring.enabled && token.is_none() && ip.is_some_and(|ip| !ip.is_loopback()) {
            self.problem(
                "monitoring.listen",
                format!(
                    "outside loopback monitoring.token is mandatory: set it to a long random text, or listen on \
                     \"127.0.0.1\" instead of \"{}\"",
                    monitoring.listen
                ),
            );
        }
        let port = self.port("monitoring.port", monitoring.port);
        Monitoring {
            enabled: monitoring.enabled,
            listen: SocketAddr::new(ip.unwrap_or(IpAddr::from([127, 0, 0, 1])), port),
            token,
            speed_history_duration: self.seconds(
                "monitoring.speed_history_duration",
                monitoring.speed_history_duration,
                1..=SECONDS_MAX,
            ),
            broadcast_interval: self.seconds("monitoring.broadcast_interval", monitoring.broadcast_interval, 1..=3600),
            websocket_max_connections: self.count(
                "monitoring.websocket_max_connections",
                monitoring.websocket_max_connections,
                0..=100_000,
            ),
            websocket_heartbeat_timeout: self.seconds(
                "monitoring.websocket_heartbeat_timeout",
                monitoring.websocket_heartbeat_timeout,
                1..=3600,
            ),
            vless_max_connections: self.count(
                "monitoring.vless_max_connections",
                monitoring.vless_max_connections,
                0..=10_000_000,
            ),
            state_file: self.path("monitoring.state_file", &monitoring.state_file),
            state_interval: self.seconds("monitoring.state_interval", monitoring.state_interval, 1..=SECONDS_MAX),
            admin_token,
            socket: non_empty(monitoring.socket.as_ref()).map(|socket| self.path("monitoring.socket", socket)),
        }
    }

    fn token(&mut self, key: &str, token: Option<&String>) -> Option<String> {
        let token = non_empty(token).cloned();
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            self.problem(key, "must be printable ASCII characters without spaces, as it goes into a header");
        }
        token
    }

    fn performance(&mut self, performance: &schema::Performance) -> Performance {
        let (recv, send) = (performance.tcp_recv_buffer, performance.tcp_send_buffer);
        let batch = self.number("performance.stats_batch_size", performance.stats_batch_size, 1..=1 << 30, "bytes");
        Performance {
            buffer_size: self.number("performance.buffer_size", performance.buffer_size, 4096..=131_072, "bytes")
                as usize,
            stats_batch_size: batch as usize,
            tcp_nodelay: performance.tcp_nodelay,
            tcp_recv_buffer: self.optional_size("performance.tcp_recv_buffer", recv, 4096..=SOCKET_BUFFER_MAX),
            tcp_send_buffer: self.optional_size("performance.tcp_send_buffer", send, 4096..=SOCKET_BUFFER_MAX),
            udp_timeout: self.seconds("performance.udp_timeout", performance.udp_timeout, 1..=SECONDS_MAX),
            udp_recv_buffer: self.number(
                "performance.udp_recv_buffer",
                performance.udp_recv_buffer,
                65_535..=16 << 20,
                "bytes",
            ) as usize,
            udp_sockets_per_user_max: self.count(
                "performance.udp_sockets_per_user_max",
                performance.udp_sockets_per_user_max,
                1..=1_000_000,
            ),
            buffer_memory_max: self.optional_size(
                "performance.buffer_memory_max",
                performance.buffer_memory_max,
                1 << 20..=1 << 46,
            ),
            vision_seed: self.vision_seed(&performance.vision_seed),
            splice: performance.splice,
        }
    }

    fn vision_seed(&mut self, seed: &[i64]) -> [u16; 4] {
        let key = "performance.vision_seed";
        let Ok(numbers) = <[i64; 4]>::try_from(seed) else {
            self.problem(key, format!("must be exactly four numbers such as [900, 500, 900, 256], not {}", seed.len()));
            return [0, 1, 0, 1];
        };
        // The second and the fourth are the number of lengths to choose from, so one at least.
        let least = [0, 1, 0, 1];
        std::array::from_fn(|position| {
            let range = least[position]..=VISION_PADDING_MAX;
            self.number(&format!("{key}[{position}]"), numbers[position], range, "bytes") as u16
        })
    }

    fn connection_pool(&mut self, pool: &schema::ConnectionPool) -> ConnectionPool {
        let mut warmup_targets = Vec::new();
        for (position, text) in pool.warmup_targets.iter().enumerate() {
            let key = format!("connection_pool.warmup_targets[{position}]");
            warmup_targets.extend(self.parsed(
                &key,
                values::host_and_port(text),
                "\"host:port\" such as \"example.com:443\"",
            ));
        }
        let mut seconds = |name: &str, value| self.seconds(&format!("connection_pool.{name}"), value, 1..=SECONDS_MAX);
        let (max_idle_time, max_lifetime) =
            (seconds("max_idle_time", pool.max_idle_time), seconds("max_lifetime", pool.max_lifetime));
        let health_check_interval = seconds("health_check_interval", pool.health_check_interval);
        ConnectionPool {
            enabled: pool.enabled,
            max_connections_per_host: self.count(
                "connection_pool.max_connections_per_host",
                pool.max_connections_per_host,
                1..=1000,
            ),
            max_idle_time,
            max_lifetime,
            connect_timeout: self.seconds("connection_pool.connect_timeout", pool.connect_timeout, 1..=300),
            health_check_interval,
            enable_warmup: pool.enable_warmup,
            warmup_connections: self.count("connection_pool.warmup_connections", pool.warmup_connections, 0..=1000),
            warmup_targets,
        }
    }

    fn outbound(&mut self, outbound: &schema::Outbound) -> Outbound {
        let mut allow = Vec::new();
        for (position, text) in outbound.allow.iter().enumerate() {
            match values::cidr(text) {
                Ok(cidr) => allow.push(cidr),
                Err(message) => self.problem(&format!("outbound.allow[{position}]"), message),
            }
        }
        let mut deny_ports = Vec::new();
        for (position, &port) in outbound.deny_ports.iter().enumerate() {
            deny_ports.push(self.port(&format!("outbound.deny_ports[{position}]"), port));
        }
        let mut dns_servers = Vec::new();
        for (position, text) in outbound.dns.servers.iter().enumerate() {
            let key = format!("outbound.dns.servers[{position}]");
            let expected = "the IP address of a name server, with or without a port: \"9.9.9.9\", \"9.9.9.9:53\", \"[2620:fe::fe]:53\"";
            dns_servers.extend(self.parsed(&key, values::dns_server(text), expected));
        }
        Outbound {
            allow_private: outbound.allow_private,
            allow,
            deny_ports,
            prefer: self.choice(
                "outbound.prefer",
                &outbound.prefer,
                &[("auto", Prefer::Auto), ("ipv4", Prefer::Ipv4), ("ipv6", Prefer::Ipv6)],
            ),
            bind: non_empty(outbound.bind.as_ref()).and_then(|text| self.ip("outbound.bind", text)),
            dns_servers,
            dns_timeout: self.seconds("outbound.dns.timeout", outbound.dns.timeout, 1..=60),
        }
    }

    fn timeouts(&mut self, timeouts: &schema::Timeouts) -> Timeouts {
        let mut seconds = |name: &str, value| self.seconds(&format!("timeouts.{name}"), value, 1..=SECONDS_MAX);
        Timeouts {
            tls_handshake: seconds("tls_handshake", timeouts.tls_handshake),
            first_byte: seconds("first_byte", timeouts.first_byte),
            request: seconds("request", timeouts.request),
            idle: seconds("idle", timeouts.idle),
            half_close: seconds("half_close", timeouts.half_close),
            write_stall: seconds("write_stall", timeouts.write_stall),
            drain: self.seconds("timeouts.drain", timeouts.drain, 0..=SECONDS_MAX),
        }
    }

    fn log(&mut self, log: &schema::Log) -> Log {
        use log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        let levels =
            [("off", Off), ("error", Error), ("warn", Warn), ("info", Info), ("debug", Debug), ("trace", Trace)];
        Log {
            level: self.choice("log.level", &log.level, &levels),
            file: non_empty(log.file.as_ref()).map(|file| self.path("log.file", file)),
            format: self.choice("log.format", &log.format, &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            access: log.access,
        }
    }

    fn warn_about_plain(&mut self, config: &Config) {
        let public = config.server.listen.iter().find(|ip| ip.is_unspecified() || is_public(**ip));
        if let (None, Some(ip)) = (&config.tls, public) {
            self.warnings.push(format!(
                "tls.enabled is false and server.listen is {ip}: everything is readable on its way, ids included, and \
                 Xray clients refuse to dial a public address without TLS"
            ));
        }
    }
}
