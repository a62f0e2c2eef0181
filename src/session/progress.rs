//! What a session has achieved, and how that gets into the counters.

use super::books::{Books, Traffic};
use super::party::Party;
use super::{Context, Flow, Phase, Session};
use crate::inbound::vision::Padding;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;

/// What a session has achieved so far. The difference of two goes to the counters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) traffic: Traffic,
    padding: Padding,
    is_uplink_direct: bool,
    is_downlink_direct: bool,
}

/// Bytes that a session has received and not delivered, framing included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    pub bytes: u64,
    /// Of these, the beginnings of what is of no use before more has come: of a TLS record, of a packet.
    pub beginning_bytes: u64,
}

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// Counts what happened since `before`. Packets are counted since they were last counted.
    pub(super) fn count(&mut self, mut before: Progress, cx: &Context<'_>) {
        let taken_bytes = self.downlink.delivery.moved().payload_bytes;
        if let Some(books) = self.books_mut() {
            books.settle(taken_bytes);
            before.traffic = books.take_counted();
        }
        let now = self.progress();
        if now == before {
            return;
        }
        if let Party::Fallback(_) = self.party {
            let (up, down) = (now.traffic.uplink.payload_bytes, now.traffic.downlink.payload_bytes);
            cx.counters.fallback_uplink_bytes.add(up - before.traffic.uplink.payload_bytes);
            cx.counters.fallback_downlink_bytes.add(down - before.traffic.downlink.payload_bytes);
        }
        let Some(account) = self.party.account() else { return };
        let lane = account.user.ledger.lane(cx.worker);
        let counters = cx.counters;
        let (up, up_before) = (now.traffic.uplink, before.traffic.uplink);
        counters.uplink_bytes.add(up.payload_bytes - up_before.payload_bytes);
        counters.uplink_unchanged_bytes.add(up.unchanged_bytes - up_before.unchanged_bytes);
        counters.uplink_spliced_bytes.add(up.spliced_bytes - up_before.spliced_bytes);
        lane.uplink_bytes.add(up.payload_bytes - up_before.payload_bytes);
        let (down, down_before) = (now.traffic.downlink, before.traffic.downlink);
        if down_before.payload_bytes == 0 && down.payload_bytes > 0 {
            counters.timings.first_byte.record(cx.means.now.saturating_duration_since(account.asked_at.into()));
        }
        counters.downlink_bytes.add(down.payload_bytes - down_before.payload_bytes);
        counters.downlink_unchanged_bytes.add(down.unchanged_bytes - down_before.unchanged_bytes);
        counters.downlink_spliced_bytes.add(down.spliced_bytes - down_before.spliced_bytes);
        lane.downlink_bytes.add(down.payload_bytes - down_before.payload_bytes);
        let up_packets = now.traffic.uplink_packets - before.traffic.uplink_packets;
        let down_packets = now.traffic.downlink_packets - before.traffic.downlink_packets;
        counters.uplink_udp_bytes.add(now.traffic.uplink_packet_bytes - before.traffic.uplink_packet_bytes);
        counters.downlink_udp_bytes.add(now.traffic.downlink_packet_bytes - before.traffic.downlink_packet_bytes);
        counters.udp_uplink_packets.add(up_packets);
        counters.udp_downlink_packets.add(down_packets);
        lane.udp_uplink_packets.add(up_packets);
        lane.udp_downlink_packets.add(down_packets);
        if account.flow == Flow::Vision {
            counters.uplink_padding_bytes.add(now.padding.uplink_bytes - before.padding.uplink_bytes);
            counters.downlink_padding_bytes.add(now.padding.downlink_bytes - before.padding.downlink_bytes);
            counters.uplinks_direct.add(u64::from(now.is_uplink_direct && !before.is_uplink_direct));
            counters.downlinks_direct.add(u64::from(now.is_downlink_direct && !before.is_downlink_direct));
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            traffic: self.traffic(),
            padding: self.inbound.padding(),
            is_uplink_direct: self.inbound.is_uplink_direct(),
            is_downlink_direct: self.inbound.is_downlink_direct(),
        }
    }

    /// What was received and not delivered.
    pub fn undelivered(&self) -> Undelivered {
        let held = match &self.phase {
            Phase::Relaying(relay) => relay.held_bytes(),
            _ => 0,
        };
        Undelivered {
            bytes: (self.uplink.undelivered_bytes() + self.downlink.undelivered_bytes() + held) as u64,
            beginning_bytes: (self.uplink.intake.beginning_bytes() + self.downlink.intake.beginning_bytes()) as u64,
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        let books = match &self.phase {
            Phase::Relaying(relay) => relay.books(),
            _ => self.party.account().and_then(|account| account.books.as_deref()),
        };
        books.map_or_else(
            || Traffic {
                uplink: self.uplink.delivery.moved(),
                downlink: self.downlink.delivery.moved(),
                ..Traffic::default()
            },
            Books::traffic,
        )
    }

    fn books_mut(&mut self) -> Option<&mut Books> {
        match &mut self.phase {
            Phase::Relaying(relay) => relay.books_mut(),
            _ => self.party.account_mut().and_then(|account| account.books.as_deref_mut()),
        }
    }
}
