//! The dialer's side of the resolver: which families of a name are asked for, and what an answer does to its dial.

use std::net::IpAddr;
use std::time::Instant;

use super::families::family_of;
use super::shortage::Wanting;
use super::{DialError, Dialer};
use crate::io::token::Token;
use crate::outbound::context::DialContext;
use crate::outbound::resolve::lookups::{Answered, Asked, Asker};
use crate::outbound::resolve::{Answer, Family, ResolveError};
use crate::outbound::routes::Way;
use crate::session::Host;

impl Dialer {
    /// The families to look up, the one to begin with first.
    pub(super) fn families(&self, now: Instant) -> &'static [Family] {
        let (prefer, bind) = (self.rules.prefer, self.rules.bind);
        self.families.in_order(prefer, bind, |ip| self.judge.way(ip), now)
    }

    pub(super) fn look_up(&mut self, token: Token, name: &str, families: &[Family], cx: &mut DialContext<'_>) {
        for &family in families {
            let Some(dial) = self.dials.get_mut(token) else { return };
            dial.race.expect(family);
            self.ask(token, name, family, cx);
        }
    }

    /// Repeats a question that had no descriptor.
    pub(super) fn ask_again(&mut self, token: Token, family: Family, cx: &mut DialContext<'_>) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        if let Host::Name(name) = dial.target.host.clone() {
            self.ask(token, &name, family, cx);
        }
    }

    fn ask(&mut self, token: Token, name: &str, family: Family, cx: &mut DialContext<'_>) {
        let owner = self.dials.get(token).and_then(|dial| dial.authority.owner());
        // A client's legs are one who asks.
        let asker = Asker { waiter: token, owner: owner.map_or(token, |owner| owner.with_leg(0)) };
        match self.resolver.ask(name, family, asker, cx) {
            Asked::Ready(answer) => self.on_answer(token, family, answer, cx.now),
            Asked::Waiting(lookup) => {
                if let Some(dial) = self.dials.get_mut(token) {
                    dial.lookups.push((family, lookup));
                }
            }
        }
    }

    /// Passes on what the resolver found, which may start and end dials.
    pub(super) fn deliver_answers(&mut self, cx: &mut DialContext<'_>) {
        while let Some(Answered { waiter, family, answer }) = self.resolver.next_answer() {
            let Some(dial) = self.dials.get_mut(waiter) else { continue };
            dial.lookups.retain(|(awaited, _)| *awaited != family);
            if answer == Err(ResolveError::NoDescriptors) {
                self.short.push((waiter, Wanting::LookUp(family)));
                continue;
            }
            self.on_answer(waiter, family, answer, cx.now);
            self.drive(waiter, cx);
        }
    }

    pub(super) fn on_answer(&mut self, token: Token, family: Family, answer: Answer, now: Instant) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        match answer {
            Ok(addresses) => {
                let mut addresses = addresses.to_vec();
                self.pool.order(&mut addresses, dial.target.port, now);
                // Addresses without a route come last, in the order that there was.
                addresses.sort_by_key(|&ip| self.judge.way(ip) == Way::Nowhere);
                dial.race.on_addresses(family, &addresses, now);
            }
            Err(error) => {
                dial.note(error.into());
                dial.race.on_addresses(family, &[], now);
            }
        }
    }

    /// The target is an address already.
    pub(super) fn on_address(&mut self, token: Token, ip: IpAddr, now: Instant) {
        let bind = self.rules.bind;
        let Some(dial) = self.dials.get_mut(token) else { return };
        let ip = ip.to_canonical();
        if bind.is_some_and(|source| source.is_ipv4() != ip.is_ipv4()) {
            return dial.note(DialError::Unreachable);
        }
        dial.race.on_addresses(family_of(ip), &[ip], now);
    }
}
