//! Nobody reaches through the server what is not for him: private networks, this machine, its cloud's metadata and the
//! server itself, however spelled and in whatever way asked for.
//!
//! Every protected address is real here and leads to a trap, so a rule that is missing is seen as somebody caught.

mod client;
mod names;
mod stage;

use std::io::Write;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::unix::net::UnixListener;

use vless_rust::session::close::CloseReason;

use client::{Spelling, WAYS, Way, packet, read_to_end};
use names::{NameServer, name_of};
use stage::{Server, Trap, in_own_network, ip, wait_until};

/// Addresses that no client may reach.
const PROTECTED: &str = "127.0.0.1 127.9.9.9 0.0.0.0 10.0.0.1 172.16.0.1 192.168.0.1 100.64.0.1 100.100.100.200 \
    169.254.169.254 168.63.129.16 161.26.0.10 192.0.0.192 198.18.0.1 203.0.113.9 9.9.9.10 224.0.0.1 255.255.255.255 \
    ::1 :: ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:9.9.9.10 ::ffff:0:127.0.0.1 \
    64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::127.0.0.1 2002:7f00:1::1 2001:0:7f00:1::1 2001:db8::1 \
    2606:4700::10 fd00:ec2::254 fd20:ce::254 fe80::1 ff02::1";

/// Texts that some resolvers take for an address of this machine.
const TEXTS: &str = "localhost localhost. LOCALHOST x.localhost 127.0.0.1 127.1 0x7f000001 0x7f.0.0.1 2130706433 \
    017700000001 0177.0.0.1 [::1] ::1 ::ffff:127.0.0.1 0 0.0.0.0 ip6-localhost 169.254.169.254 127.0.0.1.";

const IS_REFUSAL: &[CloseReason] = &[CloseReason::BadRequest, CloseReason::PolicyRefused];

fn protected() -> impl Iterator<Item = IpAddr> {
    PROTECTED.split_whitespace().map(|text| text.parse().unwrap())
}

/// Asks in every way for every target; nothing may arrive in the trap, and each must have been turned away.
fn assert_turned_away(server: &Server, trap: &Trap, targets: &[Spelling]) {
    for target in targets {
        for way in WAYS {
            let before = turned_away(server);
            let connection = way.ask(server, target, trap.port);
            // The harmless target before it has no route here, which is counted too.
            let expected = before + if way == Way::MuxUdpKeep { 2 } else { 1 };
            wait_until(&format!("{target:?} by {way:?} is turned away"), || turned_away(server) >= expected);
            assert_eq!(trap.caught(), (0, 0), "{target:?} by {way:?} arrived");
            drop(connection);
        }
    }
}

/// Dials that failed and datagrams that were dropped. In this network there is no way to anywhere else.
fn turned_away(server: &Server) -> u64 {
    let totals = server.totals();
    totals.dials_refused_by_policy
        + totals.dials_unresolved
        + totals.dials_failed
        + totals.udp_dropped_by_policy
        + totals.udp_dropped_unresolved
        + totals.udp_dropped_undecided
        + totals.udp_dropped_by_kernel
        + server.reasons().iter().filter(|reason| IS_REFUSAL.contains(reason)).count() as u64
}

fn end(connection: &TcpStream) {
    let _ = connection.shutdown(Shutdown::Write);
    read_to_end(connection);
}

#[test]
fn the_traps_catch_whoever_is_let_through() {
    in_own_network("the_traps_catch_whoever_is_let_through", || {
        let (names, trap) = (NameServer::start(), Trap::set());
        let server = Server::start(true, names.address);
        for ip in ["10.0.0.1", "9.9.9.10", "2606:4700::10", "64:ff9b::7f00:1"] {
            let ip: IpAddr = ip.parse().unwrap();
            for target in [Spelling::Ip(ip), Spelling::Name(name_of(ip))] {
                for way in WAYS {
                    let mut caught = (0, 0);
                    let connection = way.ask(&server, &target, trap.port);
                    wait_until(&format!("{target:?} by {way:?} arrives"), || {
                        let more = trap.caught();
                        caught = (caught.0 + more.0, caught.1 + more.1);
                        (if way.is_udp() { caught.1 } else { caught.0 }) > 0
                    });
                    drop(connection);
                }
            }
        }
    });
}

#[test]
fn no_protected_address_is_reached_by_itself_in_any_spelling() {
    in_own_network("no_protected_address_is_reached_by_itself_in_any_spelling", || {
        let (names, trap) = (NameServer::start(), Trap::set());
        let server = Server::start(false, names.address);
        let targets: Vec<_> = protected().map(Spelling::Ip).collect();
        assert_turned_away(&server, &trap, &targets);
        assert_eq!(server.totals().dial_attempts, 0, "not even a connect was begun");
        assert_eq!(server.totals().dials_failed, 0, "all of it was the policy's word");
    });
}

#[test]
fn no_protected_address_is_reached_by_a_name_an_alias_or_a_list() {
    in_own_network("no_protected_address_is_reached_by_a_name_an_alias_or_a_list", || {
        let (names, trap) = (NameServer::start(), Trap::set());
        let server = Server::start(false, names.address);
        let spelled = |manner: &str, ip| Spelling::Name(name_of(ip).replacen("ip-", manner, 1));
        for manner in ["ip-", "alias-", "mixed-"] {
            let targets: Vec<_> = protected().map(|ip| spelled(manner, ip)).collect();
            assert_turned_away(&server, &trap, &targets);
        }
        let totals = server.totals();
        assert!(totals.dials_refused_by_policy > 0 && totals.udp_dropped_unresolved > 0);
    });
}

#[test]
fn texts_that_look_like_addresses_are_names_that_lead_nowhere() {
    in_own_network("texts_that_look_like_addresses_are_names_that_lead_nowhere", || {
        let (names, trap) = (NameServer::start(), Trap::set());
        let server = Server::start(false, names.address);
        for text in TEXTS.split_whitespace() {
            for way in WAYS {
                end(&way.ask(&server, &Spelling::Name(text.to_owned()), trap.port));
                assert_eq!(trap.caught(), (0, 0), "{text} by {way:?}");
            }
        }
    });
}

#[test]
fn a_name_that_changes_its_meaning_between_look_up_and_dial_gains_nothing() {
    in_own_network("a_name_that_changes_its_meaning_between_look_up_and_dial_gains_nothing", || {
        let (names, trap) = (NameServer::start(), Trap::set());
        for ip in ["127.0.0.1", "9.9.9.10", "169.254.169.254"] {
            let target = name_of(ip.parse().unwrap()).replacen("ip-", "rebind-", 1);
            for way in WAYS {
                // A server of its own each time has nothing in its cache.
                let server = Server::start(false, names.address);
                for _ in 0..3 {
                    end(&way.ask(&server, &Spelling::Name(target.clone()), trap.port));
                }
                drop(server);
                assert_eq!(trap.caught(), (0, 0), "{target} by {way:?}");
            }
        }
    });
}

#[test]
fn the_server_itself_is_not_reached_even_where_private_networks_are() {
    in_own_network("the_server_itself_is_not_reached_even_where_private_networks_are", || {
        let names = NameServer::start();
        let server = Server::start(true, names.address);
        let own = server.address.port();
        for ip in protected().filter(|ip| !ip.is_multicast() && ip.to_string() != "255.255.255.255") {
            for target in [Spelling::Ip(ip), Spelling::Name(name_of(ip))] {
                let before = (server.totals().sessions_accepted, server.totals().dials_connected);
                end(&Way::Tcp.ask(&server, &target, own));
                end(&Way::MuxTcp.ask(&server, &target, own));
                assert_eq!(server.totals().dials_connected, before.1, "{target:?}");
                assert_eq!(server.totals().sessions_accepted, before.0 + 2, "{target:?} came to the server itself");
            }
        }
    });
}

#[test]
fn demand_for_protected_addresses_opens_no_spare_connection() {
    in_own_network("demand_for_protected_addresses_opens_no_spare_connection", || {
        let (names, trap) = (NameServer::start(), Trap::set());
        let server = Server::start(false, names.address);
        for _ in 0..30 {
            for ip in ["127.0.0.1", "9.9.9.10", "2606:4700::10"] {
                let ip = ip.parse().unwrap();
                end(&Way::Tcp.ask(&server, &Spelling::Ip(ip), trap.port));
                end(&Way::Tcp.ask(&server, &Spelling::Name(name_of(ip)), trap.port));
            }
        }
        let totals = server.totals();
        assert_eq!((totals.spare_attempts, totals.dial_attempts, trap.caught()), (0, 0, (0, 0)));
        assert_eq!(totals.dials_refused_by_policy, 180);
    });
}

#[test]
fn an_address_that_becomes_this_machines_own_is_refused_to_datagrams_under_way() {
    in_own_network("an_address_that_becomes_this_machines_own_is_refused_to_datagrams_under_way", || {
        let (names, trap) = (NameServer::start(), Trap::set());
        let server = Server::start(false, names.address);
        let mut client = Way::Udp.ask(&server, &Spelling::Ip([11, 22, 33, 44].into()), trap.port);
        wait_until("the policy lets it go, and there is no route", || server.totals().udp_dropped_by_kernel == 1);
        ip(&["address", "add", "11.22.33.44/32", "dev", "lo"]);
        client.write_all(&packet(b"hello")).unwrap();
        wait_until("the policy is asked anew", || server.totals().udp_dropped_by_policy == 1);
        assert_eq!(trap.caught(), (0, 0));
    });
}

#[test]
fn names_of_unix_sockets_are_names() {
    in_own_network("names_of_unix_sockets_are_names", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let neighbour = UnixListener::bind(&path).unwrap();
        neighbour.set_nonblocking(true).unwrap();
        let names = NameServer::start();
        let server = Server::start(true, names.address);
        let path = path.to_str().unwrap();
        for text in [path.to_owned(), format!("unix:{path}"), format!("unix://{path}"), format!("@{path}")] {
            end(&Way::Tcp.ask(&server, &Spelling::Name(text.clone()), 80));
            end(&Way::MuxTcp.ask(&server, &Spelling::Name(text.clone()), 80));
            assert!(neighbour.accept().is_err(), "{text}");
        }
    });
}
