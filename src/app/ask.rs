//! What can be asked of a running server: status, connections, who is online, nodes, cut, reload, upgrade.
//!
//! Owns the requests, and what is said about an answer that is a refusal. `words` says the rest.

mod words;

use serde_json::Value;

use crate::app::config::Config;
use crate::app::exit::{self, Failure};
use crate::app::socket_client::{self, encoded};

/// A question, or an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Status,
    Connections {
        filters: Vec<(&'static str, String)>,
    },
    /// Who is online on all nodes of the cluster; `None`: everybody.
    Online {
        user: Option<String>,
    },
    /// The nodes of the cluster.
    Nodes,
    /// This one is gone for good, and should not be listed any more.
    ForgetNode(String),
    Cut(Cut),
    Reload,
    /// The same on all nodes of the cluster.
    ReloadAll,
    Upgrade,
}

/// Which sessions end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    Id(String),
    User(String),
    Source(String),
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// For people.
    Words,
    /// As the server said it.
    Json,
}

impl Ask {
    /// A reload of this node, or of all.
    pub fn reload(all_nodes: bool) -> Self {
        if all_nodes { Self::ReloadAll } else { Self::Reload }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Status | Self::Connections { .. } | Self::Online { .. } | Self::Nodes => "GET",
            Self::Cut(_) | Self::ForgetNode(_) => "DELETE",
            Self::Reload | Self::ReloadAll | Self::Upgrade => "POST",
        }
    }

    fn target(&self) -> String {
        match self {
            Self::Status => "/api/stats".to_owned(),
            Self::Reload => "/api/reload".to_owned(),
            Self::ReloadAll => "/api/reload?nodes=all".to_owned(),
            Self::Online { user: None } => "/api/online".to_owned(),
            Self::Online { user: Some(user) } => format!("/api/online?user={}", encoded(user)),
            Self::Nodes => "/api/nodes".to_owned(),
            Self::ForgetNode(node) => format!("/api/nodes/{}", encoded(node)),
            Self::Upgrade => "/api/upgrade".to_owned(),
            Self::Connections { filters } => {
                let pairs: Vec<_> = filters.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
                format!("/api/connections?{}", pairs.join("&")).trim_end_matches('?').to_owned()
            }
            Self::Cut(Cut::Id(id)) => format!("/api/connections/{}", encoded(id)),
            Self::Cut(Cut::User(user)) => format!("/api/connections?user={}", encoded(user)),
            Self::Cut(Cut::Source(source)) => format!("/api/connections?source={}", encoded(source)),
        }
    }

    fn words(&self, answer: &Value) -> String {
        match self {
            Self::Status => words::status(answer),
            Self::Connections { .. } => words::connections(answer),
            Self::Online { .. } => words::online(answer),
            Self::Nodes => words::cluster(answer).trim_start().to_owned(),
            Self::ForgetNode(_) => words::forgotten(answer),
            Self::Cut(_) => words::cut(answer),
            Self::Reload | Self::ReloadAll => words::reload(answer),
            Self::Upgrade => words::upgrade(answer),
        }
    }
}

/// Asks the server of `config`; what to print, with its final line break.
///
/// # Errors
/// 69 and 77 as [`socket_client::ask`]; 78 for a reload of a wrong configuration; 64 for what the server does not know.
pub fn ask(config: &Config, ask: &Ask, shape: Shape) -> Result<String, Failure> {
    let answer = socket_client::ask(config, ask.method(), &ask.target())?;
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status >= 400 {
        let code = match answer.status {
            400 | 404 => exit::USAGE,
            401 | 403 => exit::NO_PERMISSION,
            422 => exit::CONFIG,
            _ => exit::UNAVAILABLE,
        };
        let said = value["error"]["message"].as_str().or(value["error"].as_str());
        let said = said.map_or_else(|| format!("the server answered with status {}", answer.status), ToOwned::to_owned);
        return Err(Failure::new(code, said));
    }
    Ok(match shape {
        Shape::Json => answer.body.trim_end().to_owned() + "\n",
        Shape::Words if matches!(ask, Ask::Status) => ask.words(&value) + &cluster(config)?,
        Shape::Words => ask.words(&value),
    })
}

/// How the cluster stands, where this server is one of its nodes.
fn cluster(config: &Config) -> Result<String, Failure> {
    if config.cluster.url.is_none() {
        return Ok(String::new());
    }
    let answer = socket_client::ask(config, "GET", "/api/nodes")?;
    // A server that was started before the key was written is alone.
    Ok(if answer.status == 200 {
        words::cluster(&serde_json::from_str(&answer.body).unwrap_or_default())
    } else {
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What `what` makes of an answer, and what the server was asked.
    fn asked(what: &Ask, shape: Shape, status: u16, body: &'static str) -> (Result<String, Failure>, String) {
        let folder = tempfile::tempdir().unwrap();
        let text = "{ \"users\": [ { \"uuid\": \"a\", \"flow\": \"\" } ] }";
        let config = Config::parse(text, &folder.path().join("config.json")).unwrap();
        let listener = UnixListener::bind(folder.path().join("vless-rust.sock")).unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
        });
        (ask(&config, what, shape), server.join().unwrap())
    }

    #[test]
    fn each_question_has_its_request() {
        let filters = vec![("user", "a@b".to_owned()), ("limit", "5".to_owned())];
        for (what, line) in [
            (Ask::Status, "GET /api/stats HTTP/1.1"),
            (Ask::Connections { filters }, "GET /api/connections?user=a%40b&limit=5 HTTP/1.1"),
            (Ask::Connections { filters: Vec::new() }, "GET /api/connections HTTP/1.1"),
            (Ask::Cut(Cut::Id("1-2-3".into())), "DELETE /api/connections/1-2-3 HTTP/1.1"),
            (Ask::Cut(Cut::User("a b".into())), "DELETE /api/connections?user=a%20b HTTP/1.1"),
            (Ask::Cut(Cut::Source("::1".into())), "DELETE /api/connections?source=%3A%3A1 HTTP/1.1"),
            (Ask::Reload, "POST /api/reload HTTP/1.1"),
            (Ask::ReloadAll, "POST /api/reload?nodes=all HTTP/1.1"),
            (Ask::Online { user: None }, "GET /api/online HTTP/1.1"),
            (Ask::Online { user: Some("a b".into()) }, "GET /api/online?user=a%20b HTTP/1.1"),
            (Ask::Nodes, "GET /api/nodes HTTP/1.1"),
            (Ask::ForgetNode("a b".into()), "DELETE /api/nodes/a%20b HTTP/1.1"),
            (Ask::Upgrade, "POST /api/upgrade HTTP/1.1"),
        ] {
            let (answer, request) = asked(&what, Shape::Json, 200, "{}");
            assert_eq!((answer.unwrap().as_str(), request.as_str()), ("{}\n", line));
        }
    }

    #[test]
    fn refusals_have_their_words_and_codes() {
        let body = "{\"error\":{\"code\":\"bad\",\"message\":\"config.json:3:5: no\"}}";
        for (status, code) in
            [(404, exit::USAGE), (403, exit::NO_PERMISSION), (422, exit::CONFIG), (503, exit::UNAVAILABLE)]
        {
            let failure = asked(&Ask::Reload, Shape::Words, status, body).0.unwrap_err();
            assert_eq!((failure.code, failure.message.as_str()), (code, "config.json:3:5: no"));
        }
    }

    #[test]
    fn answers_are_said_in_words() {
        let (answer, _) = asked(&Ask::Cut(Cut::User("a".into())), Shape::Words, 200, "{\"cut\":3,\"took_ms\":12}");
        assert_eq!(answer.unwrap(), "3 sessions were cut\n");
        let body = "{\"ok\":true,\"changes\":[\"users +1 -0\"],\"needs_restart\":[\"server.workers\"]}";
        let (answer, _) = asked(&Ask::Reload, Shape::Words, 200, body);
        assert_eq!(answer.unwrap(), "reloaded: users +1 -0\nneeds a restart: server.workers\n");
    }
}
