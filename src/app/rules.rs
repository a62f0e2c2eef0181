//! From a configuration to the rules that workers obey.
//!
//! A pure function: it opens no file, asks no clock and starts nothing, so a configuration that cannot be served fails
//! here, before any worker hears of it. What is alive (ledgers) and what the process can do (capacity) come from
//! outside and are only referred to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::app::accounts::standing::{Standing, standing};
use crate::app::capacity::Capacity;
use crate::app::certs::LoadedCertificate;
use crate::app::config::{self, Config, EnginePlace, FallbackDest, TlsVersion};
use crate::app::exit::{self, Failure};
use crate::app::sites::Sites;
use crate::inbound::tls::{Certificate, TlsSettings};
use crate::inbound::users::Barred;
use crate::io::sockopt::SocketOptions;
use crate::outbound::connection_pool::PoolSettings;
use crate::outbound::dial::{DialRules, Prefer};
use crate::outbound::policy::DestinationPolicy;
use crate::outbound::resolve::ResolverSettings;
use crate::outbound::resolve::lookups::Limits;
use crate::protocol::addons::Flow;
use crate::protocol::proxy_header::Version;
use crate::protocol::user_id;
use crate::reactor::{Observer, Rules, SourceLimits};
use crate::session::{
    Dest, Fallback, Fallbacks, Host, SessionSettings, Target, Timeouts, TlsAcceptor, UdpSettings, User, Users,
};
use crate::stats::Ledgers;

/// `sun_path` of Linux has 108 bytes, of which the first marks the name as abstract.
const ABSTRACT_NAME_BYTES_MAX: usize = 107;

/// What rules need beside the configuration.
pub struct Surroundings<'a> {
    /// Made by [`acceptor`]. It may be older than the configuration, where nothing of TLS has changed: its keys for
    /// tickets are what clients come back with.
    pub tls: Option<TlsAcceptor>,
    /// Those that the fallbacks lead to.
    pub sites: &'a Sites,
    pub ledgers: &'a Ledgers,
    /// Seconds since 1970.
    pub now: u64,
    pub capacity: Capacity,
    /// Told of every session that ends.
    pub observer: Arc<dyn Observer>,
}

/// The rules that `config` means.
///
/// # Errors
/// 78 when users cannot be told apart, or when a site is not among those around.
pub fn rules(config: &Config, around: &Surroundings<'_>) -> Result<Rules, Failure> {
    Ok(Rules {
        session: SessionSettings {
            tls: around.tls.clone(),
            proxy_protocol_from: config.server.proxy_protocol_from.clone().into(),
            users: Arc::new(users(&config.users, around.ledgers, around.now)?),
            fallbacks: Arc::new(fallbacks(&config.fallbacks, around.sites)?),
            timeouts: timeouts(&config.timeouts),
            vision_seed: config.performance.vision_seed.map(u32::from),
            read_bytes_max: config.performance.buffer_size,
            udp: UdpSettings {
                timeout: config.performance.udp_timeout,
                recv_buffer_bytes: config.performance.udp_recv_buffer,
                sockets_per_user_max: config.performance.udp_sockets_per_user_max,
                ..UdpSettings::default()
            },
        },
        dial: Arc::new(dial(config, around.capacity)),
        sessions_max: around.capacity.sessions_max(config.monitoring.vless_max_connections),
        sources: SourceLimits {
            sessions_max: config.limits.sessions_per_source_max,
            openings_max: config.limits.handshakes_per_source_max,
            accepts_per_second_max: config.limits.accepts_per_source_per_second_max,
        },
        observer: Arc::clone(&around.observer),
    })
}

/// Where the server listens.
pub fn listen_addresses(config: &Config) -> Vec<SocketAddr> {
    config.server.listen.iter().map(|ip| SocketAddr::new(*ip, config.server.port)).collect()
}

/// What is set on sockets of both legs.
pub fn socket_options(config: &Config) -> SocketOptions {
    let performance = &config.performance;
    SocketOptions {
        nodelay: performance.tcp_nodelay,
        recv_buffer_bytes: performance.tcp_recv_buffer.unwrap_or(0),
        send_buffer_bytes: performance.tcp_send_buffer.unwrap_or(0),
    }
}

/// Targets that get spares at the start.
pub fn warm_up_targets(config: &Config) -> Vec<Target> {
    let targets = config.connection_pool.warmup_targets.iter().map(|(host, port)| Target {
        host: host.parse().map_or_else(|_| Host::Name(host.as_str().into()), Host::Ip),
        port: *port,
    });
    targets.collect()
}

/// Those of `accounts` that may connect at `now`, in seconds since 1970.
///
/// # Errors
/// 78 when two cannot be told apart.
pub fn users(accounts: &[config::User], ledgers: &Ledgers, now: u64) -> Result<Users, Failure> {
    let (mut active, mut barred) = (Vec::new(), Vec::new());
    for user in accounts {
        let ledger = ledgers.of(user_id::mask(user.id));
        match standing(user, &ledger, now) {
            Standing::Active => active.push(User {
                id: user.id,
                email: user.email.clone(),
                flow: if user.flow.is_vision() { Flow::Vision } else { Flow::None },
                ledger,
            }),
            Standing::Disabled => barred.push((user.id, Barred::Disabled)),
            Standing::Expired => barred.push((user.id, Barred::Expired)),
            Standing::QuotaUsed => barred.push((user.id, Barred::QuotaUsed)),
        }
    }
    Users::new(active).map(|users| users.with_barred(barred)).map_err(|user| {
        // The configuration's own check comes first and says where; this is for users that tests put together.
        Failure::new(exit::CONFIG, format!("users: the id of {} cannot be told from another user's", user.email))
    })
}

/// TLS with these certificates, the default one first; `None` without TLS.
///
/// # Errors
/// 78 when the certificates do not serve.
pub fn acceptor(config: &Config, certificates: &[LoadedCertificate]) -> Result<Option<TlsAcceptor>, Failure> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let certificates = certificates
        .iter()
        .map(|loaded| Certificate { names: loaded.names.clone(), key: Arc::clone(&loaded.certified_key) });
    let settings = TlsSettings {
        certificates: certificates.collect(),
        alpn: tls.alpn.clone(),
        tls13_only: tls.min_version == TlsVersion::Tls13,
        remember_names: needs_names(config),
    };
    TlsAcceptor::new(settings).map(Some).map_err(|error| Failure::new(exit::CONFIG, format!("tls: {error}")))
}

/// Whether a fallback is chosen by what a client's TLS asked for.
pub fn needs_names(config: &Config) -> bool {
    config.fallbacks.iter().any(|one| !one.name.is_empty() || !one.alpn.is_empty())
}

fn fallbacks(configured: &[config::Fallback], sites: &Sites) -> Result<Fallbacks, Failure> {
    let known: Result<Vec<_>, _> = configured.iter().map(|one| fallback(one, sites)).collect();
    known.map(Fallbacks::new)
}

fn fallback(configured: &config::Fallback, sites: &Sites) -> Result<Fallback, Failure> {
    Ok(Fallback {
        name: configured.name.clone(),
        alpn: configured.alpn.clone(),
        path: configured.path.clone(),
        dest: match &configured.dest {
            FallbackDest::Tcp(host, port) => Dest::Tcp(host.as_str().into(), *port),
            FallbackDest::Unix(path) => Dest::Unix(path.clone().into_boxed_path()),
            FallbackDest::Abstract { name, padded } => Dest::Abstract(abstract_name(name, *padded)),
            FallbackDest::BuiltIn(root) => Dest::BuiltIn(sites.at(root.as_deref())?),
        },
        proxy_header: match configured.xver {
            1 => Some(Version::One),
            2 => Some(Version::Two),
            _ => None,
        },
    })
}

/// A padded name fills the address, as haproxy's do; the zero byte in front of an abstract name is not counted here.
pub(super) fn abstract_name(name: &str, padded: bool) -> Box<[u8]> {
    let mut bytes = name.as_bytes().to_vec();
    if padded {
        bytes.resize(ABSTRACT_NAME_BYTES_MAX.max(bytes.len()), 0);
    }
    bytes.into()
}

fn timeouts(timeouts: &config::Timeouts) -> Timeouts {
    Timeouts {
        tls_handshake: timeouts.tls_handshake,
        first_byte: timeouts.first_byte,
        request: timeouts.request,
        idle: timeouts.idle,
        half_close: timeouts.half_close,
        write_stall: timeouts.write_stall,
    }
}

fn dial(config: &Config, capacity: Capacity) -> DialRules {
    let outbound = &config.outbound;
    DialRules {
        connect_timeout: config.connection_pool.connect_timeout,
        prefer: match outbound.prefer {
            config::Prefer::Auto => Prefer::Auto,
            config::Prefer::Ipv4 => Prefer::Ipv4,
            config::Prefer::Ipv6 => Prefer::Ipv6,
        },
        bind: outbound.bind,
        policy: Arc::new(policy(config)),
        resolver: ResolverSettings {
            servers: outbound.dns.servers.clone(),
            timeout: outbound.dns.timeout,
            limits: Limits { lookups_max: capacity.lookups_per_worker(), ..Limits::default() },
            ..ResolverSettings::default()
        },
        options: socket_options(config),
        pool: pool(config, capacity),
    }
}

fn policy(config: &Config) -> DestinationPolicy {
    let outbound = &config.outbound;
    let (allow, deny_ports) = (outbound.allow.clone(), outbound.deny_ports.clone());
    DestinationPolicy::new(outbound.allow_private, allow, deny_ports, own_listeners(config)).guarding(guarded(config))
}

/// The dashboard, which needs no token on this machine, and the engine of the cluster where its address is written down.
fn guarded(config: &Config) -> Vec<SocketAddr> {
    let monitoring = &config.monitoring;
    let dashboard = monitoring.enabled.then(|| SocketAddr::new(monitoring.listen, monitoring.port));
    let engines = match config.cluster.url.as_ref().map(|url| &url.place) {
        Some(EnginePlace::Tcp { host, port, .. }) => vec![(host.clone(), *port)],
        Some(EnginePlace::Sentinels { sentinels, .. }) => sentinels.clone(),
        Some(EnginePlace::Unix(_)) | None => Vec::new(),
    };
    let engines = engines.into_iter().filter_map(|(host, port)| {
        let ip = if host == "localhost" { Ok(Ipv4Addr::LOCALHOST.into()) } else { host.parse() };
        Some(SocketAddr::new(ip.ok()?, port))
    });
    dashboard.into_iter().chain(engines).collect()
}

/// Where clients would reach this server itself. The public address may be somebody else's translation of ours, which
/// only the operator knows.
fn own_listeners(config: &Config) -> Vec<SocketAddr> {
    let public = config.server.public_ip.as_ref().and_then(|host| host.parse().ok());
    let public = public.map(|ip| SocketAddr::new(ip, config.server.port));
    listen_addresses(config).into_iter().chain(public).collect()
}

/// Spare connections; their figures are the process's.
fn pool(config: &Config, capacity: Capacity) -> Option<PoolSettings> {
    let pool = &config.connection_pool;
    pool.enabled.then(|| PoolSettings {
        spares_per_target_max: pool.max_connections_per_host,
        spares_max: capacity.spares(),
        idle_max: pool.max_idle_time,
        lifetime_max: pool.max_lifetime,
        connect_timeout: pool.connect_timeout,
        health_check_interval: pool.health_check_interval,
        warm_up_spares: if pool.enable_warmup { pool.warmup_connections.min(pool.max_connections_per_host) } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;
    use std::time::Duration;

    use crate::app::access::AccessLines;
    use crate::outbound::routes::Way;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("/nowhere/config.json")).unwrap()
    }

    fn made(config: &Config, ledgers: &Ledgers) -> Result<Rules, Failure> {
        let capacity = Capacity { workers: 2, descriptors: 20_000, memory: 1 << 30 };
        let observer = Arc::new(AccessLines { log: None, format: config.log.format });
        let sites = Sites::default();
        rules(config, &Surroundings { tls: None, sites: &sites, ledgers, now: 0, capacity, observer })
    }

    #[test]
    fn what_the_file_says_is_what_the_workers_get() {
        let text = r#"{ "users": [ { "uuid": "example", "email": "a@b" } ], "timeouts": { "idle": 77 },
            "performance": { "udp_timeout": 11, "buffer_size": 8192 }, "connection_pool": { "enabled": false },
            "monitoring": { "vless_max_connections": 12 }, "outbound": { "prefer": "ipv6", "bind": "127.0.0.1" } }"#;
        let rules = made(&config(text), &Ledgers::new(2)).unwrap();
        let session = &rules.session;
        assert_eq!((session.timeouts.idle, session.udp.timeout), (Duration::from_secs(77), Duration::from_secs(11)));
        assert_eq!((session.read_bytes_max, rules.sessions_max), (8192, 12));
        assert!(session.tls.is_none() && rules.dial.pool.is_none());
        assert_eq!((rules.dial.prefer, rules.dial.bind), (Prefer::Ipv6, Some([127, 0, 0, 1].into())));
        assert_eq!(session.users.iter().map(|user| user.email.as_str()).collect::<Vec<_>>(), ["a@b"]);
    }

    #[test]
    fn a_user_keeps_the_ledger_across_rules_under_another_name_and_after_an_absence() {
        let ledgers = Ledgers::new(2);
        let named = |email: &str| {
            let text = format!(r#"{{ "users": [ {{ "uuid": "example", "email": "{email}" }} ] }}"#);
            let rules = made(&config(&text), &ledgers).unwrap();
            rules.session.users.iter().next().map(|user| Arc::clone(&user.ledger)).unwrap()
        };
        let first = named("old@name");
        first.lane(1).uplink_bytes.add(9);
        drop(first);
        made(&config(r#"{ "users": [ { "uuid": "another" } ] }"#), &ledgers).unwrap();
        assert_eq!(named("new@name").used_bytes(), 9);
    }

    #[test]
    fn who_may_not_connect_is_nobody_to_the_workers() {
        let text = r#"{ "users": [ { "uuid": "a", "email": "a", "enabled": false }, { "uuid": "b", "email": "b" },
            { "uuid": "c", "email": "c", "limits": { "expires_at": "1970-01-01" } } ] }"#;
        let rules = made(&config(text), &Ledgers::new(2)).unwrap();
        assert_eq!(rules.session.users.iter().map(|user| user.email.as_str()).collect::<Vec<_>>(), ["b"]);
        let why = |id: &str| rules.session.users.barred(&user_id::parse(id).unwrap());
        assert_eq!([why("a"), why("b"), why("c")], [Some(Barred::Disabled), None, Some(Barred::Expired)]);
    }

    #[test]
    fn tls_without_a_certificate_that_serves_fails_here() {
        let text = r#"{ "users": [ { "uuid": "example" } ], "tls": { "enabled": true } }"#;
        let failure = acceptor(&config(text), &[]).err().unwrap();
        assert_eq!(failure.code, exit::CONFIG);
    }

    #[test]
    fn clients_reach_neither_dashboard_nor_engine_where_they_may_reach_all_else() {
        let refused =
            |policy: &DestinationPolicy, address: &str| policy.check(address.parse().unwrap(), |_| Way::There).is_err();
        let text = r#"{ "users": [{ "uuid": "a" }], "outbound": { "allow_private": true },
            "monitoring": { "port": 9091 }, "cluster": { "url": "redis://:p@10.0.0.5", "node": "a" } }"#;
        let open = policy(&config(text));
        assert!(refused(&open, "127.0.0.1:9091") && refused(&open, "[::ffff:10.0.0.5]:6379"));
        assert!(!refused(&open, "127.0.0.1:9090") && !refused(&open, "10.0.0.6:6379"));
        let sentinels = text.replace("redis://:p@10.0.0.5", "redis+sentinel://:p@10.0.0.5,localhost:99/x");
        let open = policy(&config(&sentinels));
        assert!(refused(&open, "10.0.0.5:26379") && refused(&open, "127.0.0.1:99"));
    }
}
