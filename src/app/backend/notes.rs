//! What accounts want kept beside traffic: what counts as used, and when they were seen.

use serde_json::{Map, Value};

use crate::app::certs::hex;
use crate::app::tally::unhex;
use crate::stats::Ledgers;

/// As the state file keeps it, by id.
pub fn save(ledgers: &Ledgers) -> Value {
    let notes =
        ledgers.notes().into_iter().map(|(id, notes)| (hex(&id), serde_json::to_value(notes).unwrap_or_default()));
    Value::Object(notes.collect::<Map<_, _>>())
}

/// Gives the ledgers back what a former process knew; what cannot be read is told and left out.
pub fn restore(ledgers: &Ledgers, accounts: &Value) {
    let Value::Object(accounts) = accounts else { return };
    for (id, notes) in accounts {
        match (unhex(id), serde_json::from_value(notes.clone())) {
            (Some(id), Ok(notes)) => ledgers.of(id).take_over(&notes),
            _ => log::warn!("state: what an account has used cannot be read and is left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_in_another_process() {
        let before = Ledgers::new(1);
        let ledger = before.of([7; 16]);
        ledger.lane(0).uplink_bytes.add(100);
        ledger.note_seen(1000);
        ledger.begin_period(500, 500);
        before.of([8; 16]);
        let saved = save(&before);
        let after = Ledgers::new(4);
        restore(&after, &saved);
        let ledger = after.of([7; 16]);
        assert_eq!((ledger.used_bytes(), ledger.first_seen(), ledger.last_seen()), (100, Some(1000), Some(1000)));
        assert!(!ledger.begin_period(500, 500), "the period goes on");
        ledger.lane(3).downlink_bytes.add(1);
        assert_eq!(ledger.used_bytes(), 101);
        assert_eq!(saved.as_object().unwrap().len(), 1, "who was never seen leaves nothing");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let ledgers = Ledgers::new(1);
        for text in ["null", "[]", r#"{ "xyz": {} }"#, r#"{ "00000000000000000000000000000001": 5 }"#] {
            restore(&ledgers, &serde_json::from_str(text).unwrap());
        }
        assert!(ledgers.notes().is_empty());
    }
}
