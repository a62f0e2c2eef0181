//! Ports for programs that a test starts, and ports that nobody listens on.
//!
//! A port that the kernel chose once it may choose again: for any connection that goes out and any listener at port 0,
//! of this test or of one beside it. It chooses from one range only, so a port outside of it stays free until its use.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// What is below is often taken by services of the machine.
const LOWEST: u16 = 10_000;

/// Less room than this does not keep test programs that run side by side apart.
const FEWEST: u16 = 1_000;

static GIVEN: AtomicU16 = AtomicU16::new(0);

/// A TCP address of the loopback at which nobody listens, and which no other call in this process returns.
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// The port of a [`free_address`].
pub fn free_port() -> u16 {
    let room = kernels_lowest().saturating_sub(LOWEST);
    if room < FEWEST {
        // The kernel chooses from nearly all ports; its choice is as good as any.
        return TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    }
    // Processes with ids next to each other begin far from each other; 7919 is a prime number.
    let first = (u64::from(process::id()) * 7919 % u64::from(room)) as u16;
    let candidates = (0..room).map(|_| {
        let step = GIVEN.fetch_add(1, Ordering::Relaxed);
        LOWEST + ((u32::from(first) + u32::from(step)) % u32::from(room)) as u16
    });
    let mut free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("one of all those ports is free")
}

/// The lowest port that the kernel chooses by itself.
fn kernels_lowest() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|lowest| lowest.parse().ok()).unwrap_or(0)
}
