//! What is answered: a pure function of the request, the client's right and the view.
//!
//! `routes.rs` knows the paths, their methods and the right they need; `lists.rs` which part of a list is wanted;
//! `orders.rs` reads what clients want done, and words what came of it. Nothing here touches a socket, a clock or a lock.

pub mod lists;
pub mod orders;
pub mod routes;

use std::ops::Range;

use serde::Serialize;
use serde_json::json;

use self::routes::{Need, Route};
use super::assets;
use super::backend::Order;
use super::events::Kind;
use super::guard::{Access, Exposure, Right};
use super::history::book::Key;
use super::history::csv::csv;
use super::history::series;
use super::http::accept;
use super::http::connection::Request;
use super::http::head::{Head, Method, Upgrade};
use super::http::response::{JSON, Reply};
use super::metrics::text::{Format, exposition};
use super::report::overview::Scope;
use super::report::{parts, users};
use super::sample::ServerState;
use super::snapshots::scope_after;
use super::view::View;

const TEXT: &str = "text/plain; charset=utf-8";

/// Events on one page, unless the client wants fewer or more.
const EVENTS_PAGE_DEFAULT: usize = 100;
const EVENTS_PAGE_MAX: usize = 500;

/// What to do with a request.
#[derive(Debug)]
pub enum Answer {
    Reply(Reply),
    /// The bytes of `/api/stats` as they were written for the feed, with these accounts.
    Overview(Scope),
    /// The bytes of `/api/users`.
    Accounts(users::Ids),
    /// Have this done, then answer.
    Order(Order),
    /// Go over to the feed, with this key of the handshake; the first figures come with these accounts.
    Feed(String, Scope),
    /// Log in with this token.
    Login(String),
    Logout,
}

/// What is at the path of `request`, for the guard.
pub fn exposure(request: &Request) -> Exposure {
    routes::find(&request.head.segments).map_or(Exposure::Figures, |route| route.exposure())
}

/// The answer to `request`.
pub fn answer(request: &Request, access: &Access, view: &View) -> Answer {
    let head = &request.head;
    let Some(route) = routes::find(&head.segments) else {
        return reply(Reply::error(404, "not_found", "there is nothing at this path"));
    };
    let methods = route.methods();
    if head.method == Method::Options {
        return reply(Reply::empty(204).with("Allow", allow(methods)));
    }
    let method = if head.method == Method::Head { Method::Get } else { head.method };
    if !methods.contains(&method) {
        let refused =
            Reply::error(405, "method_not_allowed", "this path knows other methods only, see the field Allow");
        return reply(refused.with("Allow", allow(methods)));
    }
    if let Some(refused) = refused(route.need(method), access) {
        return reply(refused);
    }
    if head.upgrade != Upgrade::None && !matches!(route, Route::Feed) {
        return reply(Reply::error(400, "bad_request", "only /api/ws and /ws speak WebSocket"));
    }
    serve(route, method, request, access, view)
}

fn serve(route: Route<'_>, method: Method, request: &Request, access: &Access, view: &View) -> Answer {
    let head = &request.head;
    let json = |body: &dyn erased::Body| Answer::Reply(Reply::new(200, JSON, body.bytes()));
    match route {
        Route::Asset(name) => reply(assets::reply(name, head.if_none_match.as_deref(), head.accepts_gzip)),
        Route::Health => reply(Reply::new(200, TEXT, &b"ok\n"[..])),
        Route::Ready => reply(ready(view)),
        Route::Metrics => {
            let format = Format::wanted(&head.accept);
            reply(Reply::new(200, format.content_type(), exposition(view, format).into_bytes()))
        }
        Route::Feed => match &head.upgrade {
            Upgrade::WebSocket(key) => match scope(head, view) {
                Ok(scope) => Answer::Feed(key.clone(), scope),
                Err(refused) => reply(refused),
            },
            Upgrade::None | Upgrade::BrokenWebSocket => reply(
                Reply::error(426, "upgrade_required", "this path speaks WebSocket, version 13")
                    .with("Sec-WebSocket-Version", "13"),
            ),
        },
        Route::Session => json(&json!({
            "right": access.right.name(),
            "login_required": access.login_required,
            "version": env!("CARGO_PKG_VERSION"),
            "lang_hint": null,
        })),
        Route::Login => orders::login(&request.body).map_or_else(reply, Answer::Login),
        Route::Logout => Answer::Logout,
        Route::Overview => scope(head, view).map_or_else(reply, Answer::Overview),
        Route::UserStats => reply(part(head, view).map_or_else(
            |refused| refused,
            |part| Reply::json(200, &users::shown_all(view, &view.sample.users[part], users::Ids::Masked)),
        )),
        Route::SpeedHistory => json(&parts::speed_history(view)),
        Route::Config => json(&parts::limits(view)),
        Route::Performance => json(&parts::performance(view)),
        Route::ConnectionPool => json(&parts::ConnectionPool::of(&view.sample)),
        Route::MemoryPool => json(&view.sample.memory_pool),
        Route::History => reply(history(request, view)),
        Route::Events => reply(events(request, view).unwrap_or_else(|refused| refused)),
        Route::Nodes => reply(nodes(view)),
        Route::Users if method == Method::Get => accounts(head, access, view).unwrap_or_else(reply),
        Route::Connections
        | Route::Connection(_)
        | Route::Users
        | Route::User(..)
        | Route::Reload
        | Route::Online
        | Route::Node(_)
        | Route::Upgrade => orders::read(&route, method, request, &access.by).map_or_else(reply, Answer::Order),
    }
}

fn reply(reply: Reply) -> Answer {
    Answer::Reply(reply)
}

/// The answer to a client whose right does not reach; `None` if it does.
fn refused(need: Need, access: &Access) -> Option<Reply> {
    let needed = match need {
        Need::Nothing => return None,
        Need::View => Right::View,
        Need::Admin | Need::Change => Right::Admin,
    };
    if access.right == Right::None {
        let message = "a token is needed: Authorization: Bearer TOKEN, or log in on the page";
        return Some(Reply::error(401, "token_needed", message).with("WWW-Authenticate", "Bearer"));
    }
    if access.right < needed {
        let message = "this needs the admin token, or the socket on the machine itself";
        return Some(Reply::error(403, "admin_needed", message));
    }
    // Secrets and changes do not go over the open network in plain text.
    let message = "over the network, or under a name that is not the server's own, this needs TLS in front: put a proxy \
                   there and set VLESS_MONITOR_ORIGIN to its address";
    (need != Need::View && !access.is_private).then(|| Reply::error(403, "tls_needed", message))
}

fn allow(methods: &[Method]) -> String {
    let mut words = Vec::new();
    for method in methods {
        words.push(match method {
            Method::Get => "GET, HEAD",
            Method::Post => "POST",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Head | Method::Options | Method::Other => continue,
        });
    }
    words.push("OPTIONS");
    words.join(", ")
}

fn ready(view: &View) -> Reply {
    match view.sample.state {
        ServerState::Serving => Reply::new(200, TEXT, &b"ready\n"[..]),
        ServerState::Starting => Reply::new(503, TEXT, &b"starting\n"[..]),
        ServerState::Draining => Reply::new(503, TEXT, &b"draining\n"[..]),
    }
}

/// The list of accounts, or that it is still the one that the client has seen.
fn accounts(head: &Head, access: &Access, view: &View) -> Result<Answer, Reply> {
    let part = part(head, view)?;
    let ids = if access.may_see_secrets() { users::Ids::Whole } else { users::Ids::Masked };
    let tag = users::tag(view, ids);
    if accept::has_tag(head.if_none_match.as_deref(), &tag) {
        return Ok(reply(Reply::empty(304).with("ETag", tag)));
    }
    if part.len() == view.sample.users.len() {
        return Ok(Answer::Accounts(ids));
    }
    Ok(reply(Reply::json(200, &users::list(view, part, ids)).with("ETag", tag)))
}

/// Which accounts are wanted: all unless the query says otherwise.
fn part(head: &Head, view: &View) -> Result<Range<usize>, Reply> {
    let count = view.sample.users.len();
    let limit = lists::limit(head, usize::MAX, usize::MAX)?;
    let offset = usize::try_from(lists::number(head, "offset")?.unwrap_or(0)).unwrap_or(usize::MAX).min(count);
    Ok(offset..offset.saturating_add(limit).min(count))
}

/// Which accounts are wanted along with the figures of the server.
fn scope(head: &Head, view: &View) -> Result<Scope, Reply> {
    match head.parameter("users") {
        None | Some("all") => {
            Ok(lists::number(head, "users_since")?.map_or(Scope::All, |seen| scope_after(&view.roll, seen)))
        }
        Some("none") => Ok(Scope::Nobody),
        Some(_) => Err(lists::bad_request("users is all or none")),
    }
}

/// How the cluster stands.
fn nodes(view: &View) -> Reply {
    match &view.sample.cluster {
        Some(cluster) => Reply::json(200, cluster),
        None => {
            Reply::error(404, "not_found", "this node is not one of a cluster; see cluster.url in the configuration")
        }
    }
}

fn history(request: &Request, view: &View) -> Reply {
    let head = &request.head;
    let Some(range) = series::Range::named(head.parameter("range").unwrap_or("1h")) else {
        return Reply::error(400, "bad_request", "range is one of 1h, 24h, 30d, 1y");
    };
    let series = match head.parameter("user") {
        None => Some(&view.series),
        Some(email) => match view.sample.users.iter().find(|user| &*user.email == email) {
            // Nothing was counted yet where there is no entry.
            Some(user) => view.book.entry(Key::of(&user.ledger_id)).map(|entry| &entry.series),
            None => return Reply::error(404, "not_found", "there is no such user"),
        },
    };
    let empty = series::Series::new(series::Subject::User);
    let extract = series.unwrap_or(&empty).extract(range, view.clock.unix_time);
    match head.parameter("format").unwrap_or("json") {
        "json" => Reply::json(200, &extract),
        "csv" => Reply::new(200, "text/csv; charset=utf-8", csv(&extract).into_bytes())
            .with("Content-Disposition", format!("attachment; filename=\"history-{}.csv\"", range.name())),
        _ => Reply::error(400, "bad_request", "format is json or csv"),
    }
}

fn events(request: &Request, view: &View) -> Result<Reply, Reply> {
    let head = &request.head;
    let limit = lists::limit(head, EVENTS_PAGE_DEFAULT, EVENTS_PAGE_MAX)?;
    let before = lists::number(head, "before")?;
    let kind = match head.parameter("kind").map(Kind::named) {
        None => None,
        Some(Some(kind)) => Some(kind),
        Some(None) => return Err(lists::bad_request("there is no such kind of event")),
    };
    Ok(Reply::json(200, &json!({ "events": view.events.list(kind, before, limit) })))
}

/// Lets bodies of different types take the same way.
mod erased {
    use super::Serialize;

    pub(super) trait Body {
        fn bytes(&self) -> Vec<u8>;
    }

    impl<T: Serialize> Body for T {
        fn bytes(&self) -> Vec<u8> {
            // What is shown here always becomes JSON.
            serde_json::to_vec(self).unwrap_or_default()
        }
    }
}
