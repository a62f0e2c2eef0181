//! The three relays, and everything that depends on which of them a session has: the dispatch is written once, here.

use std::net::SocketAddr;
use std::time::Instant;

use super::books::Books;
use super::channel::Channel;
use super::close::CloseReason;
use super::datagrams::Datagrams;
use super::mux::Mux;
use super::pause::Turn;
use super::stream;
use super::transfer::Transfer;
use super::view::Mode;
use super::{Context, GlobalId, Leg, SessionSettings, Target};
use crate::io::datagram::DatagramSocket;
use crate::io::endpoint::{Endpoint, Readiness};
use crate::io::socket::Socket;

/// What happens once the request was accepted and its target is there.
pub(super) enum Relay<S, D> {
    /// One byte stream to one target.
    Stream {
        target: Endpoint<S>,
    },
    Datagrams(Box<Datagrams<D>>),
    Mux(Box<Mux<S, D>>),
}

impl<S: Socket, D: DatagramSocket> Relay<S, D> {
    /// A byte stream to a target that was just connected.
    pub(super) fn stream(socket: S) -> Self {
        Self::Stream { target: Endpoint::connected(socket) }
    }

    /// Something changed on one of the target-facing sockets.
    pub(super) fn on_ready(&mut self, leg: Leg, readiness: Readiness, cx: &Context<'_>) {
        match (leg, self) {
            (Leg::Target, Self::Stream { target }) => target.note(readiness),
            (Leg::Target, Self::Datagrams(datagrams)) => datagrams.on_readable(),
            (Leg::Sub(sub), Self::Mux(mux)) => mux.on_ready(sub.into(), readiness, cx),
            _ => {}
        }
    }

    pub(super) fn on_connected(&mut self, leg: Leg, socket: S, cx: &Context<'_>) {
        if let (Leg::Sub(sub), Self::Mux(mux)) = (leg, self) {
            mux.on_connected(sub.into(), socket, cx);
        }
    }

    /// A connection or a socket is not to be had. False when that ends the session.
    pub(super) fn on_failed(&mut self, leg: Leg, cx: &mut Context<'_>) -> bool {
        let (Leg::Sub(sub), Self::Mux(mux)) = (leg, self) else { return false };
        mux.on_failed(sub.into(), cx);
        true
    }

    pub(super) fn on_resolved(&mut self, leg: Leg, target: &Target, address: Option<SocketAddr>, cx: &Context<'_>) {
        if let (Leg::Sub(sub), Self::Mux(mux)) = (leg, self) {
            mux.on_resolved(sub.into(), target, address.map(|address| address.ip()), cx);
        }
    }

    pub(super) fn on_bound(&mut self, leg: Leg, socket: Option<D>, cx: &mut Context<'_>) {
        if let (Leg::Sub(sub), Self::Mux(mux)) = (leg, self) {
            mux.on_bound(sub.into(), socket, cx);
        }
    }

    pub(super) fn on_udp_taken(&mut self, leg: Leg, global_id: GlobalId, cx: &mut Context<'_>) {
        if let (Leg::Sub(sub), Self::Mux(mux)) = (leg, self) {
            mux.on_taken(sub.into(), global_id, cx);
        }
    }

    /// Moves what can be moved within its share of this call.
    pub(super) fn turn(&mut self, channel: &mut Channel<'_, S>, cx: &mut Context<'_>) -> Turn {
        match self {
            Self::Stream { target } => stream::turn(target, channel, cx),
            Self::Datagrams(datagrams) => datagrams.turn(channel, cx),
            Self::Mux(mux) => mux.turn(channel, cx),
        }
    }

    /// The first of its deadlines, and the reason if it passes.
    pub(super) fn deadline(
        &self,
        client: &Endpoint<S>,
        transfers: (&Transfer, &Transfer),
        settings: &SessionSettings,
    ) -> (Instant, CloseReason) {
        match self {
            Self::Stream { target } => stream::deadline(target, client, transfers, &settings.timeouts),
            Self::Datagrams(datagrams) => datagrams.deadline(settings, transfers.1),
            Self::Mux(mux) => mux.deadline(settings, transfers.1),
        }
    }

    /// A deadline has come that counts from the last progress: what the kernel still holds may be under way all the
    /// same.
    pub(super) fn look(
        &mut self,
        client: &Endpoint<S>,
        (uplink, downlink): (&mut Transfer, &mut Transfer),
        now: Instant,
    ) {
        downlink.delivery.look(client, now);
        match self {
            Self::Stream { target } => uplink.delivery.look(target, now),
            Self::Datagrams(_) | Self::Mux(_) => {}
        }
    }

    /// The deadline has come. True when that was about a part of it, and the rest goes on.
    pub(super) fn expire(&mut self, downlink: &Transfer, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Stream { .. } | Self::Datagrams(_) => false,
            Self::Mux(mux) => mux.expire(downlink, cx),
        }
    }

    /// The answer to a wish is followed by a turn of its own. A turn of a Mux connection makes more wishes than one, so
    /// whoever has them answered at once would never come to an end of them.
    pub(super) fn wishes_much(&self) -> bool {
        matches!(self, Self::Mux(_))
    }

    /// The target has said more than was received.
    pub(super) fn has_more(&self) -> bool {
        matches!(self, Self::Stream { target } if target.is_readable())
    }

    /// The client's connection broke: its targets are to see that, and not a proper end of what they were sent.
    pub(super) fn reset_targets(&mut self) {
        match self {
            Self::Stream { target } => target.reset_on_close(),
            Self::Datagrams(_) => {}
            Self::Mux(mux) => mux.reset_targets(),
        }
    }

    /// It ends: a target that is owed bytes must not take that for the end of them.
    pub(super) fn reset_owed_targets(&mut self) {
        if let Self::Mux(mux) = self {
            mux.reset_owed_targets();
        }
    }

    /// How many bytes wait for targets of its own.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Stream { .. } | Self::Datagrams(_) => 0,
            Self::Mux(mux) => mux.held_bytes(),
        }
    }

    /// What it counts packet by packet. `None` where bytes are counted as they pass.
    pub(super) fn books(&self) -> Option<&Books> {
        match self {
            Self::Stream { .. } => None,
            Self::Datagrams(datagrams) => Some(&datagrams.books),
            Self::Mux(mux) => Some(&mux.books),
        }
    }

    pub(super) fn books_mut(&mut self) -> Option<&mut Books> {
        match self {
            Self::Stream { .. } => None,
            Self::Datagrams(datagrams) => Some(&mut datagrams.books),
            Self::Mux(mux) => Some(&mut mux.books),
        }
    }

    /// How it carries its payload. `None` where the stack in front of it says that.
    pub(super) fn mode(&self) -> Option<Mode> {
        match self {
            Self::Stream { .. } => None,
            Self::Datagrams(_) => Some(Mode::Udp),
            Self::Mux(_) => Some(Mode::Mux),
        }
    }
}
