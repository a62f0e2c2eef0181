//! Every key of the configuration file, each once: kind, default, range, meaning.
//!
//! The meaning is what `conf/README.md` says of the key. Rules between keys are in `check.rs`.

use serde::{Deserialize, Serialize};

use super::engine_url::EngineUrlKind;
use super::kinds::{
    Address, Count, FilePath, Meaning, OptionalBytes, OptionalNumber, OptionalPath, OptionalText, OptionalWord, Port,
    Ports, Required, RequiredPath, Seconds, Switch, Text, Texts, Token, Word,
};
use super::oddities::{Dest, Listen, Receivers, VisionSeed};
use super::rules::Check;
use super::section::{Entries, Group, Kind, Row, Section, entries, group, member, section};
use super::settings::{Flow, LogFormat, Prefer, QuotaPeriod, TlsVersion};
use super::values;
use crate::cluster::lease::WhenAway;
use crate::outbound::policy::Cidr;
use crate::protocol::user_id::UserId;

/// A day: longer than any phase of a connection has a reason to last.
const DAY: i64 = 86_400;
/// Larger socket buffers the kernel does not grant anyway.
const SOCKET_BUFFER_MAX: i64 = 1 << 30;
/// More than any link carries in a year, and a sum of two still fits.
const BYTES_MAX: i64 = 1 << 60;

const FLOWS: &[(&str, Flow)] = &[
    ("", Flow::None),
    ("none", Flow::None),
    ("xtls-rprx-vision", Flow::Vision),
    ("xtls-rprx-vision-udp443", Flow::VisionUdp443),
];
const LEVELS: &[(&str, log::LevelFilter)] = &[
    ("off", log::LevelFilter::Off),
    ("error", log::LevelFilter::Error),
    ("warn", log::LevelFilter::Warn),
    ("info", log::LevelFilter::Info),
    ("debug", log::LevelFilter::Debug),
    ("trace", log::LevelFilter::Trace),
];
const PERIODS: &[(&str, QuotaPeriod)] = &[
    ("none", QuotaPeriod::None),
    ("day", QuotaPeriod::Day),
    ("week", QuotaPeriod::Week),
    ("month", QuotaPeriod::Month),
];

section! {
    /// The whole file. What it says is final only after the checks between keys.
    File from RawFile, "an object { ... }" {
        server: Group<Server> = group(), "where clients connect to";
        users: Entries<UserKeys> = entries(), "the accounts in this file";
        users_file: OptionalPath = OptionalPath(Some("users.json")), "accounts that commands, API and page may change, in a file of their own; `null`: there are none";
        tls: Group<TlsKeys> = group(), "TLS towards clients";
        fallbacks: Entries<FallbackKeys> = entries(), "where connections go that are not VLESS or of no user; chosen as Xray chooses: by name, then alpn, then path";
        monitoring: Group<Monitoring> = group(), "statistics, dashboard, and the API for commands";
        limits: Group<ProcessLimits> = group(), "how much one source or one user may use at the same time";
        performance: Group<Performance> = group(), "sizes and switches of the data path";
        connection_pool: Group<ConnectionPool> = group(), "connected spares per target, and the time a dial may take";
        outbound: Group<Outbound> = group(), "what clients may reach and how";
        timeouts: Group<Timeouts> = group(), "one per phase";
        cluster: Group<ClusterKeys> = group(), "what this node shares with others";
        log: Group<Log> = group(), "where log lines go and which";
    }
}

section! {
    /// Where clients connect to.
    Server from RawServer, "an object { ... }" {
        listen: Listen = Listen("0.0.0.0"), "an IP address or a list of them; `\"::\"` listens on IPv6 and IPv4";
        port: Port = Port(443), "TCP port of all listeners";
        public_ip: OptionalText<String> = OptionalText(Meaning { read: values::host, expected: "an IP address or a host name without a port" }), "address or name that links give; `null`: the listen address if it is a specific one, else the address of this machine on the way to the internet";
        workers: Count = Count(0, 0..=256, ""), "reactor threads; 0: one per core";
        proxy_protocol_from: Texts<Cidr> = Texts(&[], Meaning { read: values::cidr, expected: "" }), "networks of balancers, such as `\"10.0.0.5\"`: their connections must begin with a PROXY header (version 1 or 2), which says who the client is; from anywhere else it is garbage";
    }
}

section! {
    /// One account, here or in the users file.
    UserKeys from RawUser, "an object { \"uuid\": ... }" {
        uuid: Required<UserId> = Required("5783a3e7-e373-51cd-8642-c83782b807c5", Meaning { read: values::user_id, expected: "" }), "the credential: a UUID, or a text of 1 to 30 bytes that stands for one as in Xray. Bytes 7 and 8 of a UUID do not count";
        email: OptionalText<String> = OptionalText(Meaning { read: values::email, expected: "" }), "any name, each once; for logs, counters and links; `null`: `user-1`, `user-2`, ...";
        flow: OptionalWord<Flow> = OptionalWord(FLOWS), "`\"xtls-rprx-vision\"` or `\"xtls-rprx-vision-udp443\"` (the same to the server; the link carries what is written), `\"\"` or `\"none\"`; `null`: `tls.xtls_flow` with TLS, no flow without";
        enabled: Switch = Switch(true), "`false`: refused exactly as an unknown id is";
        note: Text<String> = Text("", Meaning { read: values::note, expected: "" }), "for people";
        created_at: OptionalText<u64> = OptionalText(Meaning { read: values::time, expected: "a time such as \"2026-01-31T00:00:00Z\"" }), "written when a command, the API or the page adds the account";
        limits: Group<UserLimits> = group(), "what the account may use";
    }
}

section! {
    /// What one account may use.
    UserLimits from RawUserLimits, "an object { ... }" {
        quota_bytes: Count = Count(0, 0..=BYTES_MAX, "bytes"), "payload of both directions per period; 0: no quota";
        quota_period: Word<QuotaPeriod> = Word("none", PERIODS), "when the quota begins anew, in UTC: `\"none\"`, `\"day\"`, `\"week\"` (Monday), `\"month\"`";
        quota_day: Count = Count(1, 1..=28, ""), "the month's first day";
        expires_at: OptionalText<u64> = OptionalText(Meaning { read: values::time, expected: "a time such as \"2026-01-31T00:00:00Z\"" }), "a time as in RFC 3339; from then on the account is refused; `null`: never";
        expires_after_days: Count = Count(0, 0..=36_500, "days"), "the same, counted from the first use; 0: never";
        addresses_max: Count = Count(0, 0..=10_000, ""), "source addresses at the same time (of IPv6 the /64); 0: any number";
        sessions_max: Count = Count(0, 0..=10_000_000, ""), "sessions at the same time; 0: any number";
        up_bytes_per_second_max: Count = Count(0, 0..=BYTES_MAX, "bytes"), "speed from client to target, all sessions together; 0: any";
        down_bytes_per_second_max: Count = Count(0, 0..=BYTES_MAX, "bytes"), "speed from target to client; 0: any";
    }
}

section! {
    /// TLS towards clients.
    TlsKeys from RawTls, "an object { ... }" {
        enabled: Switch = Switch(false), "without it, plain VLESS: readable and changeable by everybody on the way";
        cert_file: FilePath = FilePath("certs/server.crt"), "certificate chain in PEM; if it and the key are both missing, a self-signed pair for ten years is made";
        key_file: FilePath = FilePath("certs/server.key"), "its private key in PEM, not encrypted";
        server_name: Text<String> = Text("localhost", Meaning { read: values::host, expected: "a host name such as \"vpn.example.com\"" }), "the name that links tell clients to ask for, and that a self-signed certificate gets";
        xtls_flow: Word<Flow> = Word("xtls-rprx-vision", FLOWS), "flow of users who have `null`; `\"\"` or `\"none\"`: no flow";
        alpn: Texts<String> = Texts(&["h2", "http/1.1"], Meaning { read: values::protocol, expected: "" }), "preferred first; `[]`: none is negotiated. A client that offers only others is refused by TLS";
        min_version: Word<TlsVersion> = Word("1.2", &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)]), "or `\"1.3\"`; Vision always needs 1.3";
        certificates: Entries<CertificateFiles> = entries(), "further certificates, chosen by the name a client asks for";
    }
}

section! {
    /// A certificate chain and its key.
    CertificateFiles from RawCertificateFiles, "an object { \"cert_file\": ..., \"key_file\": ... }" {
        cert_file: RequiredPath = RequiredPath("certs/other.crt"), "a further certificate, taken when a client asks for one of its names";
        key_file: RequiredPath = RequiredPath("certs/other.key"), "its key";
        server_names: Texts<String> = Texts(&[], Meaning { read: values::certificate_name, expected: "a host name such as \"example.com\" or \"*.example.com\"" }), "names to take it for, `*.` in front allowed; `[]`: those in the certificate";
    }
}

section! {
    /// Where a stranger's connection goes.
    FallbackKeys from RawFallback, "an object { \"dest\": ... }" {
        name: Text<String> = Text("", Meaning { read: values::lower_case, expected: "" }), "server name the client asked for; `\"\"`: any";
        alpn: Text<String> = Text("", Meaning { read: values::lower_case, expected: "" }), "protocol that was negotiated; `\"\"`: any";
        path: Text<String> = Text("", Meaning { read: values::request_path, expected: "empty or begin with \"/\"" }), "path of the HTTP request; `\"\"`: any";
        dest: Dest = Dest, "a port, `\"host:port\"`, `\"/path/of/a/socket\"`, `\"@abstract-socket\"`, or `\"builtin\"`: a plain site that the server serves itself, HTTP/1.1 only";
        root: OptionalPath = OptionalPath(None), "of `\"builtin\"`: the folder of the site, with an `index.html`, or its one page; read at start and reload, at most 16 MiB; `null`: a page that says nothing";
        xver: Count = Count(0, 0..=2, ""), "version of the PROXY protocol header; 0: none";
    }
}

section! {
    /// The statistics interface.
    Monitoring from RawMonitoring, "an object { ... }" {
        enabled: Switch = Switch(true), "serve statistics and the dashboard";
        listen: Address = Address("127.0.0.1"), "anything but loopback needs a token";
        port: Port = Port(9090), "TCP port for them";
        token: Token = Token, "what callers must know to look; printable ASCII without spaces, 16 characters or more; `null`: on loopback everybody may look";
        admin_token: Token = Token, "what callers must know to change something, another text than `token`; `null`: only the socket may";
        socket: OptionalPath = OptionalPath(Some("vless-rust.sock")), "Unix socket with the same API for commands on this machine, mode 0600; `null`: none";
        speed_history_duration: Seconds = Seconds(60, 1..=DAY), "seconds of history kept";
        broadcast_interval: Seconds = Seconds(1, 1..=3600), "seconds between two messages of the live feed";
        websocket_max_connections: Count = Count(300, 0..=100_000, ""), "readers of the live feed at the same time";
        websocket_heartbeat_timeout: Seconds = Seconds(60, 1..=3600), "a reader silent for so long is dropped";
        vless_max_connections: Count = Count(0, 0..=10_000_000, ""), "sessions at the same time; 0: what descriptors and memory allow";
        state_file: FilePath = FilePath("state.json"), "where traffic totals are kept";
        state_interval: Seconds = Seconds(10, 1..=DAY), "how often they are written";
        metrics_users: Switch = Switch(true), "series per user in `/metrics`, for at most 200 users";
        alerts: Entries<Alert> = entries(), "rules that are watched";
    }
}

section! {
    /// A rule that is watched.
    Alert from RawAlert, "an object { \"name\": ..., \"metric\": ... }" {
        name: Required<String> = Required("traffic", Meaning { read: values::anything, expected: "" }), "how messages call it";
        metric: Required<String> = Required("sessions_percent", Meaning { read: values::metric, expected: "" }), "what is watched; `conf/monitoring.md` lists the names";
        above: OptionalNumber = OptionalNumber(Some("80")), "fires while the figure is greater";
        below: OptionalNumber = OptionalNumber(None), "or while it is smaller; one of the two";
        r#for: Seconds = Seconds(0, 0..=DAY), "only if it lasts so long";
        to: Receivers = Receivers, "who is told: `\"log\"`, `{ \"webhook\": URL }`, `{ \"command\": [...] }`";
    }
}

section! {
    /// Limits for each source of connections: an IPv4 address, or an IPv6 /64.
    ProcessLimits from RawProcessLimits, "an object { ... }" {
        sessions_per_user_max: Count = Count(0, 0..=10_000_000, ""), "of every user, at the same time; 0: any number";
        sessions_per_source_max: Count = Count(0, 0..=10_000_000, ""), "of every source, an IPv4 address or an IPv6 /64, at the same time; 0: any number. [What a source is](#sources)";
        handshakes_per_source_max: Count = Count(64, 0..=1_000_000, ""), "of these, sessions of clients that are not admitted yet, from accept to a valid request or a fallback; 0: any number";
        accepts_per_source_per_second_max: Count = Count(0, 0..=1_000_000, ""), "connections of every source, so many at once after a second's silence; 0: any number";
    }
}

section! {
    /// Sizes and switches of the data path.
    Performance from RawPerformance, "an object { ... }" {
        buffer_size: Count = Count(131_072, 4096..=131_072, "bytes"), "largest single read of a relay";
        stats_batch_size: Count = Count(65_536, 1..=1 << 30, "bytes"), "bytes of a user's quota that a worker takes in advance, and what it has spent before it tells; nothing near the end of the quota. Whatever it is, quotas hold to the byte and counters tell every byte";
        tcp_nodelay: Switch = Switch(true), "send small segments at once";
        tcp_recv_buffer: OptionalBytes = OptionalBytes(4096..=SOCKET_BUFFER_MAX), "SO_RCVBUF; 0: the kernel adapts it, which is faster on long paths than any fixed size";
        tcp_send_buffer: OptionalBytes = OptionalBytes(4096..=SOCKET_BUFFER_MAX), "SO_SNDBUF; likewise";
        udp_timeout: Seconds = Seconds(300, 1..=DAY), "without a datagram";
        udp_recv_buffer: Count = Count(65_536, 65_535..=16 << 20, "bytes"), "user-space receive buffer per worker";
        udp_sockets_per_user_max: Count = Count(1024, 1..=1_000_000, ""), "at the same time";
        buffer_memory_max: OptionalBytes = OptionalBytes(1 << 20..=1 << 46), "of all buffers together; 0: from the memory of the machine or cgroup";
        vision_seed: VisionSeed = VisionSeed([900, 500, 900, 256]), "Vision's padding: blocks of an inner handshake shorter than the first number are padded to the third plus a random part below the second; all others by a random part below the fourth. Each at most 8171";
        splice: Switch = Switch(true), "let the kernel move bytes that need no conversion; `false`: copy them, with the same result";
    }
}

section! {
    /// Connected spares per target, and the time a dial may take.
    ConnectionPool from RawConnectionPool, "an object { ... }" {
        enabled: Switch = Switch(true), "keep connected, never used spares for targets in demand";
        max_connections_per_host: Count = Count(20, 1..=1000, ""), "spares per target";
        max_idle_time: Seconds = Seconds(300, 1..=DAY), "a spare not taken for so long is closed";
        max_lifetime: Seconds = Seconds(1800, 1..=DAY), "the oldest a spare may get";
        connect_timeout: Seconds = Seconds(10, 1..=300), "for look-up and connection of a target together, also without the pool";
        health_check_interval: Seconds = Seconds(30, 1..=DAY), "how often spares are looked at";
        enable_warmup: Switch = Switch(true), "connect to the targets below at start";
        warmup_connections: Count = Count(3, 0..=1000, ""), "spares for each of them";
        warmup_targets: Texts<(String, u16)> = Texts(&[], Meaning { read: values::host_and_port, expected: "\"host:port\" such as \"example.com:443\"" }), "`\"host:port\"`";
    }
}

section! {
    /// What clients may reach and how.
    Outbound from RawOutbound, "an object { ... }" {
        allow_private: Switch = Switch(false), "`true`: clients may reach private, loopback and other special addresses, and hear datagrams from them";
        allow: Texts<Cidr> = Texts(&[], Meaning { read: values::cidr, expected: "" }), "networks let through all the same, such as `\"10.0.0.0/8\"` or `\"::1/128\"`";
        deny_ports: Ports = Ports(&[25]), "target ports that are refused, whatever the address";
        prefer: Word<Prefer> = Word("auto", &[("auto", Prefer::Auto), ("ipv4", Prefer::Ipv4), ("ipv6", Prefer::Ipv6)]), "which family is tried first: `\"auto\"` (RFC 8305; of the two one with a spare), `\"ipv4\"`, `\"ipv6\"`. An address that did not answer of late comes behind the other family";
        bind: OptionalText<std::net::IpAddr> = OptionalText(Meaning { read: values::ip, expected: values::IP_EXPECTED }), "source address of connections to targets, one of this machine";
        dns: Group<Dns> = group(), "name look-up";
    }
}

section! {
    /// Name look-up.
    Dns from RawDns, "an object { ... }" {
        servers: Texts<std::net::SocketAddr> = Texts(&[], Meaning { read: values::dns_server, expected: "the IP address of a name server, with or without a port: \"9.9.9.9\", \"9.9.9.9:53\", \"[2620:fe::fe]:53\"" }), "name servers as `\"ip\"`, `\"ip:port\"`, `\"[v6]:port\"`; `[]`: those of `/etc/resolv.conf`";
        timeout: Seconds = Seconds(5, 1..=60), "for one name over all servers and repeats";
    }
}

section! {
    /// One per phase. The first three are absolute, the next three count from the last progress.
    Timeouts from RawTimeouts, "an object { ... }" {
        tls_handshake: Seconds = Seconds(10, 1..=DAY), "from accept to the end of the handshake";
        first_byte: Seconds = Seconds(60, 1..=DAY), "from there (plain: from accept) to the first byte; clients that connect ahead of need may want 120";
        request: Seconds = Seconds(10, 1..=DAY), "from the first byte to a complete request";
        idle: Seconds = Seconds(300, 1..=DAY), "without a payload byte in either direction";
        half_close: Seconds = Seconds(30, 1..=DAY), "one direction has ended, and no byte in the other";
        write_stall: Seconds = Seconds(300, 1..=DAY), "bytes wait and the peer takes none";
        drain: Seconds = Seconds(30, 0..=DAY), "what live sessions get at shutdown";
        upgrade: Seconds = Seconds(3600, 0..=DAY), "what they get in the old process after an upgrade";
    }
}

section! {
    /// What this node shares with others.
    ClusterKeys from RawCluster, "an object { \"url\": ... }" {
        url: EngineUrlKind = EngineUrlKind, "Redis or Valkey: `redis://user:password@host:6379/0`, `rediss://` for TLS, `redis+sentinel://user:password@host1:26379,host2:26379/PRIMARY/0` where sentinels say which is the primary, `unix:///path` for a socket; `null`: this node is alone";
        node: OptionalText<String> = OptionalText(Meaning { read: values::node_name, expected: "1 to 64 letters, digits, dots, dashes or underscores" }), "the name of this node, which no other node has; `null`: the name of the machine";
        prefix: Text<String> = Text("vless", Meaning { read: values::node_name, expected: "1 to 64 letters, digits, dots, dashes or underscores" }), "what all keys in the engine begin with; the nodes of one cluster have the same";
        interval: Seconds = Seconds(5, 1..=300), "how often this node reports what it has counted, and that it is there";
        lease_bytes: Count = Count(64 << 20, 1 << 20..=1 << 40, "bytes"), "what a node may use of a quota before it asks again; all nodes together pass a quota by these at the most";
        away: Word<WhenAway> = Word("serve", &[("serve", WhenAway::Serve), ("refuse", WhenAway::Refuse)]), "what becomes of users with a quota while the engine is away and what was leased is used up: `\"serve\"` by what was known last, or `\"refuse\"`";
        ca_file: OptionalPath = OptionalPath(None), "the only authority, in PEM, that may vouch for the engine; `null`: those of the system";
        folder: FilePath = FilePath("cluster"), "where this node keeps the list of accounts and what the engine was not told yet";
    }
}

section! {
    /// Where log lines go and which.
    Log from RawLog, "an object { ... }" {
        level: Word<log::LevelFilter> = Word("info", LEVELS), "`\"off\"`, `\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"`, `\"trace\"`";
        file: OptionalPath = OptionalPath(None), "appended to; `null`: stderr";
        format: Word<LogFormat> = Word("text", &[("text", LogFormat::Text), ("json", LogFormat::Json)]), "or `\"json\"`: an object per line, for log and access lines";
        access: Switch = Switch(false), "a line for each session that ends";
    }
}
