//! Who waits for answers: of each look-up, and how many there are of each who asks.

use std::collections::HashMap;

use super::Asker;
use crate::io::token::Token;

/// When there are as many waiters as there may be, whoever has less than this part of them is let in all the same: what
/// is full is full of others. It takes many such to fill the same place again.
const FEW_SHARE: usize = 256;

/// Those who wait for one answer, in the order in which they came. Leaving costs the same however many there are.
#[derive(Default)]
pub(super) struct Waiters {
    /// By waiter: its place, and whose it is.
    places: HashMap<Token, (u64, Token)>,
    next_place: u64,
}

impl Waiters {
    /// False if it waits already.
    pub(super) fn join(&mut self, asker: Asker) -> bool {
        self.next_place += 1;
        self.places.insert(asker.waiter, (self.next_place, asker.owner)).is_none()
    }

    /// Whose it was, if it did wait.
    pub(super) fn leave(&mut self, waiter: Token) -> Option<Token> {
        self.places.remove(&waiter).map(|(_, owner)| owner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn in_order(self) -> Vec<Asker> {
        let mut places: Vec<_> = self.places.into_iter().collect();
        places.sort_unstable_by_key(|&(_, (place, _))| place);
        places.into_iter().map(|(waiter, (_, owner))| Asker { waiter, owner }).collect()
    }
}

/// How many wait, over all look-ups.
#[derive(Default)]
pub(super) struct Waiting {
    total: usize,
    /// None is zero.
    by_owner: HashMap<Token, usize>,
}

impl Waiting {
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Whether `owner` may have one more where there may be `most`. No more than twice as many ever wait.
    pub(super) fn has_room(&self, owner: Token, most: usize) -> bool {
        let has_few = || self.by_owner.get(&owner).copied().unwrap_or(0) < most / FEW_SHARE;
        self.total < most || (self.total < most.saturating_mul(2) && has_few())
    }

    pub(super) fn add(&mut self, owner: Token) {
        self.total += 1;
        *self.by_owner.entry(owner).or_default() += 1;
    }

    pub(super) fn remove(&mut self, owner: Token) {
        self.total -= 1;
        if let Some(count) = self.by_owner.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.by_owner.remove(&owner);
            }
        }
    }
}
