//! Attempts: an address becomes a spare, a connect under way, or a reason why not.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::Interest;
use mio::net::TcpStream;

use super::shortage::Wanting;
use super::socket::{self, Progress};
use super::under_way::{Attempt, Purpose};
use super::{DialError, Dialed, Dialer};
use crate::io::token::Token;
use crate::outbound::context::DialContext;
use crate::outbound::policy::{Refusal, canonical};
use crate::outbound::routes::Way;

impl Dialer {
    /// The only place from which a target is connected to.
    pub(super) fn attempt(&mut self, token: Token, ip: IpAddr, cx: &mut DialContext<'_>) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        let address = canonical(SocketAddr::new(ip, dial.target.port));
        match self.judge.check(address).or_else(|refusal| dial.authority.pardon(refusal)) {
            Ok(()) => {}
            Err(Refusal::Undecided) => return self.short.push((token, Wanting::Attempt(ip))),
            Err(refusal) => {
                log::debug!("target {}: {address} refused by policy: {refusal}", dial.target);
                dial.note(DialError::RefusedByPolicy(refusal));
                return dial.race.on_attempt_forbidden(cx.now);
            }
        }
        if dial.purpose == Purpose::Address {
            if self.judge.way(ip) != Way::Nowhere {
                return self.finish_resolved(token, Ok(address), cx);
            }
            // Datagrams would be lost. Another address or the other family may do better.
            dial.unroutable.get_or_insert(address);
            return dial.race.on_attempt_forbidden(cx.now);
        }
        dial.reached_address = true;
        let (authority, started) = (dial.authority, dial.started);
        match self.take_spare(authority, address, started, cx) {
            Some(spare) => self.finish(token, Ok(spare), cx),
            None => self.connect(token, address, cx),
        }
    }

    fn connect(&mut self, token: Token, address: SocketAddr, cx: &mut DialContext<'_>) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        let leg = dial.next_leg;
        dial.next_leg += 1;
        match self.open(address, token.with_leg(leg), cx) {
            Ok(socket) => {
                cx.counters.dial_attempts.add(1);
                let Some(dial) = self.dials.get_mut(token) else { return };
                dial.attempts.push(Attempt { leg, socket, address, started: cx.now });
            }
            Err(error) if DialError::from(&error) == DialError::NoDescriptors => {
                self.short.push((token, Wanting::Attempt(address.ip())));
            }
            Err(error) => {
                cx.counters.dial_attempts.add(1);
                self.on_attempt_error(token, address, &error, cx);
            }
        }
    }

    fn open(&self, address: SocketAddr, token: Token, cx: &DialContext<'_>) -> io::Result<TcpStream> {
        let mut socket = socket::connect(address, self.rules.bind, self.rules.options)?;
        cx.registry.register(&mut socket, token.into(), Interest::READABLE | Interest::WRITABLE)?;
        Ok(socket)
    }

    pub(super) fn on_attempt_event(&mut self, token: Token, cx: &mut DialContext<'_>) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        let Some(place) = dial.attempts.iter().position(|attempt| attempt.leg == token.leg()) else { return };
        match socket::progress(&dial.attempts[place].socket) {
            Progress::Pending => {}
            Progress::Connected(peer) => {
                let Attempt { socket, address, started, .. } = dial.attempts.swap_remove(place);
                let connect_time = cx.now.saturating_duration_since(dial.started);
                let authority = dial.authority;
                self.on_connected(authority, address, cx.now.saturating_duration_since(started), cx);
                self.finish(token, Ok(Dialed { socket, peer, connect_time, is_spare: false }), cx);
            }
            Progress::Failed(error) => {
                let address = dial.attempts.swap_remove(place).address;
                self.on_attempt_error(token, address, &error, cx);
                self.drive(token.with_leg(0), cx);
            }
        }
    }

    fn on_attempt_error(&mut self, token: Token, address: SocketAddr, error: &io::Error, cx: &mut DialContext<'_>) {
        let error = DialError::from(error);
        if error == DialError::NoDescriptors {
            return self.on_attempt_without_descriptor(token, cx);
        }
        self.on_failed(address, error, cx.now);
        let Some(dial) = self.dials.get_mut(token) else { return };
        dial.note(error);
        dial.race.on_attempt_failed(cx.now);
    }
}
