//! A session that carries the datagrams of one target (command 2, VLESS-3).
//!
//! It begins when the target's address is known and the socket is bound. What comes from any address is delivered, as
//! the client is not told where from. One packet is one datagram and one datagram one packet; what the network refuses is
//! dropped and counted, and the session goes on.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::allowance::{PACKET_COST_BYTES, TURN_BYTES_MAX};
use super::channel::{Channel, Ledger, Pulled, Traffic, Turn};
use super::transfer::Transfer;
use super::udp_leg::{Outgoing, UdpLeg};
use super::{CloseReason, Context, SessionSettings, Target};
use crate::inbound::HEADROOM_BYTES;
use crate::io::datagram::{DatagramSocket, RUN_BYTES_MAX, RUN_MAX};
use crate::io::socket::Socket;
use crate::protocol::packet;

/// How long answers are waited for when the client has ended its direction; a client that did is usually gone.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Received for one batch at the most: empty ones fill nothing.
const DATAGRAMS_PER_BATCH: usize = 512;

/// The relay of one client and one UDP socket.
pub(super) struct Datagrams<D> {
    leg: UdpLeg<D>,
    /// What was kept of the uplink has not been looked at.
    payload_waits: bool,
    uplink_ended_at: Option<Instant>,
    ledger: Ledger,
    traffic: Traffic,
    /// What of it the counters know.
    counted: Traffic,
}

impl<D: DatagramSocket> Datagrams<D> {
    /// Towards `target`, whose address is known; the socket follows.
    pub(super) fn new(target: &Target, address: SocketAddr, now: Instant) -> Self {
        let to = Target { port: target.port, ..address.into() };
        Self {
            leg: UdpLeg::new(to, now),
            payload_waits: true,
            uplink_ended_at: None,
            ledger: Ledger::default(),
            traffic: Traffic::default(),
            counted: Traffic::default(),
        }
    }

    pub(super) fn on_bound(&mut self, socket: D, cx: &mut Context<'_>) {
        let mut out =
            Outgoing { now: cx.means.now, counters: cx.counters, traffic: &mut self.traffic, pool: cx.means.pool };
        self.leg.on_bound(socket, &mut out);
    }

    /// The socket may have something.
    pub(super) fn on_readable(&mut self) {
        self.leg.readable = true;
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Takes in what the client's socket has taken of the downlink; the rest as [`Self::take_counted`].
    pub(super) fn collect(&mut self, downlink: &Transfer) -> Traffic {
        self.ledger.collect(downlink, &mut self.traffic);
        self.take_counted()
    }

    /// What had been counted until now, when the rest is.
    pub(super) fn take_counted(&mut self) -> Traffic {
        std::mem::replace(&mut self.counted, self.traffic)
    }

    /// When it ends for lack of traffic, and why.
    pub(super) fn deadline(&self, settings: &SessionSettings, downlink: &Transfer) -> (Instant, CloseReason) {
        let mut first = (self.leg.deadline(&settings.udp), CloseReason::Idle);
        let ended = self.uplink_ended_at.map(|at| (at + LAST_ANSWERS, CloseReason::Finished));
        let stalled = downlink.stalled_since().map(|at| (at + settings.timeouts.write_stall, CloseReason::WriteStall));
        for other in [ended, stalled].into_iter().flatten() {
            if other.0 < first.0 {
                first = other;
            }
        }
        first
    }

    /// Moves what can be moved within one turn's budget.
    pub(super) fn turn<S: Socket>(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let mut uplink = Turn::Wait;
        if self.uplink_ended_at.is_none() {
            match self.uplink(channel, cx) {
                turn @ (Turn::Wait | Turn::Again | Turn::Starved) => uplink = turn,
                Turn::Close(_) => self.uplink_ended_at = Some(cx.means.now),
                other => return other,
            }
        }
        match self.downlink(channel, cx) {
            Turn::Wait => uplink,
            turn => turn,
        }
    }

    fn uplink<S: Socket>(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let mut budget = TURN_BYTES_MAX;
        while budget > 0 {
            match channel.pull(&mut self.payload_waits, &mut cx.means) {
                Pulled::Payload(received) => budget = budget.saturating_sub(received),
                Pulled::Blocked => return Turn::Wait,
                Pulled::Starved => return Turn::Starved,
                Pulled::End => return Turn::Close(CloseReason::Finished),
                Pulled::Failed => return Turn::Abort(CloseReason::ClientReset),
                Pulled::Broken(error) => return Turn::Broken(error),
            }
            let (_, payload) = cx.means.scratch.parts();
            let mut out =
                Outgoing { now: cx.means.now, counters: cx.counters, traffic: &mut self.traffic, pool: cx.means.pool };
            while let Some((datagram, length)) = packet::decode(payload.bytes()) {
                let sent = send_run(&mut self.leg, payload.bytes(), length, &mut out);
                if sent == 0 {
                    let unresolved = self.leg.send(None, datagram, &mut out);
                    debug_assert!(unresolved.is_none(), "the target is an address");
                }
                payload.consume(length * sent.max(1));
                budget = budget.saturating_sub(PACKET_COST_BYTES * sent.max(1));
                if budget == 0 {
                    self.payload_waits = true;
                    break;
                }
            }
            channel.keep(&cx.means);
        }
        Turn::Again
    }

    fn downlink<S: Socket>(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let mut budget = TURN_BYTES_MAX;
        while channel.settle(&mut cx.means) {
            self.ledger.collect(channel.downlink, &mut self.traffic);
            if budget == 0 {
                return Turn::Again;
            }
            if self.leg.readable && !cx.means.pool.may_begin() {
                return Turn::Starved;
            }
            let filled = self.fill(channel.batch_bytes_max(), &mut budget, cx);
            if filled == 0 {
                return if self.leg.readable { Turn::Again } else { Turn::Wait };
            }
            budget = budget.saturating_sub(filled);
            channel.push(&mut cx.means);
        }
        if channel.downlink.end().is_some() { Turn::Abort(CloseReason::ClientReset) } else { Turn::Wait }
    }

    /// Fills the scratch input with packets; returns how many bytes.
    fn fill(&mut self, bytes_max: usize, budget: &mut usize, cx: &mut Context<'_>) -> usize {
        let now = cx.means.now;
        let (input, datagram) = cx.means.scratch.datagram_parts(cx.settings.udp.recv_buffer_bytes);
        input.reset(HEADROOM_BYTES);
        // The last one may exceed the batch: a record more, which the scratch memory has room for.
        for _ in 0..DATAGRAMS_PER_BATCH {
            if input.len() >= bytes_max {
                break;
            }
            let Some((length, _)) = self.leg.recv(datagram, cx.counters, now) else { break };
            *budget = budget.saturating_sub(PACKET_COST_BYTES);
            let Some(header) = packet::header(length).filter(|_| length > 0) else { continue };
            if !input.append(&header) || !input.append(&datagram[..length]) {
                cx.counters.udp_dropped_no_room.add(1);
                break;
            }
            self.ledger.fill(header.len() + length, length, 1);
        }
        input.len()
    }
}

/// Sends the packets of `length` at the front of `bytes` together, if there are several and it goes; returns how many.
fn send_run<D: DatagramSocket>(leg: &mut UdpLeg<D>, bytes: &[u8], length: usize, out: &mut Outgoing<'_>) -> usize {
    let count = packet::equal_packets(bytes, RUN_MAX.min(RUN_BYTES_MAX / length));
    if count < 2 {
        return 0;
    }
    let mut run = [IoSlice::new(&[]); RUN_MAX];
    for (slice, packet) in run.iter_mut().zip(bytes.chunks_exact(length).take(count)) {
        *slice = IoSlice::new(&packet[packet::HEADER_BYTES..]);
    }
    if leg.send_run(&run[..count], out) { count } else { 0 }
}
