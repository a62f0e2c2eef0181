//! The paths: what each is, which methods it knows, and who may use them.

use crate::control::guard::Exposure;
use crate::control::http::head::Method;

/// A place that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// A file of the page; the empty name is the page itself.
    Asset(&'a [String]),
    Health,
    Ready,
    Metrics,
    Feed,
    Session,
    Login,
    Logout,
    Overview,
    UserStats,
    SpeedHistory,
    Config,
    Performance,
    ConnectionPool,
    MemoryPool,
    Connections,
    Connection(&'a str),
    History,
    Events,
    Users,
    User(&'a str, User),
    Reload,
    /// The nodes of the cluster.
    Nodes,
    Node(&'a str),
    /// Who is online on all of them.
    Online,
    Upgrade,
}

/// What is wanted of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Itself,
    Reset,
    Rotate,
    Link,
    QrCode,
}

/// What a client needs to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    View,
    /// Sees secrets.
    Admin,
    /// Changes something.
    Change,
}

/// The place at this path. None has an empty name: behind a slash at the end, or between two of them, there is nothing.
pub fn find(segments: &[String]) -> Option<Route<'_>> {
    if segments.len() > 1 && segments.iter().any(String::is_empty) {
        return None;
    }
    if let [first, rest @ ..] = segments
        && first == "static"
        && !rest.is_empty()
    {
        return Some(Route::Asset(rest));
    }
    let path: [&str; 5] = std::array::from_fn(|at| segments.get(at).map_or("", String::as_str));
    let route = match (segments.len(), path) {
        (1, ["" | "index.html", ..]) => Route::Asset(&[]),
        (1, ["healthz", ..]) => Route::Health,
        (1, ["readyz", ..]) => Route::Ready,
        (1, ["metrics", ..]) => Route::Metrics,
        (1, ["ws", ..]) | (2, ["api", "ws", ..]) => Route::Feed,
        (2, ["api", name, ..]) => api(name)?,
        (3, ["api", "connections", id, ..]) => Route::Connection(id),
        (3, ["api", "nodes", name, ..]) => Route::Node(name),
        (3, ["api", "users", email, ..]) => Route::User(email, User::Itself),
        (4, ["api", "users", email, what, _]) => Route::User(email, action(what)?),
        _ => return None,
    };
    Some(route)
}

fn api(name: &str) -> Option<Route<'static>> {
    Some(match name {
        "session" => Route::Session,
        "login" => Route::Login,
        "logout" => Route::Logout,
        "stats" => Route::Overview,
        "user-stats" => Route::UserStats,
        "speed-history" => Route::SpeedHistory,
        "config" => Route::Config,
        "performance" => Route::Performance,
        "connection-pool-stats" => Route::ConnectionPool,
        "memory-pool-stats" => Route::MemoryPool,
        "connections" => Route::Connections,
        "history" => Route::History,
        "events" => Route::Events,
        "users" => Route::Users,
        "reload" => Route::Reload,
        "nodes" => Route::Nodes,
        "online" => Route::Online,
        "upgrade" => Route::Upgrade,
        _ => return None,
    })
}

fn action(name: &str) -> Option<User> {
    Some(match name {
        "reset" => User::Reset,
        "rotate" => User::Rotate,
        "link" => User::Link,
        "qr.svg" => User::QrCode,
        _ => return None,
    })
}

impl Route<'_> {
    /// Besides OPTIONS, and HEAD wherever there is GET.
    pub fn methods(&self) -> &'static [Method] {
        use Method::{Delete, Get, Patch, Post};
        match self {
            Self::Login | Self::Logout | Self::Reload | Self::Upgrade | Self::User(_, User::Reset | User::Rotate) => {
                &[Post]
            }
            Self::Connections => &[Get, Delete],
            Self::Connection(_) | Self::Node(_) => &[Delete],
            Self::Users => &[Get, Post],
            Self::User(_, User::Itself) => &[Patch, Delete],
            _ => &[Get],
        }
    }

    pub fn exposure(&self) -> Exposure {
        match self {
            Self::Health | Self::Ready => Exposure::Probe,
            Self::Asset(_) => Exposure::Page,
            _ => Exposure::Figures,
        }
    }

    pub fn need(&self, method: Method) -> Need {
        match self {
            Self::Asset(_) | Self::Health | Self::Ready | Self::Session | Self::Login | Self::Logout => Need::Nothing,
            Self::User(_, User::Link | User::QrCode) => Need::Admin,
            _ if method == Method::Get => Need::View,
            _ => Need::Change,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<String> {
        let segments: Vec<_> = path.split('/').map(str::to_owned).collect();
        find(&segments).map(|route| format!("{route:?}"))
    }

    #[test]
    fn paths_lead_to_places() {
        assert_eq!(found("").unwrap(), "Asset([])");
        assert_eq!(found("static/js/app.js").unwrap(), "Asset([\"js\", \"app.js\"])");
        assert_eq!(found("api/stats").unwrap(), "Overview");
        assert_eq!(found("api/users/ann").unwrap(), "User(\"ann\", Itself)");
        assert_eq!(found("api/users/ann/qr.svg").unwrap(), "User(\"ann\", QrCode)");
        for nothing in ["api", "static", "api/users/a/b/c", "metrics/x", "api/users/ann/x", "x"] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
        for empty in [
            "/",
            "api/",
            "api/stats/",
            "/api/stats",
            "api//stats",
            "api/users/",
            "api/users//link",
            "api/users/ann/",
            "api/connections/",
            "healthz/",
            "static/",
            "static//app.js",
            "static/js/",
        ] {
            assert_eq!(found(empty), None, "{empty}");
        }
    }

    #[test]
    fn whatever_changes_something_needs_the_right_to() {
        let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        for path in [
            "api/connections",
            "api/connections/1",
            "api/nodes/n1",
            "api/users",
            "api/users/a",
            "api/users/a/reset",
            "api/reload",
            "api/upgrade",
        ] {
            let path = segments(path);
            let route = find(&path).unwrap();
            for method in route.methods() {
                let expected = if *method == Method::Get { Need::View } else { Need::Change };
                assert_eq!(route.need(*method), expected, "{route:?} {method:?}");
            }
        }
    }
}
