//! The accounts: which user an id belongs to, the ledger that counts for the user, and which ids are known and may not
//! connect.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::protocol::addons::Flow;
use crate::protocol::user_id;
use crate::stats::Ledger;

/// One account.
#[derive(Debug)]
pub struct User {
    /// The configured id. It is a secret: never logged above debug, never shown unmasked.
    pub id: [u8; 16],
    /// The name it goes by in logs and statistics.
    pub email: String,
    /// The flow its requests must have.
    pub flow: Flow,
    /// What is counted for the user. It belongs to the id, whatever becomes of the account.
    pub ledger: Arc<Ledger>,
}

/// Why an account may not connect. The client is a stranger all the same; only the operator learns the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It was switched off.
    Disabled,
    /// Its time is over.
    Expired,
    /// It has used what it may use in this period.
    QuotaUsed,
}

/// All accounts, found by id in constant time.
#[derive(Debug, Default)]
pub struct Users {
    /// Keyed by the id with its two route bytes zeroed: clients may put anything there (VLESS-1).
    by_id: HashMap<[u8; 16], Arc<User>>,
    /// Keyed likewise.
    barred: HashMap<[u8; 16], Barred>,
}

impl Users {
    /// A table of `users`.
    ///
    /// # Errors
    /// The later of two users whose ids differ in the route bytes at most: nobody could tell them apart.
    pub fn new(users: impl IntoIterator<Item = User>) -> Result<Self, Box<User>> {
        let mut by_id = HashMap::new();
        for user in users {
            match by_id.entry(user_id::mask(user.id)) {
                Entry::Vacant(place) => {
                    place.insert(Arc::new(user));
                }
                Entry::Occupied(_) => return Err(Box::new(user)),
            }
        }
        Ok(Self { by_id, barred: HashMap::new() })
    }

    /// The same table, which also knows the ids of accounts that may not connect.
    #[must_use]
    pub fn with_barred(mut self, barred: impl IntoIterator<Item = ([u8; 16], Barred)>) -> Self {
        self.barred = barred.into_iter().map(|(id, why)| (user_id::mask(id), why)).collect();
        self
    }

    /// Why the account with this id, as received on the wire, may not connect; `None` where there is none that may not.
    pub fn barred(&self, received: &[u8; 16]) -> Option<Barred> {
        self.barred.get(&user_id::mask(*received)).copied()
    }

    /// The user with this id, as received on the wire.
    pub fn find(&self, received: &[u8; 16]) -> Option<&Arc<User>> {
        self.by_id.get(&user_id::mask(*received))
    }

    /// All users, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_id.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: [u8; 16]) -> User {
        User { id, email: "a@example.com".to_owned(), flow: Flow::None, ledger: Arc::new(Ledger::new(1)) }
    }

    #[test]
    fn route_bytes_do_not_matter_for_the_lookup() {
        let users = Users::new([user([7; 16])]).unwrap();
        let mut received = [7; 16];
        received[6] = 0xab;
        received[7] = 0xcd;
        assert!(users.find(&received).is_some());
        received[8] = 0;
        assert!(users.find(&received).is_none());
    }

    #[test]
    fn an_account_that_may_not_connect_is_no_user_and_known_all_the_same() {
        let users = Users::new([user([7; 16])]).unwrap().with_barred([([8; 16], Barred::Expired)]);
        let mut received = [8; 16];
        received[6] = 1;
        assert!(users.find(&received).is_none() && users.iter().count() == 1);
        assert_eq!((users.barred(&received), users.barred(&[7; 16])), (Some(Barred::Expired), None));
    }

    #[test]
    fn users_that_cannot_be_told_apart_are_refused() {
        let mut other = [7; 16];
        other[7] = 1;
        assert!(Users::new([user([7; 16]), user(other)]).is_err());
    }
}
