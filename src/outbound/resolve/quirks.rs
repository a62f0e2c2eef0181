//! What some name servers cannot do. It is learnt from their answers, so that the next question is put as they take it.
//!
//! It is pure: instants come in as arguments. What was learnt is forgotten after a while, because servers change.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a quirk is believed.
pub const MEMORY: Duration = Duration::from_mins(10);
/// After so many questions in a row that a server answered only without EDNS, it is taken for one that cannot take it.
/// A single one may as well have been lost.
const UNANSWERED_MAX: u32 = 2;

/// Something that an answer teaches about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It does not repeat a name as it was spelled.
    FoldsCase,
    /// It said that it does not understand EDNS.
    RefusesEdns,
    /// It answered a query with EDNS.
    TakesEdns,
    /// It kept silent on a query with EDNS and answered the same without.
    SilentOnEdns,
}

/// What is known of servers.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    servers: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    server: SocketAddr,
    folds_case_until: Option<Instant>,
    no_edns_until: Option<Instant>,
    /// Questions in a row that it answered only without EDNS.
    unanswered: u32,
}

impl Quirks {
    /// Whether a query to `server` may be spelled at random.
    pub fn keeps_case(&self, server: SocketAddr, now: Instant) -> bool {
        !self.find(server).is_some_and(|known| lasts(known.folds_case_until, now))
    }

    /// Whether a query to `server` may say EDNS.
    pub fn takes_edns(&self, server: SocketAddr, now: Instant) -> bool {
        !self.find(server).is_some_and(|known| lasts(known.no_edns_until, now))
    }

    pub fn learn(&mut self, server: SocketAddr, lesson: Lesson, now: Instant) {
        let place = self.servers.iter().position(|known| known.server == server);
        if place.is_none() && lesson == Lesson::TakesEdns {
            return;
        }
        let place = place.unwrap_or_else(|| {
            self.servers.push(Known { server, folds_case_until: None, no_edns_until: None, unanswered: 0 });
            self.servers.len() - 1
        });
        let Some(known) = self.servers.get_mut(place) else { return };
        match lesson {
            Lesson::FoldsCase => known.folds_case_until = Some(now + MEMORY),
            Lesson::RefusesEdns => known.no_edns_until = Some(now + MEMORY),
            Lesson::TakesEdns => known.unanswered = 0,
            Lesson::SilentOnEdns => {
                known.unanswered += 1;
                if known.unanswered >= UNANSWERED_MAX {
                    known.unanswered = 0;
                    known.no_edns_until = Some(now + MEMORY);
                }
            }
        }
    }

    fn find(&self, server: SocketAddr) -> Option<&Known> {
        self.servers.iter().find(|known| known.server == server)
    }
}

fn lasts(until: Option<Instant>, now: Instant) -> bool {
    until.is_some_and(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_refuses_is_left_out_for_a_while() {
        let (mut quirks, now) = (Quirks::default(), Instant::now());
        let [one, other] = [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], 53)));
        quirks.learn(one, Lesson::FoldsCase, now);
        quirks.learn(other, Lesson::RefusesEdns, now);
        assert!(!quirks.keeps_case(one, now) && quirks.takes_edns(one, now));
        assert!(quirks.keeps_case(other, now) && !quirks.takes_edns(other, now));
        assert!(quirks.keeps_case(one, now + MEMORY) && quirks.takes_edns(other, now + MEMORY));
    }

    #[test]
    fn one_lost_datagram_says_nothing_about_edns() {
        let (mut quirks, now, server) = (Quirks::default(), Instant::now(), SocketAddr::from(([127, 0, 0, 1], 53)));
        for lesson in [Lesson::SilentOnEdns, Lesson::TakesEdns, Lesson::SilentOnEdns] {
            quirks.learn(server, lesson, now);
            assert!(quirks.takes_edns(server, now));
        }
        quirks.learn(server, Lesson::SilentOnEdns, now);
        assert!(!quirks.takes_edns(server, now));
    }
}
