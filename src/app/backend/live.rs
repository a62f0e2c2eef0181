//! Orders about live sessions, which the workers obey.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::control::backend::{self, Denied, Done, SessionLine, SessionPage, SessionQuery};
use crate::reactor::Handle;
use crate::reactor::request::{Busy, CutQuery, LedgerRef, ListPage, ListQuery, SessionId, Which};
use crate::session::Flow;
use crate::session::close::CloseReason;
use crate::session::view::View;
use crate::stats::Ledger;

/// How long the workers' answers may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Sessions in a page at the most.
const PAGE_MAX: usize = 1000;

/// Which account is called what, as the configuration in effect says.
#[derive(Default)]
pub(super) struct Names {
    by_name: HashMap<Arc<str>, Arc<Ledger>>,
    by_ledger: HashMap<*const Ledger, Arc<str>>,
}

impl Names {
    pub(super) fn add(&mut self, name: Arc<str>, ledger: Arc<Ledger>) {
        self.by_ledger.insert(Arc::as_ptr(&ledger), Arc::clone(&name));
        self.by_name.insert(name, ledger);
    }

    fn account(&self, name: &str) -> Option<LedgerRef> {
        self.by_name.get(name).map(|ledger| LedgerRef(Arc::clone(ledger)))
    }

    /// What the user of a session is called now, or was when he was removed.
    fn user(&self, view: &View) -> Option<String> {
        let now = view.ledger.as_ref().and_then(|ledger| self.by_ledger.get(&Arc::as_ptr(ledger)));
        now.map(ToString::to_string).or_else(|| view.user.clone())
    }
}

/// Live sessions that `query` is about, of all workers.
pub(super) fn sessions(handle: &Handle, names: &Names, query: SessionQuery) -> Result<SessionPage, Denied> {
    let limit = query.limit.clamp(1, PAGE_MAX);
    let after = query.after.map(|id| session_id(&id)).transpose()?;
    let account = match query.user {
        None => None,
        Some(name) => match names.account(&name) {
            Some(account) => Some(account),
            None => return Ok(SessionPage { total: 0, connections: Vec::new(), next: None }),
        },
    };
    let query = ListQuery { after, account, source: query.source, target: query.target, limit };
    let mut pages = answers(&handle.list(&query))?;
    pages.sort_by_key(|page: &ListPage| page.worker);
    let total = pages.iter().map(|page| page.matching).sum();
    let mut sessions: Vec<_> = pages.into_iter().flat_map(|page| page.sessions).collect();
    let has_more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| has_more || sessions.len() == limit).map(|(id, _)| id.to_string());
    let connections = sessions.into_iter().map(|(id, view)| line(id, names.user(&view), view)).collect();
    Ok(SessionPage { total, connections, next })
}

/// Cuts live sessions and says how many.
pub(super) fn cut(handle: &Handle, names: &Names, query: backend::CutQuery) -> Result<Done, Denied> {
    let started = Instant::now();
    let which = match query {
        backend::CutQuery::Session(id) => Which::Session(session_id(&id)?),
        backend::CutQuery::User(name) => match names.account(&name) {
            Some(account) => Which::Ledger(account),
            None => return Ok(Done::Cut { sessions: 0, took: started.elapsed(), others_told: None }),
        },
        backend::CutQuery::Source(ip) => Which::Source(ip),
    };
    let is_one = matches!(which, Which::Session(_));
    let sessions: usize = answers(&handle.cut(&CutQuery { which, reason: CloseReason::Cut }))?.into_iter().sum();
    if is_one && sessions == 0 {
        return Err(Denied::not_found("such session"));
    }
    Ok(Done::Cut { sessions, took: started.elapsed(), others_told: None })
}

/// What every worker that was asked has answered.
fn answers<T>(receiver: &Receiver<Result<T, Busy>>) -> Result<Vec<T>, Denied> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut answers = Vec::new();
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(answer) => answers.push(answer.map_err(|Busy| busy())?),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(answers),
            Err(mpsc::RecvTimeoutError::Timeout) => return Err(busy()),
        }
    }
}

pub(super) fn busy() -> Denied {
    Denied::new(503, "busy", "the server has too much to do; try again")
}

fn session_id(text: &str) -> Result<SessionId, Denied> {
    text.parse().map_err(|_| Denied::not_found("such session"))
}

fn line(id: SessionId, user: Option<String>, view: View) -> SessionLine {
    SessionLine {
        id: id.to_string(),
        user: user.unwrap_or_default(),
        client: view.client.to_string(),
        target: view.target.unwrap_or_default(),
        flow: if view.flow == Flow::Vision { "xtls-rprx-vision".to_owned() } else { String::new() },
        state: view.state.name().to_owned(),
        mode: view.mode.name().to_owned(),
        upload_bytes: view.uplink_bytes,
        download_bytes: view.downlink_bytes,
        age_seconds: view.age.as_secs(),
    }
}
