//! What runs inside the engine, and how it is called. Each script changes all it changes at once or nothing.
//!
//! Keys, behind the configured prefix:
//!
//! | key | type | content |
//! |---|---|---|
//! | `version` | number | of the list of accounts; every change counts it up |
//! | `accounts` | hash | account key to record (JSON) |
//! | `emails`, `ids` | hash | email, and masked id, to account key: each is unique |
//! | `quotas` | hash | account key to quota in bytes, 0 for none |
//! | `about` | hash | `history`: a random name, given with the first account; an engine that was emptied has another |
//! | `log` | stream | the latest changes of the list |
//! | `use:ACCOUNT` | hash | `up`, `down`: bytes ever; `period`, `base`: start of the quota's period and bytes by then; `lease:NODE`, `ends:NODE`: what is out to a node, and until when; `warned:WARNING`: of what was warned |
//! | `applied:NODE` | hash | boot to the latest batch that was applied |
//! | `addresses:ACCOUNT` | hash | `NODE\|ADDRESS` to the end of the admission |
//! | `sessions:ACCOUNT` | hash | node to `SESSIONS\|END`, the end of the count |
//! | `nodes` | sorted set | node to its last sign of life |
//! | `node:NODE` | hash | what the node says of itself |
//!
//! All times are the engine's, in milliseconds. Numbers in scripts are doubles, exact up to 2^53 bytes (9 PB). The scripts
//! use nothing that Redis 5 does not have.

use super::journal::{AccountKey, Batch};
use super::lease::{LEASE_BYTES_MIN, Lease};
use super::report::{ReportAnswer, ReportOutcome, Wish};

/// Numbers in scripts are exact up to here.
const NUMBER_MAX: u64 = 1 << 53;

/// Applies a batch once and grants leases. Keys: `applied:NODE`, `quotas`. Arguments: [`report_arguments`].
pub const REPORT: Script = Script { name: "report", text: include_str!("script/report.lua") };
/// Changes one account of the list.
pub const CHANGE: Script = Script { name: "change", text: include_str!("script/change.lua") };
/// Admits addresses of accounts that may have a limited number of them.
pub const ADMIT: Script = Script { name: "admit", text: include_str!("script/admit.lua") };
/// Counts sessions of accounts that may have a limited number of them over all nodes. Keys: none. Arguments: prefix, node,
/// milliseconds that a count holds; then per account: key, sessions on this node. Answers the sessions on other nodes, in
/// the same order.
pub const SESSIONS: Script = Script { name: "sessions", text: include_str!("script/sessions.lua") };
/// Notes that a warning of an account is told, so that one node tells it and not every node.
pub const WARN: Script = Script { name: "warn", text: include_str!("script/warn.lua") };
/// Registers a node for another while.
pub const BEAT: Script = Script { name: "beat", text: include_str!("script/beat.lua") };
/// Takes a node that is gone off the list.
pub const FORGET: Script = Script { name: "forget", text: include_str!("script/forget.lua") };
/// Names the commands that the user of the connection may not use.
pub const RIGHTS: Script = Script { name: "rights", text: include_str!("script/rights.lua") };

/// A script by its name in messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub name: &'static str,
    pub text: &'static str,
}

/// The arguments of [`REPORT`] for `batch`. `skip`: the engine takes this batch although some in front of it are lost.
/// Accounts come as key, bytes up, bytes down, wanted lease after the batch, start of the quota's period in seconds.
pub fn report_arguments(
    head: &ReportHead<'_>,
    batch: &Batch,
    skip: bool,
    wishes: &[(AccountKey, Wish)],
) -> Vec<String> {
    let skipped = if skip { batch.sequence } else { 0 };
    let mut arguments = vec![
        head.prefix.to_owned(),
        head.node.to_owned(),
        batch.boot.to_string(),
        batch.sequence.to_string(),
        skipped.to_string(),
        head.lease_ms.to_string(),
        LEASE_BYTES_MIN.to_string(),
    ];
    let mut push = |key: &str, up: u64, down: u64, wish: Wish| {
        let numbers = [up, down, wish.target_bytes, wish.period_start];
        arguments.push(key.to_owned());
        arguments.extend(numbers.iter().map(ToString::to_string));
    };
    for (key, bytes) in &batch.accounts {
        let wish = wishes.iter().find(|(wished, _)| wished == key).map_or(Wish::default(), |(_, wish)| *wish);
        push(key, bytes.up, bytes.down, wish);
    }
    for (key, wish) in wishes.iter().filter(|(key, _)| !batch.accounts.contains_key(key)) {
        push(key, 0, 0, *wish);
    }
    arguments
}

/// What every report of a node says of it.
#[derive(Clone, Copy, Debug)]
pub struct ReportHead<'a> {
    pub prefix: &'a str,
    pub node: &'a str,
    /// How long a granted lease holds.
    pub lease_ms: u64,
}

/// A number in an answer; `None` where it is none, or above what scripts can count. No version, sequence or time comes near
/// that.
pub fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= NUMBER_MAX)
}

/// What went wrong once the batch of this answer of [`REPORT`] was counted; the answer ends with it.
pub fn report_trouble(words: &[String]) -> Option<&str> {
    words.get(3..)?.chunks_exact(4).remainder().first().map(String::as_str)
}

/// Reads the answer of [`REPORT`]; `None` where it is none.
pub fn report_answer(words: &[String], lease_ms: u64) -> Option<ReportAnswer> {
    let [outcome, sequence, at_ms, leases @ ..] = words else { return None };
    let at_ms = number(at_ms)?;
    let outcome = match outcome.as_str() {
        "applied" => ReportOutcome::Applied,
        "repeated" => ReportOutcome::Repeated,
        "gap" => ReportOutcome::Gap,
        _ => return None,
    };
    let leases = leases.chunks_exact(4).map(|words| {
        let [account, bytes, left, used] = words else { return None };
        let (bytes, left_bytes, used_bytes) = (bytes.parse().ok()?, left.parse().ok()?, used.parse().ok()?);
        Some((account.clone(), Lease { bytes, left_bytes, used_bytes, ends_at_ms: at_ms + lease_ms }))
    });
    Some(ReportAnswer { outcome, sequence: number(sequence)?, at_ms, leases: leases.collect::<Option<_>>()? })
}
