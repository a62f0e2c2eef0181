//! A generational slab: things of one kind, each named by a [`Token`] that nobody else ever had.
//!
//! An index alone is not an identity, because a slot is taken again as soon as it is free. The roster compares the
//! token's generation with the slot's in every access, so a token whose thing is gone finds nothing, whoever lives in
//! its slot now. It knows nothing of what it keeps. Legs of tokens do not matter to it.

use super::token::{INDEX_LIMIT, Kind, Token, next_generation};

/// Things of one kind with their tokens.
#[derive(Debug)]
pub struct Roster<T> {
    kind: Kind,
    slots: Vec<Slot<T>>,
    /// The slot that was freed last. The others follow in a chain. `slots.len()`: none is free.
    free: usize,
    /// Of the last thing that came in.
    generation: u32,
    len: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Taken { generation: u32, value: T },
    Free { next: usize },
}

/// The place of something that is about to come in, and its token.
pub struct Vacancy<'a, T> {
    roster: &'a mut Roster<T>,
    token: Token,
}

impl<T> Roster<T> {
    /// An empty roster whose tokens are of this kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, slots: Vec::new(), free: 0, generation: 0, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next thing will live, for callers that need its token before it is made. `None` when a token could not
    /// hold its index. Nothing changes before [`Vacancy::insert`].
    pub fn vacancy(&mut self) -> Option<Vacancy<'_, T>> {
        let (index, generation) = (self.free, next_generation(self.generation));
        (index < INDEX_LIMIT).then(|| Vacancy { token: Token::new(self.kind, generation, index, 0), roster: self })
    }

    /// Keeps `value` and names it. `None` when a token could not hold its index: the value is dropped.
    pub fn insert(&mut self, value: T) -> Option<Token> {
        self.vacancy().map(|vacancy| vacancy.insert(value))
    }

    /// What `token` names, unless it is gone.
    pub fn get(&self, token: Token) -> Option<&T> {
        match self.slots.get(token.index()) {
            Some(Slot::Taken { generation, value }) if *generation == token.generation() => Some(value),
            _ => None,
        }
    }

    /// What `token` names, unless it is gone.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.slots.get_mut(token.index()) {
            Some(Slot::Taken { generation, value }) if *generation == token.generation() => Some(value),
            _ => None,
        }
    }

    pub fn contains(&self, token: Token) -> bool {
        self.get(token).is_some()
    }

    /// Takes out what `token` names, unless it is gone already.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let slot = self.slots.get_mut(token.index())?;
        let Slot::Taken { value, .. } = std::mem::replace(slot, Slot::Free { next: self.free }) else { return None };
        self.free = token.index();
        self.len -= 1;
        Some(value)
    }

    /// All things, in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.page(0, self.slots.len())
    }

    /// All things, in the order of their indexes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Taken { value, .. } => Some(value),
            Slot::Free { .. } => None,
        })
    }

    /// All tokens, in the order of their indexes.
    pub fn tokens(&self) -> Vec<Token> {
        self.iter().map(|(token, _)| token).collect()
    }

    /// What lives in at most `slots_max` slots from `start` on. Going on at `start + slots_max` until
    /// [`Roster::slots`] shows everything that stays while the pages are read exactly once.
    pub fn page(&self, start: usize, slots_max: usize) -> impl Iterator<Item = (Token, &T)> {
        let slots = self.slots.iter().enumerate().skip(start).take(slots_max);
        slots.filter_map(|(index, slot)| match slot {
            Slot::Taken { generation, value } => Some((Token::new(self.kind, *generation, index, 0), value)),
            Slot::Free { .. } => None,
        })
    }

    /// The number of slots, free ones included. All indexes are below it.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}

impl<T> Vacancy<'_, T> {
    pub fn token(&self) -> Token {
        self.token
    }

    /// Keeps `value` under the token that was promised.
    pub fn insert(self, value: T) -> Token {
        let Self { roster, token } = self;
        roster.generation = token.generation();
        roster.len += 1;
        let taken = Slot::Taken { generation: token.generation(), value };
        if let Some(slot) = roster.slots.get_mut(token.index()) {
            if let Slot::Free { next } = std::mem::replace(slot, taken) {
                roster.free = next;
            }
        } else {
            roster.slots.push(taken);
            roster.free = roster.slots.len();
        }
        token
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_token_finds_its_own_thing_and_never_its_successor() {
        let mut roster = Roster::new(Kind::Session);
        let first = roster.insert("first").unwrap();
        assert_eq!((roster.get(first), roster.get(first.with_leg(7))), (Some(&"first"), Some(&"first")));
        assert_eq!(roster.remove(first), Some("first"));
        let second = roster.insert("second").unwrap();
        assert_eq!(second.index(), first.index(), "the slot is used again");
        assert_eq!(roster.get(first), None);
        assert_eq!(roster.remove(first), None);
        assert_eq!(roster.get_mut(second), Some(&mut "second"));
        assert_eq!(roster.len(), 1);
    }

    #[test]
    fn a_vacancy_that_is_not_taken_changes_nothing() {
        let mut roster = Roster::new(Kind::Session);
        let promised = roster.vacancy().unwrap().token();
        assert!(roster.is_empty() && !roster.contains(promised));
        assert_eq!(roster.insert(1), Some(promised));
    }

    #[test]
    fn it_agrees_with_a_table_of_everything_that_ever_was() {
        let (mut roster, mut alive, mut gone) = (Roster::new(Kind::Dial), HashMap::new(), Vec::new());
        let mut seed = 7_u64;
        for step in 0..20_000_u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (seed >> 33) as usize;
            if chance.is_multiple_of(3) && !alive.is_empty() {
                let token = *alive.keys().nth(chance % alive.len()).unwrap();
                assert_eq!(roster.remove(token), alive.remove(&token));
                gone.push(token);
            } else if alive.len() < 50 {
                alive.insert(roster.insert(step).unwrap(), step);
            }
            assert_eq!(roster.len(), alive.len());
        }
        assert!(alive.iter().all(|(token, value)| roster.get(*token) == Some(value)));
        assert!(gone.iter().all(|token| !roster.contains(*token)));
        assert!(roster.slots() <= 51);
    }

    #[test]
    fn pages_show_what_stays_once_however_much_comes_and_goes() {
        let mut roster = Roster::new(Kind::Session);
        let tokens: Vec<_> = (0..100).map(|number| roster.insert(number).unwrap()).collect();
        let (mut seen, mut start) = (Vec::new(), 0);
        while start < roster.slots() {
            seen.extend(roster.page(start, 7).map(|(_, number)| *number));
            start += 7;
            // The even ones stay.
            if let Some(&token) = tokens.get(start | 1) {
                roster.remove(token);
                roster.insert(1000);
            }
        }
        let stayed: Vec<_> = seen.iter().copied().filter(|number| number % 2 == 0 && *number < 100).collect();
        assert_eq!(stayed, (0..100).step_by(2).collect::<Vec<_>>());
    }
}
