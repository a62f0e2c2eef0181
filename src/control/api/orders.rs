//! Orders of clients: from request to [`Order`], and from what came of it to an answer.

use serde_json::{Value, json};

use super::lists::{self, bad_request};
use super::routes::{Route, User};
use crate::control::backend::{CutQuery, Denied, Done, Order, SessionQuery};
use crate::control::http::connection::Request;
use crate::control::http::head::Method;
use crate::control::http::response::Reply;

/// Live sessions on one page, unless the client wants fewer or more.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

/// The token in the body of a login.
pub fn login(body: &[u8]) -> Result<String, Reply> {
    let token = serde_json::from_slice::<Value>(body).ok().and_then(|body| body["token"].as_str().map(str::to_owned));
    token.ok_or_else(|| bad_request("the body must be {\"token\": \"...\"}"))
}

/// The order that `request` is.
///
/// # Errors
/// The answer to a request that makes no sense.
pub fn read(route: &Route<'_>, method: Method, request: &Request, by: &str) -> Result<Order, Reply> {
    let by = by.to_owned();
    match *route {
        Route::Connections if method == Method::Get => sessions(request).map(Order::Sessions),
        Route::Connections => cut(request).map(|query| Order::Cut { query, by }),
        Route::Connection(id) => Ok(Order::Cut { query: CutQuery::Session(id.to_owned()), by }),
        Route::Reload => match request.head.parameter("nodes") {
            None => Ok(Order::Reload { by }),
            Some("all") => Ok(Order::ReloadAll { by }),
            Some(_) => Err(bad_request("nodes can only be \"all\"")),
        },
        Route::Online => Ok(Order::Online { user: request.head.parameter("user").map(str::to_owned) }),
        Route::Node(node) => Ok(Order::ForgetNode { node: node.to_owned(), by }),
        Route::Upgrade => Ok(Order::Upgrade { by }),
        Route::Users => Ok(Order::AddUser { user: object(&request.body)?, revision: revision(request)?, by }),
        Route::User(email, what) => user(email, what, method, request, by),
        _ => Err(Reply::error(404, "not_found", "there is nothing at this path")),
    }
}

fn user(email: &str, what: User, method: Method, request: &Request, by: String) -> Result<Order, Reply> {
    let email = email.to_owned();
    Ok(match what {
        User::Link => Order::Link { email },
        User::QrCode => Order::QrCode { email },
        User::Reset => {
            Order::ResetUser { email, used_bytes: used_bytes(&request.body)?, revision: revision(request)?, by }
        }
        User::Rotate => Order::RotateUser { email, revision: revision(request)?, by },
        User::Itself if method == Method::Delete => Order::RemoveUser { email, revision: revision(request)?, by },
        User::Itself => {
            let revision = revision(request)?;
            Order::PatchUser { email, change: object(&request.body)?, revision, by }
        }
    })
}

fn sessions(request: &Request) -> Result<SessionQuery, Reply> {
    let parameter = |name: &str| request.head.parameter(name).map(str::to_owned);
    let limit = lists::limit(&request.head, PAGE_DEFAULT, PAGE_MAX)?;
    let source = source(parameter("source").as_deref())?;
    Ok(SessionQuery { after: parameter("after"), user: parameter("user"), source, target: parameter("target"), limit })
}

fn cut(request: &Request) -> Result<CutQuery, Reply> {
    let parameter = |name: &str| request.head.parameter(name);
    match (parameter("user"), source(parameter("source"))?) {
        (Some(user), None) => Ok(CutQuery::User(user.to_owned())),
        (None, Some(source)) => Ok(CutQuery::Source(source)),
        _ => Err(bad_request("say whose sessions to cut: ?user=EMAIL or ?source=ADDRESS")),
    }
}

fn source(text: Option<&str>) -> Result<Option<std::net::IpAddr>, Reply> {
    text.map(str::parse).transpose().map_err(|_| bad_request("source is an IP address"))
}

/// The revision of the list that the client has seen: without it two changes at once could undo each other. `None`: the
/// client says that it does not care (RFC 9110 13.1.1).
fn revision(request: &Request) -> Result<Option<u64>, Reply> {
    let Some(tag) = &request.head.if_match else {
        let message = "a change needs the field If-Match with the ETag of /api/users";
        return Err(Reply::error(428, "if_match_needed", message));
    };
    if tag.trim() == "*" {
        return Ok(None);
    }
    let tag = tag.trim().trim_start_matches("W/").trim_matches('"');
    // What follows the revision of the list is about the figures in it, which no change goes by.
    let revision = tag.split_once('-').map_or(tag, |(revision, _)| revision);
    revision.parse().map(Some).map_err(|_| bad_request("If-Match must be the ETag of /api/users, or *"))
}

/// What counts as used from now on; nothing unless the body says otherwise.
fn used_bytes(body: &[u8]) -> Result<u64, Reply> {
    if body.is_empty() {
        return Ok(0);
    }
    match object(body)?.get("used_bytes") {
        None => Ok(0),
        Some(bytes) => bytes.as_u64().ok_or_else(|| bad_request("used_bytes is a whole number")),
    }
}

fn object(body: &[u8]) -> Result<Value, Reply> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(bad_request("the body must be a JSON object")),
        Err(error) => Err(bad_request(&format!("the body is not JSON: {error}"))),
    }
}

/// The answer to what came of an order.
pub fn finished(result: Result<Done, Denied>) -> Reply {
    match result {
        Ok(Done::Sessions(page)) => Reply::json(200, &page),
        Ok(Done::Cut { sessions, took, others_told }) => {
            let mut body = json!({ "cut": sessions, "took_ms": took.as_millis() as u64 });
            if let Some(told) = others_told {
                body["other_nodes_told"] = told.into();
            }
            Reply::json(200, &body)
        }
        Ok(Done::Json { status: 204, revision, .. }) => tagged(Reply::empty(204), revision),
        Ok(Done::Json { status, body, revision }) => tagged(Reply::json(status, &body), revision),
        Ok(Done::Svg(image)) => Reply::new(200, "image/svg+xml", image.into_bytes()),
        Err(denied) => {
            let mut body = json!({ "error": { "code": denied.code, "message": denied.message } });
            if let (Some(Value::Object(beside)), Value::Object(body)) = (denied.beside, &mut body) {
                body.extend(beside);
            }
            Reply::json(denied.status, &body)
        }
    }
}

fn tagged(reply: Reply, revision: Option<u64>) -> Reply {
    match revision {
        Some(revision) => reply.with("ETag", tag(revision)),
        None => reply,
    }
}

/// The field `ETag` of what a change came to: the revision of the list, by which the next change may be made.
fn tag(revision: u64) -> String {
    format!("\"{revision}\"")
}
