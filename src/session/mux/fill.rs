//! The downlink of a Mux connection: what its sessions have to say, in frames, each in its turn.

use super::super::allowance::{PACKET_COST_BYTES, TURN_BYTES_MAX};
use super::super::channel::{Channel, Turn};
use super::super::tcp_leg::Heard;
use super::super::{CloseReason, Context};
use super::{Ending, Mux, Sub, SubLeg};
use crate::inbound::HEADROOM_BYTES;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::protocol::mux;

/// What one session may fill before the next one's turn comes.
const CHUNKS_PER_VISIT: usize = 4;
const DATAGRAMS_PER_VISIT: usize = 64;

/// Room that one more frame may take.
const FRAME_ROOM: usize = mux::KEEP_HEADER_BYTES_MAX + mux::SEND_PAYLOAD_BYTES_MAX;

impl<S: Socket, D: DatagramSocket> Mux<S, D> {
    pub(super) fn downlink(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        let mut budget = TURN_BYTES_MAX;
        while channel.settle(&mut cx.means) {
            self.ledger.collect(channel.downlink, &mut self.traffic);
            if budget == 0 {
                return Turn::Again;
            }
            if !self.ready.is_empty() && !cx.means.pool.may_begin() {
                return Turn::Starved;
            }
            let filled = self.fill(channel.batch_bytes_max(), &mut budget, cx);
            if filled == 0 {
                return if self.ready.is_empty() { Turn::Wait } else { Turn::Again };
            }
            budget = budget.saturating_sub(filled);
            channel.push(&mut cx.means);
        }
        if channel.downlink.end().is_some() { Turn::Abort(CloseReason::ClientReset) } else { Turn::Wait }
    }

    /// Fills the scratch input with frames, every session that has something in its turn; returns how many bytes.
    fn fill(&mut self, bytes_max: usize, budget: &mut usize, cx: &mut Context<'_>) -> usize {
        let (input, _) = cx.means.scratch.parts();
        input.reset(HEADROOM_BYTES);
        for _ in 0..self.ready.len() {
            if *budget == 0 || cx.means.scratch.parts().0.len() + FRAME_ROOM + self.control.len() > bytes_max {
                break;
            }
            let Some(sub) = self.ready.pop_front() else { break };
            let Some(one) = self.subs.get_mut(sub) else { continue };
            one.is_ready = false;
            let has_more = match &one.leg {
                SubLeg::Tcp(_) if self.by_id.get(&one.id) != Some(&sub) => self.drain(sub, budget, cx),
                SubLeg::Tcp(_) => self.fill_chunks(sub, bytes_max, budget, cx),
                SubLeg::Udp(_) => self.fill_datagrams(sub, bytes_max, budget, cx),
            };
            if has_more {
                self.mark_ready(sub);
            }
        }
        let (input, _) = cx.means.scratch.parts();
        let control = self.control.len().min(bytes_max.saturating_sub(input.len()));
        if control > 0 && input.append(&self.control[..control]) {
            self.ledger.fill(control, 0, 0);
            self.control.drain(..control);
            if self.control.is_empty() {
                self.control = Vec::new();
            }
        }
        input.len()
    }

    /// Serves the targets of a client that has ended its stream until they have what it sent, and have closed or had the
    /// time to.
    pub(super) fn outlive_client(&mut self, cx: &mut Context<'_>) -> Turn {
        let mut budget = TURN_BYTES_MAX;
        for _ in 0..self.ready.len() {
            if budget == 0 {
                break;
            }
            let Some(sub) = self.ready.pop_front() else { break };
            let Some(one) = self.subs.get_mut(sub) else { continue };
            one.is_ready = false;
            if self.drain(sub, &mut budget, cx) {
                self.mark_ready(sub);
            }
        }
        match (self.subs.is_empty(), self.ready.is_empty()) {
            (true, _) => Turn::Close(CloseReason::Finished),
            (false, true) => Turn::Wait,
            (false, false) => Turn::Again,
        }
    }

    /// Reads on for a session that the client has left; true when there may be more.
    fn drain(&mut self, sub: usize, budget: &mut usize, cx: &mut Context<'_>) -> bool {
        let (_, spare) = cx.means.scratch.parts();
        spare.reset(0);
        let Some(Sub { leg: SubLeg::Tcp(leg), .. }) = self.subs.get_mut(sub) else { return false };
        *budget = budget.saturating_sub(leg.drain(spare.spare_mut(), cx.means.now));
        if leg.is_over() {
            self.remove(sub, cx);
            return false;
        }
        leg.is_readable()
    }

    fn fill_chunks(&mut self, sub: usize, bytes_max: usize, budget: &mut usize, cx: &mut Context<'_>) -> bool {
        for _ in 0..CHUNKS_PER_VISIT {
            let (input, _) = cx.means.scratch.parts();
            let Some(Sub { id, leg: SubLeg::Tcp(leg), .. }) = self.subs.get_mut(sub) else { return false };
            if input.len() + FRAME_ROOM + self.control.len() > bytes_max {
                return true;
            }
            let room = mux::CHUNK_HEADER_BYTES..mux::CHUNK_HEADER_BYTES + mux::SEND_PAYLOAD_BYTES_MAX;
            let Some(room) = input.spare_mut().get_mut(room) else { return true };
            *budget = budget.saturating_sub(PACKET_COST_BYTES);
            match leg.recv(room, cx.means.now) {
                Heard::Bytes(count) => {
                    let header = mux::chunk_header(*id, count as u16);
                    input.spare_mut()[..header.len()].copy_from_slice(&header);
                    input.fill(header.len() + count);
                    self.ledger.fill(header.len() + count, count, 0);
                }
                Heard::Nothing => return false,
                Heard::End => {
                    self.end(sub, Ending::InOrder, cx);
                    return false;
                }
                Heard::Failed => {
                    leg.reset();
                    self.end(sub, Ending::WithError, cx);
                    return false;
                }
            }
        }
        true
    }

    fn fill_datagrams(&mut self, sub: usize, bytes_max: usize, budget: &mut usize, cx: &mut Context<'_>) -> bool {
        let now = cx.means.now;
        let (input, datagram) = cx.means.scratch.datagram_parts(cx.settings.udp.recv_buffer_bytes);
        let Some(Sub { id, leg: SubLeg::Udp(leg), .. }) = self.subs.get_mut(sub) else { return false };
        let mut header = Vec::with_capacity(mux::KEEP_HEADER_BYTES_MAX);
        for _ in 0..DATAGRAMS_PER_VISIT {
            if input.len() + FRAME_ROOM + self.control.len() > bytes_max {
                return true;
            }
            let Some((length, source)) = leg.recv(datagram, cx.counters, now) else { return false };
            *budget = budget.saturating_sub(PACKET_COST_BYTES);
            header.clear();
            if length == 0 {
                continue;
            }
            if mux::keep_header(*id, Some(&leg.name_of(source)), length, &mut header).is_none()
                || !input.append(&header)
                || !input.append(&datagram[..length])
            {
                cx.counters.udp_dropped_too_long.add(1);
                continue;
            }
            self.ledger.fill(header.len() + length, length, 1);
        }
        true
    }
}
