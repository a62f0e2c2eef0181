//! Many sessions that have had one small exchange and say nothing any more.

use std::io;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::ground::{Ground, Server, connect_from};
use crate::inner::{self, Mode as Wish, REQUEST_BYTES};
use crate::leg::{Leg, PlainLeg, recv_exact};
use crate::vless::Header;

/// From how many addresses they come; one has not enough ports for all tables.
const SOURCES: usize = 4;
/// Of so many sessions one is a Mux connection without a target: a process may have too few descriptors for two sockets
/// of each.
const MUX_EVERY: usize = 10;

/// The keys of a server that has room for so many sessions. Spare connections would need descriptors, too.
pub(crate) fn keys(count: usize, is_monitored: bool) -> Value {
    json!({
        "monitoring": { "enabled": is_monitored, "vless_max_connections": count + 100 },
        "connection_pool": { "enabled": false },
    })
}

/// `count` sessions without TLS.
pub(crate) fn open(ground: &Ground, server: &Server, count: usize) -> io::Result<Vec<PlainLeg>> {
    let open = |number: usize| {
        let socket = connect_from(Ipv4Addr::new(127, 0, 1, (number % SOURCES) as u8 + 1), server.port)?;
        if number.is_multiple_of(MUX_EVERY) {
            let mut leg = PlainLeg::new(socket, Header::mux());
            leg.send(&[])?;
            return Ok(leg);
        }
        let mut leg = PlainLeg::new(socket, Header::plain(ground.targets.parking_port));
        let request = inner::request(Wish::Echo);
        leg.send(&request)?;
        let mut answer = [0; REQUEST_BYTES];
        recv_exact(&mut leg, &mut answer)?;
        if answer == request { Ok(leg) } else { Err(io::Error::other("an echo came back changed")) }
    };
    (0..count).map(open).collect()
}
