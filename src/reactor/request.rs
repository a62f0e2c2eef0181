//! What others may ask of the workers while they run, and what they hear in return. It is plain data, but for the
//! channel of the answer.

use std::fmt;
use std::net::{IpAddr, TcpListener as StdListener};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::io::token::{INDEX_LIMIT, Kind, Token};
use crate::session::View;
use crate::session::close::CloseReason;
use crate::stats::Ledger;
use crate::stats::gate::Source;

/// Something that one worker does and answers.
#[derive(Debug)]
pub enum Request {
    List { query: ListQuery, reply: Sender<Result<ListPage, Busy>> },
    Cut { query: CutQuery, reply: Sender<Result<usize, Busy>> },
    AddListener { id: ListenerId, socket: StdListener },
    RemoveListener(ListenerId),
}

/// How a worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Accept what the kernel has queued, close the listeners, let the sessions finish, cut the rest after this time.
    Drain(Duration),
    /// Cut every session and stop.
    Stop,
}

/// This worker was asked nothing, because too much waits for it or it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Names a live session, for people and programs outside: `worker-index-generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    pub worker: usize,
    /// Its leg is 0.
    pub token: Token,
}

/// A listening address that can be taken away again. Each worker has a listener of its own for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub usize);

/// Which live sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Those behind this one, in the order of workers and indexes.
    pub after: Option<SessionId>,
    /// Those of an account, whatever it was called when the session began.
    pub account: Option<LedgerRef>,
    pub source: Option<IpAddr>,
    /// Targets that contain this text.
    pub target: Option<String>,
    /// Sessions in one worker's page at the most.
    pub limit: usize,
}

/// What one worker has to say to a [`ListQuery`].
#[derive(Clone, Debug)]
pub struct ListPage {
    pub worker: usize,
    /// The first of those that were asked for, in the order of their indexes.
    pub sessions: Vec<(SessionId, View)>,
    /// Sessions of this worker that the filters let through, wherever the page begins and ends.
    pub matching: usize,
}

/// Which live sessions to cut, and what to call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutQuery {
    pub which: Which,
    pub reason: CloseReason,
}

/// Some live sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Session(SessionId),
    /// By what is counted for an account, whatever it was called when the session began.
    Ledger(LedgerRef),
    Source(IpAddr),
    /// Those of an account that come from one source.
    LedgerFrom(LedgerRef, Source),
}

/// A ledger, compared by identity.
#[derive(Clone, Debug)]
pub struct LedgerRef(pub Arc<Ledger>);

impl PartialEq for LedgerRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for LedgerRef {}

impl ListQuery {
    /// The filters let this session through.
    pub fn admits(&self, view: &View) -> bool {
        let is_meant = |LedgerRef(ledger): &LedgerRef| view.ledger.as_ref().is_some_and(|one| Arc::ptr_eq(one, ledger));
        let is_user = self.account.as_ref().is_none_or(is_meant);
        let is_source = self.source.is_none_or(|source| view.client.ip() == source);
        let is_target = self
            .target
            .as_ref()
            .is_none_or(|text| view.target.as_ref().is_some_and(|target| target.contains(text.as_str())));
        is_user && is_source && is_target
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.worker, self.token.index(), self.token.generation())
    }
}

/// No session was ever called that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        let mut parts = text.split('-').map(|part| part.parse::<u32>().ok());
        let (Some(Some(worker)), Some(Some(index)), Some(Some(generation)), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoSessionId);
        };
        if index as usize >= INDEX_LIMIT {
            return Err(NoSessionId);
        }
        Ok(Self { worker: worker as usize, token: Token::new(Kind::Session, generation, index as usize, 0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_comes_back_as_it_was_written_and_nothing_else_is_one() {
        let id = SessionId { worker: 3, token: Token::new(Kind::Session, 4_000_000, 77, 0) };
        assert_eq!(id.to_string(), "3-77-4000000");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "1-2", "1-2-3-4", "a-b-c", "1--2", "-1-2-3", "1-2-99999999999", "0-268435456-1"] {
            assert_eq!(text.parse::<SessionId>(), Err(NoSessionId), "{text}");
        }
    }
}
