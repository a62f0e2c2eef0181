//! From the configuration to the settings of the control plane.

use std::env;
use std::net::SocketAddr;

use serde_json::Value;

use crate::app::config::{Alert, Config, Receiver};
use crate::control::alerts::{Condition, Metric, Recipient, Rule, default_rules};
use crate::control::guard::Keys;
use crate::control::listeners::Places;
use crate::control::settings::Settings;
use crate::control::webhook::Url;

/// One more origin under which the page may be shown, such as `https://panel.example`.
const ORIGIN_VARIABLE: &str = "VLESS_MONITOR_ORIGIN";

/// The settings that `config` means.
pub fn settings(config: &Config) -> Settings {
    let monitoring = &config.monitoring;
    let origin = env::var(ORIGIN_VARIABLE).ok().filter(|origin| !origin.is_empty());
    let served = monitoring.enabled;
    Settings {
        server: server_name(config),
        places: Places {
            tcp: served.then(|| SocketAddr::new(monitoring.listen, monitoring.port)),
            unix: monitoring.socket.clone().filter(|_| served),
        },
        keys: Keys {
            token: monitoring.token.as_ref().map(|token| token.reveal().to_owned()),
            admin_token: monitoring.admin_token.as_ref().map(|token| token.reveal().to_owned()),
            is_loopback: monitoring.listen.is_loopback(),
            origin: origin.map(|origin| origin.trim_end_matches('/').to_owned()),
        },
        speed_history_s: monitoring.speed_history_duration.as_secs() as usize,
        broadcast_interval: monitoring.broadcast_interval,
        feed_clients_max: monitoring.websocket_max_connections,
        heartbeat_timeout: monitoring.websocket_heartbeat_timeout,
        sessions_max_configured: monitoring.vless_max_connections,
        state_file: Some(monitoring.state_file.clone()),
        state_interval: monitoring.state_interval,
        metrics_users: monitoring.metrics_users,
        rules: rules(&monitoring.alerts),
        tls: config.tls.is_some(),
        performance: performance(config),
    }
}

/// What tells this server from others in messages: the first that the file has of the node's name, the public address
/// and the name in links; else the name of the machine.
fn server_name(config: &Config) -> String {
    let of_machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    if config.cluster.url.is_some() {
        return config.cluster.node.clone().unwrap_or_else(of_machine);
    }
    let in_links = || config.tls.as_ref().map(|tls| tls.server_name.clone()).filter(|name| name != "localhost");
    config.server.public_ip.clone().or_else(in_links).unwrap_or_else(of_machine)
}

/// The section as it is in effect.
fn performance(config: &Config) -> Value {
    let mut effective = serde_json::from_str::<Value>(&config.effective_json()).unwrap_or_default();
    effective["performance"].take()
}

/// The operator's rules, and the default ones whose names he has not taken.
fn rules(alerts: &[Alert]) -> Vec<Rule> {
    let own: Vec<_> = alerts.iter().filter_map(rule).collect();
    let defaults = default_rules().into_iter().filter(|rule| own.iter().all(|own| own.name != rule.name));
    defaults.chain(own.iter().cloned()).collect()
}

/// `None` for what the check of the configuration refuses.
fn rule(alert: &Alert) -> Option<Rule> {
    let condition = match (alert.above, alert.below) {
        (Some(limit), None) => Condition::Above(limit),
        (None, Some(limit)) => Condition::Below(limit),
        _ => return None,
    };
    let to = alert.to.iter().filter_map(|receiver| match receiver {
        Receiver::Log => Some(Recipient::Log),
        Receiver::Webhook(url) => Url::parse(url).map(Recipient::Webhook),
        Receiver::Command(words) => Some(Recipient::Command(words.clone())),
    });
    let metric = Metric::named(&alert.metric)?;
    Some(Rule { name: alert.name.clone(), metric, condition, hold: alert.r#for, to: to.collect() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn of(monitoring: &str) -> Settings {
        let text = format!(r#"{{ "users": [ {{ "uuid": "example" }} ], "monitoring": {monitoring} }}"#);
        settings(&Config::parse(&text, Path::new("/etc/vless/config.json")).unwrap())
    }

    #[test]
    fn what_the_file_says_is_what_the_control_plane_gets() {
        let settings = of(
            r#"{ "listen": "::1", "port": 9191, "token": "look", "admin_token": "change", "speed_history_duration": 90,
                 "broadcast_interval": 2, "websocket_max_connections": 7, "websocket_heartbeat_timeout": 30,
                 "vless_max_connections": 99, "state_file": "s.json", "state_interval": 3, "socket": "x.sock",
                 "metrics_users": false }"#,
        );
        assert_eq!(settings.places.tcp.unwrap().to_string(), "[::1]:9191");
        assert_eq!(settings.places.unix.as_deref(), Some(Path::new("/etc/vless/x.sock")));
        assert_eq!(
            (settings.keys.token.as_deref(), settings.keys.admin_token.as_deref()),
            (Some("look"), Some("change"))
        );
        assert!(settings.keys.is_loopback && !settings.metrics_users && !settings.tls);
        assert_eq!(
            (settings.speed_history_s, settings.feed_clients_max, settings.sessions_max_configured),
            (90, 7, 99)
        );
        assert_eq!(settings.broadcast_interval, Duration::from_secs(2));
        assert_eq!(settings.heartbeat_timeout, Duration::from_secs(30));
        assert_eq!(settings.state_interval, Duration::from_secs(3));
        assert_eq!(settings.state_file.as_deref(), Some(Path::new("/etc/vless/s.json")));
        assert_eq!(settings.performance["splice"], true);
    }

    #[test]
    fn messages_name_the_server_by_what_the_file_has() {
        let named = |rest: &str| {
            let text = format!(r#"{{ "users": [ {{ "uuid": "example" }} ] {rest} }}"#);
            settings(&Config::parse(&text, Path::new("/etc/vless/config.json")).unwrap()).server
        };
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert_eq!(named(""), machine);
        assert_eq!(named(r#", "tls": { "enabled": true }"#), machine);
        let tls = r#", "tls": { "enabled": true, "server_name": "vpn.example.com" }"#;
        assert_eq!(named(tls), "vpn.example.com");
        let public = format!(r#", "server": {{ "public_ip": "192.0.2.7" }} {tls}"#);
        assert_eq!(named(&public), "192.0.2.7");
        let cluster = r#", "cluster": { "url": "redis://127.0.0.1/0", "node": "fra-1" }"#;
        assert_eq!(named(&format!("{public} {cluster}")), "fra-1");
    }

    #[test]
    fn switched_off_nothing_is_served_and_the_state_is_kept() {
        let settings = of(r#"{ "enabled": false }"#);
        assert!(settings.places.tcp.is_none() && settings.places.unix.is_none());
        assert!(settings.state_file.is_some());
    }

    #[test]
    fn rules_of_the_operator_replace_default_ones_of_the_same_name() {
        let settings = of(
            r#"{ "alerts": [ { "name": "memory_short", "metric": "memory_percent", "above": 50, "for": 5,
                               "to": [ "log", { "webhook": "https://hooks.example/x" }, { "command": ["/bin/true"] } ] },
                             { "name": "quiet", "metric": "no_traffic_seconds", "above": 600 } ] }"#,
        );
        assert_eq!(settings.rules.len(), default_rules().len() + 1);
        let rule = settings.rules.iter().find(|rule| rule.name == "memory_short").unwrap();
        assert_eq!((rule.condition, rule.hold, rule.to.len()), (Condition::Above(50.0), Duration::from_secs(5), 3));
    }
}
