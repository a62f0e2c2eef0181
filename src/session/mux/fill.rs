//! The downlink of a Mux connection: what its sessions have to say, in frames, one session after the other.

use super::super::channel::Channel;
use super::super::pause::{Ending, Pause, Turn};
use super::super::tcp_leg::Heard;
use super::super::udp_leg;
use super::super::{CloseReason, Context};
use super::{ENDS_MAX, Mux, Sub, SubEnd, SubLeg};
use crate::io::buf::Buf;
use crate::io::buffer_memory::RECORD_HOLD_BYTES;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::protocol::mux;

/// What one session may fill before the next one's turn comes.
const CHUNKS_PER_VISIT: usize = 4;
const DATAGRAMS_PER_VISIT: usize = 64;

/// Room that one more frame may take.
const FRAME_ROOM: usize = mux::KEEP_HEADER_BYTES_MAX + mux::SEND_PAYLOAD_BYTES_MAX;

/// However short memory is, one frame fits a batch, and the End frames that wait.
const BATCH_BYTES_MIN: usize = FRAME_ROOM + ENDS_MAX * mux::END_BYTES;
const _: () = assert!(BATCH_BYTES_MIN <= RECORD_HOLD_BYTES);

impl<S: Socket, D: DatagramSocket> Mux<S, D> {
    pub(super) fn downlink(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        while channel.settle(&mut cx.means) {
            if let Some(pause) = cx.allowance.downlink.pause(false) {
                return Ok(pause);
            }
            let is_short = !self.ready.is_empty() && !cx.means.pool.may_begin();
            if is_short && self.ends.is_empty() {
                return Ok(Pause::Starved);
            }
            let mut batch = cx.means.scratch.take_input();
            let memory_bytes_max = cx.means.pool.read_bytes_max(channel.downlink.delivery.taker());
            let bytes_max = channel.batch_bytes_max().min(memory_bytes_max.max(BATCH_BYTES_MIN));
            if is_short {
                // The uplink may wait for these to go, and hold the memory that is short. They are few and bounded.
                self.fill_ends(&mut batch, bytes_max);
            } else {
                self.fill(&mut batch, bytes_max, cx);
            }
            if batch.is_empty() {
                cx.means.scratch.give_input(batch);
                return Ok(if self.ready.is_empty() { Pause::Wait } else { Pause::Again });
            }
            channel.push(batch, &mut cx.means);
        }
        channel.unsettled()
    }

    /// Fills `batch` with frames, every session that has something in its turn.
    fn fill(&mut self, batch: &mut Buf, bytes_max: usize, cx: &mut Context<'_>) {
        // Ends that wait are older than the data of this batch: their numbers may be used again in it.
        self.fill_ends(batch, bytes_max);
        for _ in 0..self.ready.len() {
            if cx.allowance.downlink.pause(false).is_some() || !self.has_room(batch, bytes_max) {
                break;
            }
            let Some(sub) = self.ready.pop_front() else { break };
            let Some(one) = self.subs.get_mut(sub) else { continue };
            one.is_ready = false;
            let has_more = match &one.leg {
                SubLeg::Tcp(_) if self.by_id.get(&one.id) != Some(&sub) => self.drain(sub, cx),
                SubLeg::Tcp(_) => self.fill_chunks(sub, batch, bytes_max, cx),
                SubLeg::Udp(_) => self.fill_datagrams(sub, batch, bytes_max, cx),
            };
            if has_more {
                self.mark_ready(sub);
            }
        }
        self.fill_ends(batch, bytes_max);
    }

    fn fill_ends(&mut self, batch: &mut Buf, bytes_max: usize) {
        let count = self.ends.len().min(bytes_max.saturating_sub(batch.len()) / mux::END_BYTES);
        for end in self.ends.drain(..count) {
            if batch.append(&end) {
                self.books.fill(end.len(), 0, false);
            }
        }
        if self.ends.is_empty() {
            self.ends = Vec::new();
        }
    }

    /// One more frame fits, and the End frames that wait behind it.
    fn has_room(&self, batch: &Buf, bytes_max: usize) -> bool {
        !self.books.is_full() && batch.len() + FRAME_ROOM + self.ends.len() * mux::END_BYTES <= bytes_max
    }

    /// Serves the targets of a client that has ended its stream until they have what it sent, and have closed or had
    /// the time to.
    pub(super) fn outlive_client(&mut self, cx: &mut Context<'_>) -> Turn {
        for _ in 0..self.ready.len() {
            if cx.allowance.downlink.pause(false).is_some() {
                break;
            }
            let Some(sub) = self.ready.pop_front() else { break };
            let Some(one) = self.subs.get_mut(sub) else { continue };
            one.is_ready = false;
            if self.drain(sub, cx) {
                self.mark_ready(sub);
            }
        }
        if self.subs.is_empty() {
            return Err(Ending::InOrder(CloseReason::Finished));
        }
        let pause = cx.allowance.downlink.pause(false).unwrap_or(Pause::Again);
        Ok(if self.ready.is_empty() { Pause::Wait } else { pause })
    }

    /// Reads on for a session that the client has left. True: there may be more.
    fn drain(&mut self, sub: usize, cx: &mut Context<'_>) -> bool {
        let Some(Sub { leg: SubLeg::Tcp(leg), .. }) = self.subs.get_mut(sub) else { return false };
        let mut spare = cx.means.scratch.take_output();
        let read_bytes = leg.drain(spare.spare_mut(), cx.means.now);
        cx.means.scratch.give_output(spare);
        cx.allowance.downlink.receive(read_bytes);
        cx.counters.mux_bytes_discarded.add(read_bytes as u64);
        if leg.is_over() {
            self.remove(sub, cx);
            return false;
        }
        leg.is_readable()
    }

    fn fill_chunks(&mut self, sub: usize, batch: &mut Buf, bytes_max: usize, cx: &mut Context<'_>) -> bool {
        for _ in 0..CHUNKS_PER_VISIT {
            if !self.has_room(batch, bytes_max) {
                return true;
            }
            let Some(Sub { id, leg: SubLeg::Tcp(leg), .. }) = self.subs.get_mut(sub) else { return false };
            let length = cx.allowance.downlink.bytes().min(mux::SEND_PAYLOAD_BYTES_MAX);
            let room = mux::CHUNK_HEADER_BYTES..mux::CHUNK_HEADER_BYTES + length;
            let Some(room) = batch.spare_mut().get_mut(room).filter(|room| !room.is_empty()) else { return true };
            match leg.recv(room, cx.means.now) {
                Heard::Bytes(count) => {
                    cx.allowance.downlink.receive_packet(count);
                    let header = mux::chunk_header(*id, count as u16);
                    if let Some(front) = batch.spare_mut().first_chunk_mut() {
                        *front = header;
                    }
                    batch.fill(header.len() + count);
                    self.books.fill(header.len() + count, count, false);
                }
                Heard::Nothing => return false,
                Heard::End => {
                    self.end(sub, SubEnd::InOrder, cx);
                    return false;
                }
                Heard::Failed => {
                    leg.reset();
                    self.end(sub, SubEnd::WithError, cx);
                    return false;
                }
            }
        }
        true
    }

    fn fill_datagrams(&mut self, sub: usize, batch: &mut Buf, bytes_max: usize, cx: &mut Context<'_>) -> bool {
        let now = cx.means.now;
        let mut header = Vec::with_capacity(mux::KEEP_HEADER_BYTES_MAX);
        for _ in 0..DATAGRAMS_PER_VISIT {
            if !self.has_room(batch, bytes_max) {
                return true;
            }
            let Some(Sub { id, leg: SubLeg::Udp(leg), .. }) = self.subs.get_mut(sub) else { return false };
            let datagram = cx.means.scratch.datagram(cx.settings.udp.recv_buffer_bytes);
            let Some(heard) = leg.recv(datagram, cx.counters, now) else { return false };
            let udp_leg::Heard::Datagram(length, source) = heard else {
                cx.allowance.downlink.receive_packet(0);
                continue;
            };
            cx.allowance.downlink.receive_packet(length);
            header.clear();
            let is_sayable = mux::keep_header(*id, Some(&leg.name_of(source)), length, &mut header).is_some();
            // A header without its payload would take the next frame for that.
            let fits = header.len() + length <= batch.spare();
            if !is_sayable
                || !fits
                || !batch.append(&header)
                || !batch.append(datagram.get(..length).unwrap_or_default())
            {
                cx.counters.udp_dropped_too_long.add(1);
                continue;
            }
            self.books.fill(header.len() + length, length, true);
        }
        true
    }
}
