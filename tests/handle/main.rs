//! What the rest of the process may do with running workers: list and cut sessions, replace the rules, add and remove
//! listeners.

#[path = "../support/mod.rs"]
mod support;

mod adopt;
mod cut;
mod list;
mod listeners;
mod states;
mod timings;

use std::sync::mpsc::Receiver;

use support::PATIENCE;
use support::server::Server;
use vless_rust::reactor::Handle;
use vless_rust::reactor::request::{Busy, CutQuery, ListQuery, SessionId, Which};
use vless_rust::session::View;
use vless_rust::session::close::CloseReason;

/// Everything alive that `query` lets through, in order.
fn list(handle: &Handle, query: &ListQuery) -> Vec<(SessionId, View)> {
    let pages = answers(&handle.list(query));
    let mut sessions: Vec<_> = pages.into_iter().flat_map(|page| page.sessions).collect();
    sessions.sort_by_key(|(id, _)| (id.worker, id.token.index()));
    sessions
}

fn all(server: &Server) -> Vec<(SessionId, View)> {
    list(&server.reactor().handle(), &ListQuery { limit: usize::MAX, ..ListQuery::default() })
}

/// How many sessions were cut.
fn cut(handle: &Handle, which: Which) -> usize {
    answers(&handle.cut(&CutQuery { which, reason: CloseReason::Cut })).into_iter().sum()
}

/// All answers to a question; every worker must give one in time.
fn answers<T>(answers: &Receiver<Result<T, Busy>>) -> Vec<T> {
    let mut all = Vec::new();
    loop {
        match answers.recv_timeout(PATIENCE) {
            Ok(answer) => all.push(answer.expect("no inbox is full")),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return all,
            Err(error) => panic!("an answer is missing: {error}"),
        }
    }
}
