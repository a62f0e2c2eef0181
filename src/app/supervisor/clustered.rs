//! The supervisor's dealings with the cluster: which accounts of it are served, and changes that the engine makes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use uuid::Uuid;

use super::Supervisor;
use super::answers::{denied, stale};
use super::orders::{Asked, Reply};
use super::roll::Warning;
use crate::app::accounts::change::{Change, Refusal};
use crate::app::accounts::store::StoreError;
use crate::app::cluster::call::Call;
use crate::app::cluster::change::{Prepared, prepare, prepare_reset};
use crate::app::cluster::counting::Served;
use crate::app::cluster::links::Reach;
use crate::app::cluster::list::Listed;
use crate::app::cluster::news::{self, News, Outcome, Request};
use crate::app::cluster::status::Described;
use crate::app::config::{Config, Origin, User};
use crate::cluster::journal::Bytes;
use crate::control::backend::{Denied, Done, Order};
use crate::control::events::{Event, Kind, Level};
use crate::protocol::user_id::mask;
use crate::reactor::request::{CutQuery, LedgerRef, Which};
use crate::session::close::CloseReason;
use crate::stats::{Ledger, Ledgers};

/// Something to be done with an account, whoever keeps it.
enum Wish {
    Change(Change),
    Reset(String),
}

impl Supervisor {
    /// Has the engine obey an order that is about an account of the cluster; the answer comes later. Gives any other
    /// order back.
    pub(super) fn pass_on(&mut self, asked: Asked) -> Option<Asked> {
        if self.parts.cluster.is_none() {
            return Some(asked);
        }
        let (wish, revision, by, status) = match &asked.order {
            Order::AddUser { user, revision, by } => (Wish::Change(Change::Add(user.clone())), *revision, by, 201),
            Order::PatchUser { email, change, revision, by } => {
                (Wish::Change(Change::Set { email: email.clone(), patch: change.clone() }), *revision, by, 200)
            }
            Order::RotateUser { email, revision, by } => {
                (Wish::Change(Change::Rotate { email: email.clone() }), *revision, by, 200)
            }
            Order::RemoveUser { email, revision, by } => {
                (Wish::Change(Change::Remove { email: email.clone() }), *revision, by, 204)
            }
            Order::ResetUser { email, used_bytes: 0, revision, by } => (Wish::Reset(email.clone()), *revision, by, 200),
            _ => return Some(asked),
        };
        if self.is_kept_in_a_file(&wish) {
            return Some(asked);
        }
        if let Err(refused) = self.ask_engine(&wish, revision, by.clone(), status, &asked.reply) {
            let _ = asked.reply.try_send(Err(refused));
        }
        None
    }

    fn is_kept_in_a_file(&self, wish: &Wish) -> bool {
        let email = match wish {
            Wish::Change(Change::Add(_)) => return false,
            Wish::Change(Change::Set { email, .. } | Change::Rotate { email } | Change::Remove { email })
            | Wish::Reset(email) => email,
        };
        let mut users = self.parts.config.users.iter();
        users.any(|user| user.email == *email && user.origin != Origin::Cluster)
    }

    fn ask_engine(
        &self,
        wish: &Wish,
        revision: Option<u64>,
        by: String,
        status: u16,
        reply: &Reply,
    ) -> Result<(), Denied> {
        let Some(cluster) = &self.parts.cluster else { return Ok(()) };
        let config = &self.parts.config;
        if revision.is_some_and(|seen| seen != config.revision()) {
            return Err(stale(config.revision(), config));
        }
        let listed = cluster.shared().listed();
        if listed.version != config.cluster_version {
            // A newer list is on its way to us.
            return Err(stale(config.revision(), config));
        }
        let prepared: Result<Prepared, Refusal> = match wish {
            Wish::Change(change) => prepare(config, &listed, change, self.hours.unix_time(), Uuid::new_v4()),
            Wish::Reset(email) => prepare_reset(&listed, email),
        };
        let prepared = prepared.map_err(|refusal| denied(StoreError::Refused(refusal), config))?;
        let asked = news::Asked { prepared, by, status, reply: reply.clone() };
        if cluster.leave(Request::Change(Box::new(asked))) { Ok(()) } else { Err(busy()) }
    }

    /// The cluster's thread has something to say.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Accounts => self.adopt_cluster(),
            News::Changed { asked, outcome } => {
                let answer = self.answer_of(&asked, outcome);
                // It was done all the same where nobody waits for the answer any more.
                let _ = asked.reply.try_send(answer);
            }
            News::Warn(warning) => self.tell_warning(warning.event),
            News::Called { call, said } => self.do_as_called(call, &said),
            News::Reset { key } => {
                let listed = self.parts.cluster.as_ref().map(|cluster| cluster.shared().listed());
                let id =
                    listed.and_then(|listed| listed.keys.iter().find(|(_, known)| **known == key).map(|(id, _)| *id));
                if let Some(ledger) = id.and_then(|id| self.parts.ledgers.find(&id)) {
                    ledger.gate().quota.set_spent(false);
                    ledger.set_used_bytes(0);
                }
                self.adopt_standing(self.hours.unix_time());
            }
        }
    }

    /// Tells the operator; of an account of the cluster, once for all nodes.
    pub(super) fn warn(&self, warning: Warning) {
        let event = Event::new(Kind::Limit, Level::Warn, warning.text).coded(warning.code, warning.data);
        let user = self.parts.config.users.iter().find(|user| event.data["user"] == user.email);
        let of_cluster = user.filter(|user| user.origin == Origin::Cluster).zip(self.parts.cluster.as_ref());
        if let Some((user, cluster)) = of_cluster
            && let Some(account) = cluster.shared().listed().key(user).cloned()
        {
            let of = [&event.data["quota_bytes"], &event.data["expires_at"]].map(Value::to_string).join(" ");
            let asked = news::Warning { account, of, event: event.clone() };
            if cluster.leave(Request::Warn(Box::new(asked))) {
                return;
            }
        }
        self.tell_warning(event);
    }

    fn tell_warning(&self, event: Event) {
        log::warn!("{}", event.text);
        self.tell(event);
    }

    /// Does what somebody on another node wants done on all.
    fn do_as_called(&mut self, call: Call, said: &str) {
        let (which, name) = match call {
            Call::Cut { email } => (self.sessions_of(&email), email),
            Call::CutSource { source } => (source.parse().ok().map(Which::Source), source),
            Call::Reload => {
                // What came of it is in log and events.
                let _ = self.reload("cluster");
                return;
            }
        };
        let Some(which) = which else { return };
        let _ = self.parts.reactor.handle().cut(&CutQuery { which, reason: CloseReason::Cut });
        log::info!("cluster: {said}");
        let event = Event::new(Kind::Cut, Level::Info, said).by("cluster");
        self.tell(event.coded("cut_by_cluster", json!({ "user": name })));
    }

    /// The sessions of the account of this name.
    fn sessions_of(&self, email: &str) -> Option<Which> {
        let user = self.parts.config.users.iter().find(|user| user.email == email)?;
        Some(Which::Ledger(LedgerRef(self.parts.ledgers.of(mask(user.id)))))
    }

    fn answer_of(&mut self, asked: &news::Asked, outcome: Outcome) -> Result<Done, Denied> {
        self.adopt_cluster();
        let config = &self.parts.config;
        match outcome {
            Outcome::Made if asked.status == 204 => {
                Ok(Done::Json { status: 204, body: Value::Null, revision: Some(config.revision()) })
            }
            Outcome::Made => Ok(self.user(asked.status, asked.prepared.user.clone())),
            Outcome::Stale => Err(stale(config.revision(), config)),
            Outcome::Refused(words) => Err(Denied::new(422, "invalid", words)),
            Outcome::Away(words) => {
                let message = format!("the engine of the cluster is away, so accounts cannot be changed now: {words}");
                Err(Denied::new(503, "cluster_away", message))
            }
        }
    }

    /// Serves the newest list of the cluster.
    fn adopt_cluster(&mut self) {
        let Some(cluster) = &self.parts.cluster else { return };
        // Of one version there may be two lists, where a backup of the engine was restored.
        if self.listed.as_ref().is_some_and(|listed| Arc::ptr_eq(listed, &cluster.shared().listed())) {
            return;
        }
        self.keep_notes_of_changed_ids();
        let config = self.with_cluster(self.parts.config.clone());
        if let Err(failure) = self.adopt_accounts(config) {
            log::error!("cluster: {failure}");
        }
    }

    /// An account whose id has changed goes on with what was noted for its old id.
    fn keep_notes_of_changed_ids(&self) {
        let Some(cluster) = &self.parts.cluster else { return };
        let (listed, (_, served)) = (cluster.shared().listed(), cluster.shared().served());
        let before: HashMap<_, _> = served.iter().map(|one| (one.key.as_str(), one)).collect();
        for (id, key) in &listed.keys {
            if let Some(old) = before.get(key.as_str()).filter(|old| old.id != *id) {
                self.parts.ledgers.of(*id).take_over(&old.ledger.notes());
            }
        }
    }

    /// `config` with the accounts of the cluster.
    pub(super) fn with_cluster(&mut self, config: Config) -> Config {
        let Some(cluster) = &self.parts.cluster else { return config };
        let listed = cluster.shared().listed();
        let (config, clashes) = config.with_cluster(listed.version, &listed.users);
        for words in clashes.iter().filter(|words| !self.clashes.contains(words)) {
            log::error!("{words}; the account of the cluster is not served here, remove one of them");
            let event = Event::new(Kind::Cluster, Level::Error, format!("{words}; it is not served here"));
            self.tell(event.coded("account_clash", json!({ "text": words })));
        }
        self.clashes = clashes;
        self.listed = Some(listed);
        config
    }

    /// Tells the cluster's thread which accounts are served from now on.
    pub(super) fn tell_cluster(&self, config: &Config) {
        let Some(cluster) = &self.parts.cluster else { return };
        let (_, before) = cluster.shared().served();
        let known: HashMap<_, _> = before.iter().map(|one| (one.id, one.since)).collect();
        let served = served(config, &self.parts.ledgers, &cluster.shared().listed(), |ledger, id| {
            known.get(id).copied().unwrap_or_else(|| counted(ledger))
        });
        cluster.shared().serve(served, self.clashes.clone());
        self.describe_to_cluster(config);
    }

    /// Tells the cluster's thread what this node is to say of itself.
    pub(super) fn describe_to_cluster(&self, config: &Config) {
        let Some(cluster) = &self.parts.cluster else { return };
        let certificates = &self.parts.certificates;
        let ends = certificates.iter().map(|certificate| certificate.not_after).min();
        let ends = ends.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|passed| passed.as_secs());
        cluster.shared().describe(Described {
            certificate_not_after: ends.filter(|_| config.tls.is_some()),
            reach: Reach::of(config, certificates),
        });
    }

    /// The links of `user` to all nodes; none where this node is alone.
    pub(super) fn links_of_nodes(&self, user: &User) -> Vec<Value> {
        let Some(cluster) = &self.parts.cluster else { return Vec::new() };
        let nodes = cluster.shared().status().nodes;
        let told = nodes.iter().filter(|node| node.facts.reach.port > 0);
        let links = told.map(|node| {
            let link = node.facts.reach.link(user, &node.name).to_string();
            json!({ "node": node.name, "online": node.is_online, "link": link })
        });
        links.collect()
    }
}

/// The accounts of the cluster in `config`, with what their ledgers had counted before they were these accounts'.
pub fn served(
    config: &Config,
    ledgers: &Ledgers,
    listed: &Listed,
    since: impl Fn(&Ledger, &[u8; 16]) -> Bytes,
) -> Vec<Served> {
    let users = config.users.iter().filter(|user| user.origin == Origin::Cluster);
    let served = users.filter_map(|user| {
        let id = mask(user.id);
        let ledger = ledgers.of(id);
        let since = since(&ledger, &id);
        Some(Served { key: listed.keys.get(&id)?.clone(), id, limits: user.limits.clone(), ledger, since })
    });
    served.collect()
}

fn counted(ledger: &Ledger) -> Bytes {
    let totals = ledger.totals();
    Bytes { up: totals.uplink_bytes, down: totals.downlink_bytes }
}

fn busy() -> Denied {
    Denied::new(503, "busy", "the server has too much to do; try again")
}
