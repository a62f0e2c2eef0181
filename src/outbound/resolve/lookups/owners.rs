//! Whose look-ups are under way, so that whoever asks without end displaces nobody but itself.
//!
//! One client can ask for more names in a turn than may be under way. If the oldest look-up made room, those of all others
//! would fail.

use std::collections::{HashMap, VecDeque};

use crate::io::token::Token;

/// The look-ups of each who asks, the oldest first, and those that nobody waits for any more.
#[derive(Default)]
pub(super) struct Owners {
    /// None is empty.
    lines: HashMap<Token, Line>,
    abandoned: Line,
    next_number: u64,
}

/// Look-ups with numbers that tell their order.
type Line = VecDeque<(u64, Token)>;

impl Owners {
    /// `owner` has one more; `None`: nobody waits for it.
    pub(super) fn add(&mut self, owner: Option<Token>, id: Token) {
        let line = match owner {
            Some(owner) => self.lines.entry(owner).or_default(),
            None => &mut self.abandoned,
        };
        line.push_back((self.next_number, id));
        self.next_number += 1;
    }

    /// It is over, or becomes another's. The oldest ones are found first.
    pub(super) fn remove(&mut self, owner: Option<Token>, id: Token) {
        let line = match owner {
            Some(owner) => self.lines.get_mut(&owner),
            None => Some(&mut self.abandoned),
        };
        let Some(line) = line else { return };
        if let Some(place) = line.iter().position(|&(_, known)| known == id) {
            line.remove(place);
        }
        if let Some(owner) = owner.filter(|_| line.is_empty()) {
            self.lines.remove(&owner);
        }
    }

    /// The look-up that makes room for another: one that nobody waits for, else the oldest of whoever has most of them.
    /// Of those who have equally many it is the one that has lasted longest.
    pub(super) fn first_to_go(&self) -> Option<Token> {
        let of_most = || {
            let firsts = self.lines.values().filter_map(|line| line.front().map(|first| (line.len(), first)));
            firsts.max_by_key(|&(count, &(number, _))| (count, std::cmp::Reverse(number))).map(|(_, first)| first)
        };
        self.abandoned.front().or_else(of_most).map(|&(_, id)| id)
    }
}
