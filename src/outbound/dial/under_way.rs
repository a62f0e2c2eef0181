//! One dial under way: whose it is, what it is to end with, and how far it has come.

use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;

use super::DialError;
use super::race::Race;
use crate::io::alarm::Alarm;
use crate::io::token::Token;
use crate::outbound::policy::Refusal;
use crate::outbound::resolve::Family;
use crate::session::Target;

pub(super) struct Dial {
    pub authority: Authority,
    pub target: Target,
    pub purpose: Purpose,
    pub started: Instant,
    pub deadline: Instant,
    pub alarm: Alarm,
    pub race: Race,
    /// Look-ups whose answers are still missing.
    pub lookups: Vec<(Family, Token)>,
    pub attempts: Vec<Attempt>,
    pub next_leg: usize,
    pub failure: Option<DialError>,
    /// An address that may be sent to but has no route, for a look-up that finds no better one.
    pub unroutable: Option<SocketAddr>,
    /// The policy let an address pass, so that the pool was asked.
    pub reached_address: bool,
}

/// On whose word a target is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// A client's. The token is that of its session's leg.
    Client(Token),
    /// The operator's, who named the target for warming up.
    Operator,
    /// The operator's, for a stranger who is passed on. The token is that of the session's leg.
    Fallback(Token),
}

/// What a dial is to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A connected socket.
    Connect,
    /// An address that may be sent to.
    Address,
}

pub(super) struct Attempt {
    pub leg: usize,
    pub socket: TcpStream,
    pub address: SocketAddr,
    pub started: Instant,
}

impl Authority {
    /// Who hears of the end. `None` where nobody waits.
    pub(super) fn owner(self) -> Option<Token> {
        match self {
            Self::Client(owner) | Self::Fallback(owner) => Some(owner),
            Self::Operator => None,
        }
    }

    /// Spares are for the targets of clients.
    pub(super) fn takes_spares(self) -> bool {
        matches!(self, Self::Client(_))
    }

    /// What is left of a refusal of the policy. The policy is for targets that clients ask for. Only the server's own
    /// listeners are refused to the operator, too.
    pub(super) fn pardon(self, refusal: Refusal) -> Result<(), Refusal> {
        match self {
            Self::Operator | Self::Fallback(_)
                if matches!(refusal, Refusal::Private(_) | Refusal::Guarded | Refusal::Port) =>
            {
                Ok(())
            }
            _ => Err(refusal),
        }
    }
}

impl Dial {
    /// Remembers why something failed. Of several reasons the most telling one stays, among equals the first.
    pub(super) fn note(&mut self, error: DialError) {
        if self.failure.is_none_or(|known| known.weight() < error.weight()) {
            self.failure = Some(error);
        }
    }

    /// Closes the oldest attempt. Its address goes to the end of the race. `None` if there is no attempt.
    pub(super) fn give_up_oldest_attempt(&mut self) -> Option<()> {
        let oldest = self.attempts.iter().enumerate().min_by_key(|(_, attempt)| attempt.leg).map(|(place, _)| place)?;
        let attempt = self.attempts.swap_remove(oldest);
        self.race.on_attempt_given_up(attempt.address.ip());
        Some(())
    }
}
