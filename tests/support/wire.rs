//! A wire in user space between two network namespaces: delay, loss, reordering and forged resets by seed, and eyes on
//! every packet.
//!
//! The test machines' kernels have no netem. Each end is a TUN device that was made here and moved into a namespace of
//! its own, so the traffic never leaves them. Needs root, `ip` (iproute2) and /dev/net/tun.
#![allow(dead_code, unreachable_pub, reason = "each user needs a part of it")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Addresses of the two ends.
pub const NEAR: &str = "10.76.0.1";
pub const FAR: &str = "10.76.0.2";
/// All addresses of this network are the far end's.
pub const FAR_NETWORK: &str = "10.77.0.0/16";

/// What the wire does to packets, in each direction by itself.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub delay: Duration,
    /// So many of a million packets are lost, and so many come later than those behind them.
    pub lost_ppm: u32,
    pub late_ppm: u32,
    pub late_by: Duration,
    /// So many of a million TCP segments become resets.
    pub reset_ppm: u32,
    pub seed: u64,
}

impl Manners {
    /// Nothing but a delay each way.
    pub fn delay(delay: Duration) -> Self {
        Self { delay, lost_ppm: 0, late_ppm: 0, late_by: Duration::ZERO, reset_ppm: 0, seed: 1 }
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    NearToFar,
    FarToNear,
}

/// Two namespaces and the wire between them; dropping it removes the namespaces, and with them the wire.
pub struct Wire {
    /// Names for `ip netns exec`.
    pub near: String,
    pub far: String,
}

impl Wire {
    /// Lays the wire. `see` is shown every packet (IPv4, without link header) as it enters, lost ones included.
    pub fn lay(manners: Manners, see: impl Fn(Way, &[u8]) + Send + Sync + 'static) -> io::Result<Self> {
        let id = process::id();
        let wire = Self { near: format!("near-{id}"), far: format!("far-{id}") };
        let ends = [(&wire.near, format!("wn{id}"), NEAR), (&wire.far, format!("wf{id}"), FAR)];
        let mut devices = Vec::new();
        for (namespace, device, address) in &ends {
            devices.push(Arc::new(open_tun(device)?));
            ip(&["netns", "add", namespace])?;
            ip(&["link", "set", device, "netns", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "address", "add", &format!("{address}/30"), "dev", device])?;
            ip(&["-n", namespace, "link", "set", device, "mtu", "1400", "up"])?;
        }
        ip(&["-n", &wire.near, "route", "add", FAR_NETWORK, "via", FAR])?;
        ip(&["-n", &wire.far, "route", "add", "local", FAR_NETWORK, "dev", "lo"])?;
        let see = Arc::new(see);
        for (way, from, to) in [(Way::NearToFar, 0, 1), (Way::FarToNear, 1, 0)] {
            let (from, to, see) = (Arc::clone(&devices[from]), Arc::clone(&devices[to]), Arc::clone(&see));
            let (sender, receiver) = mpsc::channel();
            thread::spawn(move || deliver(&to, &receiver));
            thread::spawn(move || {
                let mut fate = Fate::new(manners, way);
                let mut packet = vec![0; 1 << 16];
                loop {
                    let Ok(length) = (&*from).read(&mut packet) else { return };
                    see(way, &packet[..length]);
                    if fate.resets() {
                        make_reset(&mut packet[..length]);
                    }
                    if let Some(due) = fate.due(Instant::now())
                        && sender.send((due, packet[..length].to_vec())).is_err()
                    {
                        return;
                    }
                }
            });
        }
        Ok(wire)
    }

    /// A command that runs in a namespace.
    pub fn command(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

/// What becomes of the packets of one direction.
pub struct Fate {
    manners: Manners,
    random: u64,
}

impl Fate {
    pub fn new(manners: Manners, way: Way) -> Self {
        Self { manners, random: manners.seed * 2 + u64::from(way == Way::FarToNear) }
    }

    /// When a packet that enters now comes out; `None` if it is lost.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        let manners = self.manners;
        if self.below_million() < manners.lost_ppm {
            return None;
        }
        let late = if self.below_million() < manners.late_ppm { manners.late_by } else { Duration::ZERO };
        Some(now + manners.delay + late)
    }

    /// Whether a packet that enters now becomes a reset, if it is a segment of TCP.
    pub fn resets(&mut self) -> bool {
        self.manners.reset_ppm > 0 && self.below_million() < self.manners.reset_ppm
    }

    /// splitmix64.
    fn below_million(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % 1_000_000) as u32
    }
}

/// Writes packets when they are due, those due at the same time in their order.
fn deliver(to: &File, packets: &Receiver<(Instant, Vec<u8>)>) {
    let mut waiting = BinaryHeap::new();
    let mut number = 0_u64;
    loop {
        let now = Instant::now();
        while let Some(Reverse((due, _, _))) = waiting.peek()
            && *due <= now
        {
            let Some(Reverse((_, _, packet))): Option<Reverse<(Instant, u64, Vec<u8>)>> = waiting.pop() else { break };
            // A namespace that is gone takes nothing any more.
            let _ = { to }.write(&packet);
        }
        let next = waiting
            .peek()
            .map_or(Duration::from_secs(3600), |Reverse((due, _, _))| due.saturating_duration_since(Instant::now()));
        match packets.recv_timeout(next) {
            Ok((due, packet)) => {
                number += 1;
                waiting.push(Reverse((due, number, packet)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Makes a TUN device of this name; it lives as long as the file.
fn open_tun(name: &str) -> io::Result<File> {
    /// `struct ifreq`: the name, then the flags, then room for the other members of its union.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    const IFF_TUN: u16 = 1;
    const IFF_NO_PI: u16 = 0x1000;
    const TUNSETIFF: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);

    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    let Some(room) = request.name.get_mut(..name.len()) else { return Err(ErrorKind::InvalidInput.into()) };
    room.copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, whose layout and size `Request` has.
    unsafe { rustix::ioctl::ioctl(&file, rustix::ioctl::Updater::<TUNSETIFF, Request>::new(&mut request))? };
    Ok(file)
}

/// Runs `ip`.
pub fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}

/// Makes a TCP segment a reset, as somebody on the way would. Segments that open a connection stay what they are.
pub fn make_reset(packet: &mut [u8]) {
    const RESET_AND_ACK: u16 = 0x14;
    if segment(packet).is_none_or(|segment| segment.is_opening) {
        return;
    }
    let tcp = usize::from(packet[0] & 15) * 4;
    let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (before, checksum) = (word(packet, tcp + 12), word(packet, tcp + 16));
    let after = before & 0xff00 | RESET_AND_ACK;
    // RFC 1624: what a changed word does to a checksum.
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    packet[tcp + 12..tcp + 14].copy_from_slice(&after.to_be_bytes());
    packet[tcp + 16..tcp + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// A TCP segment in an IPv4 packet.
pub struct Segment<'a> {
    pub is_opening: bool,
    pub payload: &'a [u8],
}

/// Reads a packet; `None` if it holds no TCP.
pub fn segment(packet: &[u8]) -> Option<Segment<'_>> {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let header = usize::from(packet.first()? & 15) * 4;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != 6 {
        return None;
    }
    let tcp = packet.get(header..)?;
    let flags = tcp.get(13)?;
    let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    Some(Segment { is_opening: flags & (SYN | ACK) == SYN, payload })
}
