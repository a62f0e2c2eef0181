//! Legs of a session's token: which of its sockets an event belongs to.

use crate::io::token::{LEG_LIMIT, Token};
use crate::session::Leg;
use crate::session::mux::SESSIONS_MAX;

const CLIENT: usize = 0;
const TARGET: usize = 1;
const SUB: usize = 2;
const _: () = assert!(SUB + SESSIONS_MAX <= LEG_LIMIT);

/// The leg that a session's token names.
pub(super) fn leg_of(token: Token) -> Leg {
    match token.leg() {
        CLIENT => Leg::Client,
        TARGET => Leg::Target,
        sub => Leg::Sub((sub - SUB) as u16),
    }
}

/// The session's token for this leg.
pub(super) fn with_leg(session: Token, leg: Leg) -> Token {
    session.with_leg(match leg {
        Leg::Client => CLIENT,
        Leg::Target => TARGET,
        Leg::Sub(sub) => SUB + usize::from(sub),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::token::Kind;

    #[test]
    fn every_leg_comes_back_as_it_went_in() {
        let session = Token::new(Kind::Session, 5, 7, 0);
        for leg in [Leg::Client, Leg::Target, Leg::Sub(0), Leg::Sub(SESSIONS_MAX as u16 - 1)] {
            let token = with_leg(session, leg);
            assert_eq!((leg_of(token), token.index(), token.generation()), (leg, 7, 5));
        }
    }
}
