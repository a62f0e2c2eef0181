//! Changes of the accounts in the users file. Those that wait at the same time are made together: the file is written, and
//! the workers are told, once for all of them.
//!
//! Each is answered when it is on the disk and in effect, and as if it had come alone: it is refused where whoever asked has
//! not seen the change before it, and its answer has the revision of the list that this very change has made.

use super::Supervisor;
use super::answers::denied;
use super::orders::{Asked, Reply};
use crate::app::accounts::change::{Change, Changed, Refusal};
use crate::app::accounts::store::{Draft, StoreError};
use crate::app::config::UsersFile;
use crate::app::exit::Failure;
use crate::control::backend::Order;
use crate::control::events::{Event, Kind, Level};
use crate::protocol::user_id::mask;

/// A change that somebody waits for.
struct Wish {
    change: Change,
    /// Of the list that whoever wishes it has seen; `None`: whatever the list is now.
    revision: Option<u64>,
    by: String,
    /// Of the answer, where the change was made.
    status: u16,
    reply: Reply,
}

impl Wish {
    /// What is asked for, if it is a change of an account; anything else is given back.
    fn of(Asked { order, reply }: Asked) -> Result<Self, Asked> {
        let (change, revision, by, status) = match order {
            Order::AddUser { user, revision, by } => (Change::Add(user), revision, by, 201),
            Order::PatchUser { email, change, revision, by } => {
                (Change::Set { email, patch: change }, revision, by, 200)
            }
            Order::RotateUser { email, revision, by } => (Change::Rotate { email }, revision, by, 200),
            Order::RemoveUser { email, revision, by } => (Change::Remove { email }, revision, by, 204),
            order => return Err(Asked { order, reply }),
        };
        Ok(Self { change, revision, by, status, reply })
    }
}

impl Supervisor {
    /// Obeys these orders of the control plane one after the other. Changes of accounts that follow each other are made
    /// together.
    pub(super) fn obey_control(&mut self, asked: Vec<Asked>) {
        let mut wishes = Vec::new();
        for one in asked {
            let Some(one) = self.pass_on(one) else { continue };
            match Wish::of(one) {
                Ok(wish) => wishes.push(wish),
                Err(other) => {
                    self.change_accounts(&std::mem::take(&mut wishes));
                    self.obey_other(other);
                }
            }
        }
        self.change_accounts(&wishes);
    }

    fn obey_other(&mut self, Asked { order, reply }: Asked) {
        if let Order::Upgrade { by } = order {
            return self.upgrade(&by, Some(reply));
        }
        // Nobody waits any more: the order was obeyed all the same.
        let _ = reply.try_send(self.answer(order));
    }

    fn change_accounts(&mut self, wishes: &[Wish]) {
        if wishes.is_empty() {
            return;
        }
        let results = self.make_changes(wishes).unwrap_or_else(|error| vec![Err(error); wishes.len()]);
        for (wish, result) in wishes.iter().zip(results) {
            let config = &self.parts.config;
            let answer = match result {
                Ok(changed) => Ok(self.user_at(changed.revision + config.cluster_version, wish.status, changed.user)),
                Err(error) => Err(denied(error, config)),
            };
            // Nobody waits any more: the change was made all the same.
            let _ = wish.reply.try_send(answer);
        }
    }

    /// Makes these changes in the file, and then in the server; what came of each.
    ///
    /// # Errors
    /// Why none of them was made.
    fn make_changes(&mut self, wishes: &[Wish]) -> Result<Vec<Result<Changed, StoreError>>, StoreError> {
        let config = &self.parts.config;
        let mut draft = Draft::begin(config, self.users_stamp)?;
        let now = self.hours.unix_time();
        let mut results = Vec::with_capacity(wishes.len());
        for wish in wishes {
            // What clients have seen counts the changes of the cluster, too. Nobody has seen fewer than none of the file.
            let of_file = wish.revision.map(|seen| seen.checked_sub(config.cluster_version).unwrap_or(u64::MAX));
            results.push(draft.make(&wish.change, of_file, now));
        }
        let revision = draft.revision();
        let newest = |refusal| if matches!(refusal, Refusal::Stale(_)) { Refusal::Stale(revision) } else { refusal };
        let results: Vec<_> = results.into_iter().map(|result| result.map_err(newest)).collect();
        if let Some(saved) = draft.save().map_err(StoreError::Failed)? {
            self.users_stamp = None;
            self.serve_changed(saved.file, &results).map_err(StoreError::Failed)?;
            self.users_stamp = saved.stamp;
        }
        for (wish, changed) in wishes.iter().zip(&results) {
            if let Some(changed) = changed.as_ref().ok().filter(|changed| changed.is_new) {
                self.tell_change(changed, &wish.by);
            }
        }
        Ok(results.into_iter().map(|result| result.map_err(StoreError::Refused)).collect())
    }

    /// Serves the accounts of `file`. Who has another id goes on where the old one was.
    fn serve_changed(&mut self, file: UsersFile, results: &[Result<Changed, Refusal>]) -> Result<(), Failure> {
        for changed in results.iter().flatten() {
            if let (Some(old), Some(user)) = (changed.old_id, &changed.user) {
                let notes = self.parts.ledgers.of(mask(old)).notes();
                self.parts.ledgers.of(mask(user.id)).take_over(&notes);
            }
        }
        let config = self.parts.config.clone().with_users(file)?;
        let config = self.with_cluster(config);
        self.adopt_accounts(config)
    }

    fn tell_change(&self, changed: &Changed, by: &str) {
        log::info!("{} (by {by})", changed.said);
        let (code, data) = changed.coded.clone();
        self.tell(Event::new(Kind::User, Level::Info, changed.said.as_str()).by(by).coded(code, data));
    }
}
