//! How a dial ends: connected, with an address, failed, at its deadline, or cancelled. And what is learnt from it.

use std::net::SocketAddr;
use std::time::Instant;

use super::families::family_of;
use super::outcome::{DialId, Dialed, Finished, Resolved};
use super::under_way::{Dial, Purpose};
use super::{DialError, Dialer, race};
use crate::io::token::Token;
use crate::outbound::context::DialContext;

impl Dialer {
    /// Gives up a dial. Its attempts are closed, and its look-ups go on for the cache. A dial that has finished but was
    /// not taken yet is dropped with its socket.
    pub fn cancel(&mut self, id: DialId, cx: &mut DialContext<'_>) {
        if let Some(dial) = self.remove(id.0) {
            if dial.purpose == Purpose::Connect {
                cx.counters.dials_cancelled.add(1);
                self.count_miss(&dial, cx);
            }
        } else {
            self.finished.drop_one(id);
            self.resolved.drop_one(id);
        }
    }

    pub(super) fn on_wake_up(&mut self, token: Token, cx: &mut DialContext<'_>) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        if !dial.alarm.fired(cx.now) {
            return;
        }
        if cx.now < dial.deadline {
            return self.drive(token, cx);
        }
        // Without an open attempt only a look-up can have been waited for.
        dial.note(DialError::DnsTimeout);
        let failure = if dial.attempts.is_empty() { dial.failure } else { Some(DialError::TimedOut) };
        for attempt in std::mem::take(&mut dial.attempts) {
            self.on_failed(attempt.address, DialError::TimedOut, cx.now);
        }
        self.finish(token, Err(failure.unwrap_or(DialError::TimedOut)), cx);
    }

    pub(super) fn finish(&mut self, token: Token, result: Result<Dialed, DialError>, cx: &mut DialContext<'_>) {
        if self.dials.get(token).is_some_and(|dial| dial.purpose == Purpose::Address) {
            // A look-up connects to nothing, so it can only have failed.
            return self.finish_resolved(token, Err(result.err().unwrap_or(DialError::NoAddress)), cx);
        }
        let Some(dial) = self.remove(token) else { return };
        if result.is_ok() {
            self.note_overtaken(&dial, cx.now);
        }
        let Some(owner) = dial.authority.owner() else {
            return self.finish_warm_up(&dial.target, result, cx);
        };
        if !matches!(&result, Ok(dialed) if dialed.is_spare) {
            self.count_miss(&dial, cx);
        }
        match &result {
            Ok(_) => cx.counters.dials_connected.add(1),
            Err(error) => error.count(cx.counters),
        }
        self.report(result.as_ref().err(), cx.now);
        let dial = DialId(token.with_leg(0));
        self.finished.push(dial, Finished { owner, dial, result });
    }

    pub(super) fn finish_resolved(
        &mut self,
        token: Token,
        result: Result<SocketAddr, DialError>,
        cx: &mut DialContext<'_>,
    ) {
        let Some(Dial { authority, target, .. }) = self.remove(token) else { return };
        let Some(owner) = authority.owner() else { return };
        self.report(result.as_ref().err(), cx.now);
        let dial = DialId(token.with_leg(0));
        self.resolved.push(dial, Resolved { owner, dial, target, result });
    }

    /// Takes note of addresses that had their time and let another overtake them. They are not to cost the next dial
    /// that time again.
    fn note_overtaken(&mut self, dial: &Dial, now: Instant) {
        let had_its_time = |started| now.saturating_duration_since(started) >= race::ATTEMPT_DELAY;
        for attempt in dial.attempts.iter().filter(|attempt| had_its_time(attempt.started)) {
            self.on_failed(attempt.address, DialError::TimedOut, now);
        }
    }

    /// Takes note that connecting to `address` failed. The pool remembers it of the address, the families of a network
    /// that is silent as a whole.
    pub(super) fn on_failed(&mut self, address: SocketAddr, error: DialError, now: Instant) {
        // A shortage of ours says nothing about the target.
        if error == DialError::NoPorts {
            return;
        }
        self.pool.on_failed(address, now);
        match error {
            DialError::TimedOut | DialError::Unreachable => self.families.on_unanswered(family_of(address.ip()), now),
            DialError::Refused => self.families.on_answered(family_of(address.ip())),
            _ => {}
        }
    }

    /// No address is left to try, to wait for or to hope for.
    pub(super) fn on_exhausted(&mut self, token: Token, cx: &mut DialContext<'_>) {
        let Some(dial) = self.dials.get_mut(token) else { return };
        if let Some(address) = dial.unroutable {
            // A route may come up while its socket is there.
            return self.finish_resolved(token, Ok(address), cx);
        }
        let failure = dial.failure.unwrap_or(DialError::NoAddress);
        self.finish(token, Err(failure), cx);
    }

    fn report(&mut self, failure: Option<&DialError>, now: Instant) {
        if let Some(&DialError::RefusedByPolicy(refusal)) = failure {
            self.refusals.on_refusal(refusal, now);
        }
    }

    /// Takes a dial out. It waits for its look-ups no more.
    fn remove(&mut self, token: Token) -> Option<Dial> {
        let dial = self.dials.remove(token)?;
        for (_, lookup) in &dial.lookups {
            self.resolver.leave(*lookup, token.with_leg(0));
        }
        Some(dial)
    }
}
