//! Which address family of a name goes first: the one that the operator prefers. A family without a route, or one that
//! failed of late, goes last.
//!
//! It is pure. The caller looks up the routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::rules::Prefer;
use crate::outbound::resolve::Family;
use crate::outbound::routes::Way;

/// After so many attempts in a row that nobody answered, a family goes last for [`REST`]. One or two say more about
/// their targets.
const FAILURES_MAX: u32 = 3;
const REST: Duration = Duration::from_mins(1);

const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];
const V4_FIRST: &[Family] = &[Family::V4, Family::V6];
const V6_FIRST: &[Family] = &[Family::V6, Family::V4];

/// Global addresses, to see whether there is a route to the internet.
const IPV4_PROBE: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
const IPV6_PROBE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111));

/// What is known of both families.
#[derive(Debug, Default)]
pub(super) struct Families {
    v4: Health,
    v6: Health,
}

#[derive(Debug, Default)]
struct Health {
    /// Attempts in a row that nobody answered.
    failures: u32,
    rests_until: Option<Instant>,
}

impl Families {
    /// The families to look up, the one to begin with first.
    pub(super) fn in_order(
        &self,
        prefer: Prefer,
        bind: Option<IpAddr>,
        way: impl Fn(IpAddr) -> Way,
        now: Instant,
    ) -> &'static [Family] {
        let [v4, v6] = [IPV4_PROBE, IPV6_PROBE].map(|probe| way(probe) != Way::Nowhere);
        match (bind, prefer) {
            (Some(IpAddr::V4(_)), _) => return V4,
            (Some(IpAddr::V6(_)), _) => return V6,
            (None, Prefer::Auto) if v4 && !v6 => return V4,
            (None, Prefer::Auto) if v6 && !v4 => return V6,
            // Without any route there may still be local targets.
            (None, _) => {}
        }
        let order = if prefer == Prefer::Ipv4 { V4_FIRST } else { V6_FIRST };
        let other = if prefer == Prefer::Ipv4 { V6_FIRST } else { V4_FIRST };
        let is_ill = |family| self.rests(family, now) || (v4 != v6 && !if family == Family::V4 { v4 } else { v6 });
        match (order, other) {
            (&[first, ..], &[second, ..]) if is_ill(first) && !is_ill(second) => other,
            _ => order,
        }
    }

    /// An attempt of this family was answered.
    pub(super) fn on_answered(&mut self, family: Family) {
        *self.health(family) = Health::default();
    }

    /// An attempt of this family was not answered, or there was no way.
    pub(super) fn on_unanswered(&mut self, family: Family, now: Instant) {
        let health = self.health(family);
        health.failures = health.failures.saturating_add(1);
        if health.failures >= FAILURES_MAX {
            health.rests_until = Some(now + REST);
        }
    }

    fn rests(&self, family: Family, now: Instant) -> bool {
        let health = if family == Family::V4 { &self.v4 } else { &self.v6 };
        health.rests_until.is_some_and(|until| now < until)
    }

    fn health(&mut self, family: Family) -> &mut Health {
        if family == Family::V4 { &mut self.v4 } else { &mut self.v6 }
    }
}

/// The family of an address.
pub(super) fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with routes for some families.
    fn ways(v4: bool, v6: bool) -> impl Fn(IpAddr) -> Way {
        move |ip| if if ip.is_ipv4() { v4 } else { v6 } { Way::There } else { Way::Nowhere }
    }

    #[test]
    fn without_a_preference_a_family_without_route_is_not_asked_for() {
        let (families, now) = (Families::default(), Instant::now());
        let order = |v4, v6| families.in_order(Prefer::Auto, None, ways(v4, v6), now);
        assert_eq!([order(true, true), order(true, false), order(false, true)], [V6_FIRST, V4, V6]);
        assert_eq!(order(false, false), V6_FIRST, "local targets need no route to the internet");
    }

    #[test]
    fn a_preferred_family_without_route_goes_last() {
        let (families, now) = (Families::default(), Instant::now());
        let order = |prefer, v4, v6| families.in_order(prefer, None, ways(v4, v6), now);
        assert_eq!(order(Prefer::Ipv6, true, false), V4_FIRST);
        assert_eq!(order(Prefer::Ipv4, false, true), V6_FIRST);
        assert_eq!(order(Prefer::Ipv4, false, false), V4_FIRST);
        assert_eq!(families.in_order(Prefer::Ipv6, Some([127, 0, 0, 1].into()), ways(true, true), now), V4);
    }

    #[test]
    fn a_family_that_nobody_answers_in_goes_last_for_a_while() {
        let (mut families, now) = (Families::default(), Instant::now());
        let order = |families: &Families, now| families.in_order(Prefer::Ipv6, None, ways(true, true), now);
        for _ in 1..FAILURES_MAX {
            families.on_unanswered(Family::V6, now);
        }
        assert_eq!(order(&families, now), V6_FIRST);
        families.on_unanswered(Family::V6, now);
        assert_eq!(order(&families, now), V4_FIRST);
        assert_eq!(order(&families, now + REST), V6_FIRST);
        families.on_unanswered(Family::V6, now + REST);
        assert_eq!(order(&families, now + REST), V4_FIRST, "one more is enough while none was answered");
        families.on_answered(Family::V6);
        assert_eq!(order(&families, now + REST), V6_FIRST);
        for family in [Family::V4, Family::V6] {
            (0..FAILURES_MAX).for_each(|_| families.on_unanswered(family, now));
        }
        assert_eq!(order(&families, now), V6_FIRST, "the other one is no better");
    }
}
