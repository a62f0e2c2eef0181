//! What a new node asks the engine before it is one: whether its name is free, and which accounts there are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::engine::{Engine, EngineError};
use super::files::SavedAccounts;
use super::reply::{Reply, plain};
use super::settings::Settings;
use crate::app::exit::{self, Failure};
use crate::cluster::journal::AccountKey;
use crate::cluster::script;

/// Accounts that are read at once.
const ACCOUNTS_AT_ONCE: &str = "1000";
/// Accounts of a cluster at the most, and the bytes of all their records; an engine that has more is not believed.
const ACCOUNTS_MAX: usize = 1_000_000;
const LIST_BYTES_MAX: usize = 256 << 20;
/// Answers to one reading of the list at the most: the engine may give fewer accounts at once than it was asked for.
const PAGES_MAX: usize = 20_000;
/// How long one reading of the list may take.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// The accounts that a node with these settings would serve.
///
/// # Errors
/// 69 when the engine does not answer, 64 when another node with this name is there.
pub fn look(settings: &Settings) -> Result<SavedAccounts, Failure> {
    let looked = Engine::connect(&settings.access).and_then(|mut engine| {
        may_do_all(&mut engine, settings)?;
        let is_taken = is_there(&mut engine, settings)?;
        let version = version_of(&engine.call(&["GET", &settings.key("version")])?)?;
        let history = engine.call(&["HGET", &settings.key("about"), "history"])?.text();
        Ok((is_taken, version, history, all_records(&mut engine, settings)?))
    });
    let (is_taken, version, history, records) = looked.map_err(|error| {
        let message = format!("{}: {error}; conf/cluster.md says how the engine is set up", settings.access.url);
        Failure::new(exit::UNAVAILABLE, message)
    })?;
    if is_taken {
        let message =
            format!("a node called {} is in the cluster already; --node gives this one another name", settings.node);
        return Err(Failure::new(exit::USAGE, message));
    }
    // A list that changes meanwhile is read again by the node itself.
    Ok(SavedAccounts { version, history, records: records.into_iter().collect() })
}

/// Whether the user of the connection may do what a node does. Without that a node would find out with the first traffic or
/// the first change of an account.
///
/// # Errors
/// In words where it may not, and where the engine does not answer.
pub fn may_do_all(engine: &mut Engine, settings: &Settings) -> Result<(), EngineError> {
    let prefix = &settings.prefix;
    let answer = engine.run(&script::RIGHTS, &[], std::slice::from_ref(prefix))?;
    let lacking = answer.texts().ok_or(EngineError::Nonsense)?;
    if lacking.is_empty() {
        return Ok(());
    }
    let commands = plain(&lacking.join(", "));
    Err(EngineError::Refused(format!("its user may not use {commands} on keys that begin with {prefix}:")))
}

/// The version in the engine's answer: 0 before the first account.
pub(super) fn version_of(answer: &Reply) -> Result<u64, EngineError> {
    if *answer == Reply::Nil { Ok(0) } else { answer.number().ok_or(EngineError::Nonsense) }
}

/// A node with our name has given a sign of life lately.
fn is_there(engine: &mut Engine, settings: &Settings) -> Result<bool, EngineError> {
    let seen = engine.call(&["ZSCORE", &settings.key("nodes"), &settings.node])?;
    let time = engine.call(&["TIME"])?;
    let now = time.list().first().and_then(Reply::number).ok_or(EngineError::Nonsense)?;
    let seen_ms = seen.text().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) as u64;
    Ok(seen_ms / 1000 + settings.gone_after.as_secs() > now)
}

/// All accounts, by key.
pub(super) fn all_records(
    engine: &mut Engine,
    settings: &Settings,
) -> Result<BTreeMap<AccountKey, Value>, EngineError> {
    let key = settings.key("accounts");
    let mut records = BTreeMap::new();
    let (mut cursor, mut bytes, deadline) = ("0".to_owned(), 0, Instant::now() + READ_TIMEOUT);
    for _ in 0..PAGES_MAX {
        let page = engine.call(&["HSCAN", &key, &cursor, "COUNT", ACCOUNTS_AT_ONCE])?;
        let [next, accounts] = page.list() else { return Err(EngineError::Nonsense) };
        for (account, record) in accounts.pairs() {
            bytes += account.len() + record.len();
            records.insert(account, serde_json::from_str(&record).unwrap_or(Value::Null));
        }
        cursor = next.text().ok_or(EngineError::Nonsense)?;
        if cursor == "0" {
            return Ok(records);
        }
        if records.len() > ACCOUNTS_MAX || bytes > LIST_BYTES_MAX || Instant::now() > deadline {
            break;
        }
    }
    Err(EngineError::Endless)
}
