//! What accounts have used on other nodes, for those who look at them here: asked for some at a time.
//!
//! An account that is used here is known from the answers to reports. All others are looked up in turns, so that a node of
//! any size asks the same of the engine.

use std::collections::HashMap;
use std::time::Instant;

use super::counting::Served;
use super::engine::EngineError;
use super::member::Member;
use super::reply::Reply;
use crate::app::accounts::standing::period_start;
use crate::app::clock::unix_time;

/// Accounts that are looked up with each sign of life.
const ACCOUNTS_AT_ONCE: usize = 250;

impl Member {
    /// Looks up the next accounts.
    pub(super) fn look_at_usage(&mut self) -> Result<(), EngineError> {
        let (_, served) = self.around.shared.served();
        let count = served.len().min(ACCOUNTS_AT_ONCE);
        let at = if self.usage_at < served.len() { self.usage_at } else { 0 };
        self.usage_at = at + count;
        let turn: Vec<&Served> = served.iter().cycle().skip(at).take(count).collect();
        let key = |one: &&Served| vec!["HGETALL".to_owned(), self.settings.key(&format!("use:{}", one.key))];
        let calls: Vec<_> = turn.iter().map(key).collect();
        let Some(engine) = self.engine.as_mut().filter(|_| !calls.is_empty()) else { return Ok(()) };
        let answers = engine.call_all(&calls)?;
        let now = self.borrowers.unix_time(Instant::now(), unix_time());
        let mut books = self.books.lock();
        for (one, answer) in turn.into_iter().zip(answers) {
            let used_bytes = used_bytes(&answer, period_start(&one.limits, now).unwrap_or(0));
            books.node.on_used(&one.key, used_bytes);
            let used_bytes = used_bytes.saturating_add(books.node.journal().counted_after(&one.key, 0, 0));
            one.ledger.set_used_at(books.counting.counted(&one.id), used_bytes);
        }
        Ok(())
    }
}

/// What counts as used in the period that has begun at `period_start`, by what the engine has of an account.
fn used_bytes(answer: &Reply, period_start: u64) -> u64 {
    let fields: HashMap<_, _> = answer.pairs().collect();
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // Nobody has used anything in a period that the engine does not know of.
    if number("period") < period_start {
        return 0;
    }
    number("up").saturating_add(number("down")).saturating_sub(number("base"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fields: &[(&str, &str)]) -> Reply {
        let words = fields.iter().flat_map(|(name, value)| [*name, *value]);
        Reply::List(words.map(|word| Reply::Text(word.to_owned())).collect())
    }

    #[test]
    fn what_was_used_in_an_earlier_period_does_not_count() {
        let known = answer(&[("up", "10"), ("down", "20"), ("base", "5"), ("period", "100"), ("lease:n1", "7")]);
        assert_eq!((used_bytes(&known, 100), used_bytes(&known, 0), used_bytes(&known, 101)), (25, 25, 0));
        assert_eq!(used_bytes(&answer(&[]), 0), 0);
    }
}
