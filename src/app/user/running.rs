//! Accounts of a running server, through its Unix socket.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::accounts::change::Change;
use crate::app::config::Config;
use crate::app::exit::{self, Failure};
use crate::app::socket_client::{Question, connect, encoded, put};

/// A node of a cluster whose list is being replaced refuses a change. It is tried again for so long, after pauses.
const INSISTENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// A server that answers on its socket.
pub(super) struct Running {
    socket: PathBuf,
}

struct Answer {
    status: u16,
    body: Value,
}

impl Running {
    /// The server of this configuration; `None` where none runs.
    ///
    /// # Errors
    /// 77 when one runs and this user may not use its socket.
    pub(super) fn find(config: &Config) -> Result<Option<Self>, Failure> {
        let Some(socket) = config.monitoring.socket.clone().filter(|_| config.monitoring.enabled) else {
            return Ok(None);
        };
        match connect(&socket) {
            Ok(_) => Ok(Some(Self { socket })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(Failure::reading(&socket, &error)),
        }
    }

    pub(super) fn users(&self) -> Result<Vec<Value>, Failure> {
        let mut list = self.get()?;
        Ok(list["users"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The account as it is afterwards; null if it is gone.
    pub(super) fn change(&self, change: &Change) -> Result<Value, Failure> {
        let (method, path, body) = match change {
            Change::Add(user) => ("POST", "/api/users".to_owned(), Some(user)),
            Change::Set { email, patch } => ("PATCH", of(email), Some(patch)),
            Change::Rotate { email } => ("POST", of(email) + "/rotate", None),
            Change::Remove { email } => ("DELETE", of(email), None),
        };
        self.insist(method, &path, body)
    }

    /// What was used counts from `used_bytes`.
    pub(super) fn reset(&self, email: &str, used_bytes: u64) -> Result<(), Failure> {
        self.insist("POST", &(of(email) + "/reset"), Some(&json!({ "used_bytes": used_bytes }))).map(drop)
    }

    fn get(&self) -> Result<Value, Failure> {
        let answer = self.ask("GET", "/api/users", false, None)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(refused(&answer)) }
    }

    /// A command says what it wants of which account, so nothing that others change meanwhile is undone.
    fn insist(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let deadline = Instant::now() + INSISTENCE;
        loop {
            let answer = self.ask(method, path, true, body)?;
            match answer.status {
                200..=299 => return Ok(answer.body),
                412 if Instant::now() < deadline => thread::sleep(PAUSE),
                _ => return Err(refused(&answer)),
            }
        }
    }

    fn ask(&self, method: &str, path: &str, is_change: bool, body: Option<&Value>) -> Result<Answer, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = put(&self.socket, &Question { method, target: path, is_change, body: &body })?;
        Ok(Answer { status: answer.status, body: serde_json::from_str(&answer.body).unwrap_or_default() })
    }
}

fn refused(answer: &Answer) -> Failure {
    let message = answer.body["error"]["message"].as_str().unwrap_or("the server refused without a word");
    let code = if answer.status >= 500 { exit::UNAVAILABLE } else { exit::USAGE };
    Failure::new(code, message)
}

/// The path of an account; its name may hold anything.
fn of(email: &str) -> String {
    format!("/api/users/{}", encoded(email))
}
