//! The target-facing side of a worker: its dialer, and the descriptors that can be freed there.

use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;

use super::Parts;
use super::base::Base;
use crate::outbound::context::DialContext;
use crate::outbound::dial::{DialRules, Dialer, Part};
use crate::reactor::inbox::Word;
use crate::session::Target;
use crate::stats::Counters;

/// How often other workers are asked to close spares while descriptors are short.
const SHORTAGE_SHARE_INTERVAL: Duration = Duration::from_millis(20);

pub(super) struct Targets {
    pub(super) dialer: Dialer,
    /// Targets that get spares at the start.
    warm_up: Vec<Target>,
    /// For sockets that take themselves out of the poll.
    registry: Option<Rc<Registry>>,
    shortage_shared_at: Option<Instant>,
}

impl Targets {
    /// The dialer hears of addresses of this machine that come or go.
    pub(super) fn new(parts: &Parts, registry: &Registry) -> Self {
        let part = Part { worker: parts.number, workers: parts.shared.workers };
        let dialer = Dialer::new(Arc::clone(&parts.rules.dial), part);
        if let Err(error) = dialer.watch_addresses(registry) {
            log::warn!("worker {}: changes of this machine's addresses cannot be watched: {error}", parts.number);
        }
        Self { dialer, warm_up: parts.warm_up.clone(), registry: None, shortage_shared_at: None }
    }

    /// The dialer, and what it is lent.
    pub(super) fn parts<'a>(
        &'a mut self,
        base: &'a mut Base,
        registry: &'a Registry,
    ) -> (&'a mut Dialer, DialContext<'a>) {
        let cx = DialContext { registry, timers: &mut base.timers, now: base.now, counters: &base.counters };
        (&mut self.dialer, cx)
    }

    /// Connects the spares that the operator wants from the start. What each named target gets is shared out among the
    /// workers. Some may be left without.
    pub(super) fn warm_up(&mut self, base: &mut Base, registry: &Registry) {
        let pool = base.rules.dial.pool.as_ref().map(|pool| pool.share(base.number, base.shared.workers));
        let targets = mem::take(&mut self.warm_up);
        if pool.is_some_and(|pool| pool.warm_up_spares > 0) {
            let (dialer, mut cx) = self.parts(base, registry);
            dialer.warm_up(&targets, &mut cx);
        }
    }

    pub(super) fn adopt(&mut self, rules: Arc<DialRules>, base: &mut Base, registry: &Registry) {
        let (dialer, mut cx) = self.parts(base, registry);
        dialer.adopt(rules, &mut cx);
    }

    /// Lets answers about addresses grow old.
    pub(super) fn grow_old(&self, now: Instant) {
        self.dialer.grow_old(now);
    }

    /// Spares may use half of the descriptors that sessions leave free: one of the two that each more could have.
    pub(super) fn limit_spares(&mut self, base: &Base) {
        let room = base.rules.sessions_max.saturating_sub(base.shared.sessions()) / base.shared.workers;
        self.dialer.set_spare_room(room, &base.counters);
    }

    pub(super) fn close_pool(&mut self, counters: &Counters) {
        self.dialer.close_pool(counters);
    }

    /// Frees descriptors. Spares go first, then attempts that have had their time. False if nothing was left to give
    /// way.
    pub(super) fn make_room(&mut self, base: &Base) -> bool {
        if self.dialer.give_up_spares(&base.counters) {
            return true;
        }
        self.ask_others_for_room(base);
        self.dialer.give_up_slow_attempts()
    }

    /// Asks the other workers to close some of their spares, because there is none to close here. That helps the next
    /// who need a descriptor. The others are not asked again before they had the time to do it.
    fn ask_others_for_room(&mut self, base: &Base) {
        let is_due = self.shortage_shared_at.is_none_or(|at| base.now >= at + SHORTAGE_SHARE_INTERVAL);
        if base.rules.dial.pool.is_none() || !is_due {
            return;
        }
        self.shortage_shared_at = Some(base.now);
        for worker in base.others() {
            // A worker that has no room for this has more urgent things to do.
            base.tell(worker, Word::GiveUpSpares);
        }
    }

    pub(super) fn registry(&mut self, registry: &Registry) -> io::Result<Rc<Registry>> {
        if let Some(registry) = &self.registry {
            return Ok(Rc::clone(registry));
        }
        let registry = Rc::new(registry.try_clone()?);
        self.registry = Some(Rc::clone(&registry));
        Ok(registry)
    }
}
