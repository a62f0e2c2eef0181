//! What happened, newest first: a bounded list with running numbers, and where the rest of the server reports.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, SyncSender};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Events kept.
const EVENTS_MAX: usize = 1000;
/// Events of other threads that wait at the most; more are dropped.
const WAITING_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Start,
    Reload,
    Certificate,
    Limit,
    Alert,
    User,
    Cut,
    Auth,
    State,
    Cluster,
}

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(Value::String(name.to_owned())).ok()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Something worth knowing. The text is for people and has no secret in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// A running number that the list gives. None is given again, not even after a restart.
    pub id: u64,
    /// Unix time.
    pub at: u64,
    pub kind: Kind,
    pub level: Level,
    /// A word for programs: what happened, such as `user_added`. The page has a sentence for each in the reader's
    /// language. Empty in what older versions kept.
    #[serde(default)]
    pub code: String,
    pub text: String,
    /// What the sentence is filled in with; an object, or null.
    pub data: Value,
    /// `command`, `page`, an address, or `server`.
    pub by: String,
}

impl Event {
    pub fn new(kind: Kind, level: Level, text: impl Into<String>) -> Self {
        let by = "server".to_owned();
        Self { id: 0, at: 0, kind, level, code: String::new(), text: text.into(), data: Value::Null, by }
    }

    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = by.into();
        self
    }

    /// Says by `code` what happened, and with what; see [`Event::code`].
    pub fn coded(mut self, code: &'static str, data: Value) -> Self {
        (self.code, self.data) = (code.to_owned(), data);
        self
    }
}

#[derive(Debug, Default)]
pub struct Events {
    /// Oldest first.
    events: VecDeque<Event>,
    last_id: u64,
}

impl Events {
    /// Adds an event that happened at `at`; returns it as it is kept.
    pub fn push(&mut self, event: Event, at: u64) -> &Event {
        self.last_id += 1;
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { id: self.last_id, at, ..event });
        &self.events[self.events.len() - 1]
    }

    /// At most `limit` events older than the one with the id `before`, newest first.
    pub fn list(&self, kind: Option<Kind>, before: Option<u64>, limit: usize) -> Vec<&Event> {
        let wanted =
            |event: &&Event| kind.is_none_or(|kind| event.kind == kind) && before.is_none_or(|id| event.id < id);
        self.events.iter().rev().filter(wanted).take(limit).collect()
    }

    pub fn save(&self) -> Vec<Event> {
        self.events.iter().cloned().collect()
    }

    pub fn restore(mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| event.id);
        let surplus = events.len().saturating_sub(EVENTS_MAX);
        let events: VecDeque<_> = events.split_off(surplus).into();
        Self { last_id: events.back().map_or(0, |event| event.id), events }
    }
}

/// Where other threads report; cheap to clone, never blocks.
#[derive(Clone)]
pub struct EventSink(SyncSender<Event>);

impl EventSink {
    /// Leaves an event. One that finds no room is dropped: whoever reports that much has told enough.
    pub fn report(&self, event: Event) {
        let _ = self.0.try_send(event);
    }
}

/// A sink, and the end where the control thread reads.
pub fn channel() -> (EventSink, Receiver<Event>) {
    let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
    (EventSink(sender), receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> Events {
        let mut events = Events::default();
        for number in 0..count {
            let kind = if number % 2 == 0 { Kind::User } else { Kind::Cut };
            events.push(Event::new(kind, Level::Info, number.to_string()), number as u64);
        }
        events
    }

    fn ids(events: &[&Event]) -> Vec<u64> {
        events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn the_newest_come_first_and_pages_follow() {
        let events = filled(6);
        assert_eq!(ids(&events.list(None, None, 2)), [6, 5]);
        assert_eq!(ids(&events.list(None, Some(5), 2)), [4, 3]);
        assert_eq!(ids(&events.list(Some(Kind::User), None, 9)), [5, 3, 1]);
    }

    #[test]
    fn a_bounded_number_is_kept_and_numbers_go_on_after_a_restart() {
        let mut events = Events::restore(filled(EVENTS_MAX + 5).save());
        assert_eq!(events.list(None, None, usize::MAX).len(), EVENTS_MAX);
        assert_eq!(events.push(Event::new(Kind::Start, Level::Info, ""), 0).id, EVENTS_MAX as u64 + 6);
    }

    #[test]
    fn a_full_sink_does_not_block() {
        let (sink, receiver) = channel();
        for _ in 0..WAITING_MAX + 10 {
            sink.report(Event::new(Kind::Auth, Level::Warn, ""));
        }
        assert_eq!(receiver.try_iter().count(), WAITING_MAX);
    }

    #[test]
    fn what_an_older_version_kept_is_read() {
        let old = r#"{"id":1,"at":2,"kind":"user","level":"info","text":"user a added","data":null,"by":"page"}"#;
        assert_eq!(serde_json::from_str::<Event>(old).unwrap().code, "");
    }

    #[test]
    fn kinds_have_names() {
        assert_eq!((Kind::named("reload"), Kind::named("x")), (Some(Kind::Reload), None));
    }
}
