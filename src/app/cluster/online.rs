//! Who is online: what every node tells of the sessions of accounts, and the sum over all nodes.
//!
//! A node says it with every sign of life, in a place that is read only when somebody asks. Targets are not among it: the
//! engine is not to know where anybody goes.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::counting::Served;
use super::list::Listed;
use crate::cluster::journal::AccountKey;
use crate::session::address_of;

/// Accounts that a node tells of at the most.
const ACCOUNTS_MAX: usize = 5000;
/// Addresses of one account that a node tells of.
const ADDRESSES_MAX: usize = 8;
/// Accounts in one answer.
const ANSWER_MAX: usize = 1000;

/// The sessions of one account on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Present {
    pub sessions: u64,
    pub addresses: Vec<String>,
}

/// Who is online on one node.
pub type Online = BTreeMap<AccountKey, Present>;

/// A node, and who is online there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOnline {
    pub node: String,
    /// How old this is.
    pub seconds_ago: u64,
    pub online: Online,
}

/// Who is online on this node, of the accounts that it serves for the cluster.
pub fn here(served: &[Served]) -> Online {
    let present = served.iter().filter_map(|one| {
        let gate = one.ledger.gate();
        let sessions = gate.sessions_active() as u64;
        let addresses = gate.sources(ADDRESSES_MAX).into_iter().map(|source| address_of(source).to_string());
        (sessions > 0).then(|| (one.key.clone(), Present { sessions, addresses: addresses.collect() }))
    });
    present.take(ACCOUNTS_MAX).collect()
}

/// What another node has said; nothing where it is not to be understood.
pub fn read(text: &str) -> Online {
    let online: Online = serde_json::from_str(text).unwrap_or_default();
    online.into_iter().take(ACCOUNTS_MAX).collect()
}

/// The answer to who is online on `nodes`, of all accounts or of `user`. `is_complete`: the engine was asked, too.
pub fn answer(listed: &Listed, nodes: &[NodeOnline], user: Option<&str>, is_complete: bool) -> Value {
    let names: HashMap<_, _> = listed.users.iter().filter_map(|user| Some((listed.key(user)?, &user.email))).collect();
    let mut users: BTreeMap<&str, (u64, Vec<Value>)> = BTreeMap::new();
    for node in nodes {
        for (key, present) in &node.online {
            let Some(email) = names.get(key).filter(|email| user.is_none_or(|user| user == **email)) else { continue };
            let (sessions, parts) = users.entry(email.as_str()).or_default();
            *sessions += present.sessions;
            parts.push(json!({
                "node": node.node, "sessions": present.sessions, "addresses": present.addresses,
                "seconds_ago": node.seconds_ago,
            }));
        }
    }
    let total = users.len();
    let mut users: Vec<_> = users.into_iter().collect();
    users.sort_by_key(|(_, (sessions, _))| std::cmp::Reverse(*sessions));
    let users = users.into_iter().take(ANSWER_MAX);
    let users = users.map(|(email, (sessions, nodes))| json!({ "email": email, "sessions": sessions, "nodes": nodes }));
    json!({ "complete": is_complete, "total": total, "users": users.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::app::cluster::files::SavedAccounts;
    use crate::app::cluster::list::List;

    fn present(sessions: u64) -> Present {
        Present { sessions, addresses: vec!["192.0.2.1".to_owned()] }
    }

    #[test]
    fn sessions_of_an_account_are_summed_over_nodes_and_the_busiest_comes_first() {
        let record = |email: &str| json!({ "uuid": email, "email": email });
        let records = vec![("k1".to_owned(), record("anna")), ("k2".to_owned(), record("bob"))];
        let listed = List::new(SavedAccounts { version: 1, history: None, records }, None).listed();
        let node = |node: &str, online: &[(&str, u64)]| NodeOnline {
            node: node.to_owned(),
            seconds_ago: 3,
            online: online.iter().map(|(key, sessions)| ((*key).to_owned(), present(*sessions))).collect(),
        };
        let nodes = [node("n1", &[("k1", 1), ("k2", 4), ("unknown", 9)]), node("n2", &[("k1", 2)])];
        let all = answer(&listed, &nodes, None, true);
        assert_eq!(
            (&all["total"], &all["users"][0]["email"], &all["users"][0]["sessions"]),
            (&json!(2), &json!("bob"), &json!(4))
        );
        let anna = answer(&listed, &nodes, Some("anna"), true)["users"].clone();
        assert_eq!((anna.as_array().unwrap().len(), &anna[0]["sessions"]), (1, &json!(3)));
        assert_eq!(
            anna[0]["nodes"][1],
            json!({ "node": "n2", "sessions": 2, "addresses": ["192.0.2.1"], "seconds_ago": 3 })
        );
    }

    #[test]
    fn what_another_version_says_is_read_as_far_as_it_is_known() {
        assert_eq!(read("nonsense"), Online::new());
        let told = serde_json::to_string(&Online::from([("k".to_owned(), present(2))])).unwrap();
        assert_eq!(read(&told)["k"], present(2));
        assert_eq!(read("{\"k\":{\"sessions\":2,\"moons\":1}}")["k"].sessions, 2);
    }
}
