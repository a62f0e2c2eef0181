//! A session that carries the datagrams of one target (command 2, VLESS-3).
//!
//! - It begins when the target's address is known and the socket is bound.
//! - One packet is one datagram.
//! - What comes from any address is delivered: the client is not told where from.
//! - What the network refuses is dropped and counted, and the session goes on.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::allowance::PACKET_COST_BYTES;
use super::books::Books;
use super::channel::{Channel, Pulled};
use super::intake::{Intake, Rest};
use super::pause::{Ending, Pause, Turn};
use super::transfer::Transfer;
use super::udp_leg::{Heard, Outgoing, UdpLeg};
use super::{CloseReason, Context, SessionSettings, Target};
use crate::io::buf::Buf;
use crate::io::buffer_memory::STEP_BYTES;
use crate::io::buffer_pool::BufferPool;
use crate::io::datagram::{DatagramSocket, RUN_BYTES_MAX, RUN_MAX};
use crate::io::socket::Socket;
use crate::protocol::packet;

/// How long the relay waits for answers when the client has ended its direction. Such a client is usually gone.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The most datagrams that are received for one batch. Empty ones fill nothing, so bytes alone are no bound.
const DATAGRAMS_PER_BATCH: usize = 512;

/// The relay of one client and one UDP socket.
pub(super) struct Datagrams<D> {
    leg: UdpLeg<D>,
    uplink_ended_at: Option<Instant>,
    /// Bytes that follow of a packet for whose beginning there was no memory.
    dropped_bytes: usize,
    pub(super) books: Books,
}

impl<D: DatagramSocket> Datagrams<D> {
    /// A relay towards `target`, whose address is known. The socket follows.
    pub(super) fn new(target: &Target, address: SocketAddr, now: Instant) -> Self {
        let to = Target { port: target.port, ..address.into() };
        Self { leg: UdpLeg::new(to, now), uplink_ended_at: None, dropped_bytes: 0, books: Books::default() }
    }

    pub(super) fn on_bound(&mut self, socket: D, cx: &mut Context<'_>) {
        let (leg, mut out) = self.outgoing(cx);
        leg.on_bound(socket, &mut out);
    }

    /// The socket may have something.
    pub(super) fn on_readable(&mut self) {
        self.leg.readable = true;
    }

    /// When the relay ends for lack of traffic, and why.
    pub(super) fn deadline(&self, settings: &SessionSettings, downlink: &Transfer) -> (Instant, CloseReason) {
        let mut first = (self.leg.deadline(&settings.udp), CloseReason::Idle);
        let ended = self.uplink_ended_at.map(|at| (at + LAST_ANSWERS, CloseReason::Finished));
        let stalled = downlink.delivery.stalled_since();
        let stalled = stalled.map(|at| (at + settings.timeouts.write_stall, CloseReason::WriteStall));
        for other in [ended, stalled].into_iter().flatten() {
            if other.0 < first.0 {
                first = other;
            }
        }
        first
    }

    /// Moves what can be moved within its share of this call.
    pub(super) fn turn<S: Socket>(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let mut uplink = Pause::Wait;
        if self.uplink_ended_at.is_none() {
            match self.uplink(channel, cx) {
                Ok(pause) => uplink = pause,
                Err(Ending::InOrder(_)) => self.uplink_ended_at = Some(cx.means.now),
                ending => return ending,
            }
        }
        Ok(uplink.max(self.downlink(channel, cx)?))
    }

    fn uplink<S: Socket>(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        loop {
            if let Some(pause) = cx.allowance.uplink.pause(channel.uplink.intake.waits()) {
                return Ok(pause);
            }
            match channel.pull(&mut cx.allowance.uplink, &mut cx.means)? {
                Pulled::Payload(mut payload) => {
                    let rest = self.digest(&mut payload, &channel.uplink.intake, cx);
                    channel.keep(payload, rest, &mut cx.means);
                }
                Pulled::Pause(pause) => return Ok(pause),
                Pulled::End => return Err(Ending::InOrder(CloseReason::Finished)),
            }
        }
    }

    /// Sends the whole packets at the front of `payload` and says what is left.
    fn digest(&mut self, payload: &mut Buf, intake: &Intake, cx: &mut Context<'_>) -> Rest {
        self.drop_bytes(payload);
        while let Some((datagram, length)) = packet::decode(payload.bytes()) {
            if cx.allowance.uplink.work_bytes == 0 {
                return Rest::Waits;
            }
            let (leg, mut out) = self.outgoing(cx);
            let sent = send_run(leg, payload.bytes(), length, &mut out);
            if sent == 0 {
                let unresolved = leg.send(None, datagram, &mut out);
                debug_assert!(unresolved.is_none(), "the target is an address");
            }
            payload.consume(length * sent.max(1));
            cx.allowance.uplink.work(PACKET_COST_BYTES * sent.max(1));
        }
        let Some(packet_bytes) = packet::whole_bytes(payload.bytes()) else { return Rest::Header };
        if intake.may_keep_part(packet_bytes, cx.means.pool) {
            return Rest::Part(packet_bytes);
        }
        cx.counters.udp_dropped_no_room.add(1);
        self.dropped_bytes = packet_bytes;
        self.drop_bytes(payload);
        Rest::Header
    }

    fn drop_bytes(&mut self, payload: &mut Buf) {
        let count = self.dropped_bytes.min(payload.len());
        self.dropped_bytes -= count;
        payload.consume(count);
    }

    fn downlink<S: Socket>(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        while channel.settle(&mut cx.means) {
            if let Some(pause) = cx.allowance.downlink.pause(false) {
                return Ok(pause);
            }
            if self.leg.readable && !cx.means.pool.may_begin() {
                return Ok(Pause::Starved);
            }
            let mut batch = cx.means.scratch.take_input();
            let memory_bytes_max = cx.means.pool.read_bytes_max(channel.downlink.delivery.taker());
            self.fill(&mut batch, channel.batch_bytes_max().min(memory_bytes_max), cx);
            if batch.is_empty() {
                cx.means.scratch.give_input(batch);
                return Ok(if self.leg.readable { Pause::Again } else { Pause::Wait });
            }
            channel.push(batch, &mut cx.means);
        }
        channel.unsettled()
    }

    /// Fills `batch` with packets.
    fn fill(&mut self, batch: &mut Buf, bytes_max: usize, cx: &mut Context<'_>) {
        let now = cx.means.now;
        let bytes_max = bytes_max.min(cx.allowance.downlink.bytes());
        let datagram = cx.means.scratch.datagram(cx.settings.udp.recv_buffer_bytes);
        // The last one may exceed the batch: a record more, which the scratch memory has room for.
        for _ in 0..DATAGRAMS_PER_BATCH {
            if batch.len() >= bytes_max || self.books.is_full() {
                break;
            }
            let Some(heard) = self.leg.recv(datagram, cx.counters, now) else { break };
            let length = if let Heard::Datagram(length, _) = heard { length } else { 0 };
            cx.allowance.downlink.receive_packet(length);
            if heard == Heard::Refused {
                continue;
            }
            let Some(header) = packet::header(length) else { continue };
            // A datagram that is longer than the batch should be is kept only where there is memory for all of it.
            let kept_bytes = batch.len() + header.len() + length + STEP_BYTES;
            if batch.len() + length > bytes_max && !cx.means.pool.has_room(BufferPool::buffer_bytes(kept_bytes)) {
                cx.counters.udp_dropped_no_room.add(1);
                continue;
            }
            // A header without its payload would take the next packet for that.
            let fits = header.len() + length <= batch.spare();
            if !fits || !batch.append(&header) || !batch.append(datagram.get(..length).unwrap_or_default()) {
                cx.counters.udp_dropped_no_room.add(1);
                break;
            }
            self.books.fill(header.len() + length, length, true);
        }
    }

    fn outgoing<'a>(&'a mut self, cx: &'a Context<'_>) -> (&'a mut UdpLeg<D>, Outgoing<'a>) {
        let (now, counters, pool) = (cx.means.now, cx.counters, cx.means.pool);
        (&mut self.leg, Outgoing { now, counters, books: &mut self.books, pool })
    }
}

/// Sends the packets of `length` bytes at the front of `bytes` together, if there are several and the kernel takes
/// that. Returns how many.
fn send_run<D: DatagramSocket>(leg: &mut UdpLeg<D>, bytes: &[u8], length: usize, out: &mut Outgoing<'_>) -> usize {
    let count = packet::equal_packets(bytes, RUN_MAX.min(RUN_BYTES_MAX / length));
    if count < 2 {
        return 0;
    }
    let mut run = [IoSlice::new(&[]); RUN_MAX];
    for (slice, packet) in run.iter_mut().zip(bytes.chunks_exact(length).take(count)) {
        *slice = IoSlice::new(packet.get(packet::HEADER_BYTES..).unwrap_or_default());
    }
    if leg.send_run(run.get(..count).unwrap_or_default(), out) { count } else { 0 }
}
