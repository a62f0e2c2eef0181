//! In a network of its own, which has loopback and what a test gives it: routes, and addresses of the machine.

use std::env;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use vless_rust::outbound::dial::{DialError, DialRules, Prefer};
use vless_rust::outbound::policy::{DestinationPolicy, Refusal};

use super::asking;
use super::dns::{Manner, NameServer, Zone};
use super::harness::{Reactor, listener, name, settings};

const MARK: &str = "DIAL_TEST_NETWORK";

/// Runs `body`, which is the test called `name`, in a process with a network of its own, where loopback is up.
fn in_own_network(name: &str, body: fn()) {
    if env::var_os(MARK).is_some() {
        ip(&["link", "set", "lo", "up"]);
        return body();
    }
    let exe = env::current_exe().unwrap();
    for way in [&["--map-root-user", "--net"][..], &["--net"]] {
        let is_possible = Command::new("unshare").args(way).args(["ip", "link"]).output();
        if !is_possible.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let mut child = Command::new("unshare");
        let output = child.args(way).arg(&exe).args(["--exact", name, "--nocapture"]).env(MARK, "1").output().unwrap();
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
        return;
    }
    assert!(env::var_os("CI").is_none(), "a network of its own needs root or user namespaces, and `ip`");
    eprintln!("not run, for it needs root or user namespaces, and `ip`");
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

#[test]
fn a_name_of_both_families_is_reached_by_the_one_that_has_a_route() {
    const ZONE: Zone = &[("dual.example.org", &["127.0.0.1", "2606:4700:4700::1111"])];
    in_own_network("network::a_name_of_both_families_is_reached_by_the_one_that_has_a_route", || {
        let (_listener, address) = listener("127.0.0.1");
        let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
        for prefer in [Prefer::Auto, Prefer::Ipv6, Prefer::Ipv4] {
            let mut reactor = Reactor::new(DialRules { prefer, ..asking(&[server.address]) });
            let target = name("dual.example.org", address.port());
            assert_eq!(reactor.resolved(&target), Ok(address), "{prefer:?}");
            assert_eq!(reactor.outcome(&target).unwrap().peer, address, "{prefer:?}");
            assert_eq!(reactor.counters.dial_attempts.value(), 1, "{prefer:?}: the other one is not tried at all");
        }
    });
}

#[test]
fn of_one_family_the_address_that_has_a_route_is_taken_and_else_the_first() {
    const ZONE: Zone =
        &[("some.example.org", &["1.2.3.4", "127.0.0.1"]), ("none.example.org", &["1.2.3.4", "1.2.3.5"])];
    in_own_network("network::of_one_family_the_address_that_has_a_route_is_taken_and_else_the_first", || {
        let server = NameServer::start("127.0.0.2", ZONE, Manner::Plain);
        let mut reactor = Reactor::new(asking(&[server.address]));
        assert_eq!(reactor.resolved(&name("some.example.org", 7)), Ok("127.0.0.1:7".parse().unwrap()));
        assert_eq!(reactor.resolved(&name("none.example.org", 7)), Ok("1.2.3.4:7".parse().unwrap()));
        assert_eq!(reactor.outcome(&name("none.example.org", 7)).unwrap_err(), DialError::Unreachable);
    });
}

#[test]
fn an_ipv4_address_without_a_route_is_unreachable_at_once_and_nobody_is_asked_for_a_translator() {
    in_own_network(
        "network::an_ipv4_address_without_a_route_is_unreachable_at_once_and_nobody_is_asked_for_a_translator",
        || {
            ip(&["-6", "route", "add", "default", "dev", "lo"]);
            let server = NameServer::start("127.0.0.2", &[], Manner::Plain);
            let mut reactor = Reactor::new(asking(&[server.address]));
            let target = SocketAddr::from(([8, 8, 8, 8], 443));
            assert_eq!(reactor.outcome(&target.into()).unwrap_err(), DialError::Unreachable);
            assert_eq!(reactor.counters.dns_lookups.value(), 0);
        },
    );
}

#[test]
fn the_public_addresses_of_this_machine_are_refused_as_soon_as_it_has_them_unless_they_are_allowed() {
    in_own_network(
        "network::the_public_addresses_of_this_machine_are_refused_as_soon_as_it_has_them_unless_they_are_allowed",
        || {
            let own: IpAddr = "9.9.9.10".parse().unwrap();
            let service = TcpListener::bind("0.0.0.0:0").unwrap();
            let target = SocketAddr::new(own, service.local_addr().unwrap().port());
            let mut reactor = Reactor::new(settings());
            assert_eq!(reactor.outcome(&target.into()).unwrap_err(), DialError::Unreachable);
            let edition = reactor.dialer.judge().edition();
            ip(&["address", "add", "9.9.9.10/32", "dev", "lo"]);
            reactor.run_until(|reactor| reactor.dialer.judge().edition() != edition);
            let refused = reactor.outcome(&target.into()).map(drop);
            assert!(matches!(refused, Err(DialError::RefusedByPolicy(Refusal::Private(_)))), "{refused:?}");
            let refused = reactor.resolved(&target.into());
            assert!(matches!(refused, Err(DialError::RefusedByPolicy(Refusal::Private(_)))), "{refused:?}");
            assert!(reactor.dialer.judge().check_range(own).is_err(), "nor is anything heard from there");
            let allow = vec!["9.9.9.10/32".parse().unwrap()];
            let allowing = Arc::new(DestinationPolicy::new(false, allow, Vec::new(), Vec::new()));
            reactor.adopt(|rules| rules.policy = allowing);
            assert_eq!(reactor.outcome(&target.into()).unwrap().peer, target);
        },
    );
}
