//! The engine as the cluster's thread sees it: calls and scripts, each answered or failed in time.
//!
//! The connection is given up with the first failure that is not the engine's own answer, because nobody knows then whose
//! answer comes next. Errors are words without secrets.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "cluster")]
use redis::{Parser, Value};

use super::reply::Reply;
#[cfg(feature = "cluster")]
use super::reply::plain;
use super::stream::Stream;
use crate::app::config::{EnginePlace, EngineUrl};
use crate::cluster::script::Script;

/// How long an answer may take. The longest script takes some milliseconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A thousand accounts have half of a mebibyte.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where the engine is, and how to get in.
#[derive(Clone, Debug)]
pub struct Access {
    pub url: EngineUrl,
    /// The only authority that may vouch for the engine; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
}

impl Access {
    /// Whether somebody on the way to the engine, or to those who know where it is, could read along.
    pub fn is_readable(&self) -> bool {
        let is_elsewhere =
            |host: &String| host != "localhost" && !host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        match &self.url.place {
            EnginePlace::Tcp { host, tls: false, .. } => is_elsewhere(host),
            EnginePlace::Sentinels { sentinels, tls: false, .. } => {
                sentinels.iter().any(|(host, _)| is_elsewhere(host))
            }
            EnginePlace::Tcp { .. } | EnginePlace::Sentinels { .. } | EnginePlace::Unix(_) => false,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum EngineError {
    /// The connection is gone, or has to be given up.
    Lost(io::Error),
    /// The engine said no.
    Refused(String),
    /// What came is not what was asked for.
    Nonsense,
    /// More came than any cluster has.
    Endless,
}

/// A connection on which we have logged in.
pub struct Engine {
    stream: Stream,
    answers: Answers,
    /// What the engine calls the scripts that it was given, by our name.
    scripts: HashMap<&'static str, String>,
}

impl Engine {
    /// Connects and logs in; where sentinels know the engine, to the one that the first to answer calls the primary.
    ///
    /// # Errors
    /// When either fails.
    pub fn connect(access: &Access) -> Result<Self, EngineError> {
        let EnginePlace::Sentinels { sentinels, primary, tls } = &access.url.place else {
            return Self::log_in_at(access, &access.url.place);
        };
        let mut last = EngineError::Nonsense;
        for (host, port) in sentinels {
            let sentinel = EnginePlace::Tcp { host: host.clone(), port: *port, tls: *tls };
            match Self::primary(access, &sentinel, primary) {
                Ok((host, port)) => return Self::log_in_at(access, &EnginePlace::Tcp { host, port, tls: *tls }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn log_in_at(access: &Access, place: &EnginePlace) -> Result<Self, EngineError> {
        let mut engine = Self::at(access, place)?;
        engine.log_in(access)?;
        let database = access.url.database;
        if database > 0 {
            engine.call(&["SELECT", &database.to_string()])?;
        }
        Ok(engine)
    }

    fn at(access: &Access, place: &EnginePlace) -> Result<Self, EngineError> {
        let stream = Stream::connect(place, access.ca_file.as_deref())?;
        Ok(Self { stream, answers: Answers::default(), scripts: HashMap::new() })
    }

    fn log_in(&mut self, access: &Access) -> Result<Reply, EngineError> {
        match (&access.url.user, &access.url.password) {
            (Some(user), Some(password)) => self.call(&["AUTH", user, password.reveal()]),
            (None, Some(password)) => self.call(&["AUTH", password.reveal()]),
            (_, None) => self.call(&["PING"]),
        }
    }

    /// Where `sentinel` says that the engine called `primary` is.
    fn primary(access: &Access, sentinel: &EnginePlace, primary: &str) -> Result<(String, u16), EngineError> {
        let mut sentinel = Self::at(access, sentinel)?;
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", primary];
        let answer = match sentinel.call(&question) {
            // Sentinels that want a login have that of the engine.
            Err(EngineError::Refused(words)) if words.starts_with("NOAUTH") => {
                sentinel.log_in(access)?;
                sentinel.call(&question)
            }
            answer => answer,
        }?;
        let [host, port] = answer.list() else {
            return Err(EngineError::Refused(format!("a sentinel knows of no \"{primary}\"")));
        };
        let port = port.text().and_then(|text| text.parse().ok());
        host.text().zip(port).ok_or(EngineError::Nonsense)
    }

    /// One call and its answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn call<T: AsRef<str>>(&mut self, words: &[T]) -> Result<Reply, EngineError> {
        self.call_waiting(words, Duration::ZERO)
    }

    /// As [`Engine::call`], where the engine may take `waits` longer on purpose.
    ///
    /// # Errors
    /// As [`Engine::call`].
    pub fn call_waiting<T: AsRef<str>>(&mut self, words: &[T], waits: Duration) -> Result<Reply, EngineError> {
        self.stream.allow(CALL_TIMEOUT + waits, ANSWER_BYTES_MAX);
        self.send(&[words])?;
        self.receive()
    }

    /// Several calls at once, and their answers in the same order.
    ///
    /// # Errors
    /// When one fails, after all others were answered.
    pub fn call_all<T: AsRef<str>>(&mut self, calls: &[Vec<T>]) -> Result<Vec<Reply>, EngineError> {
        self.stream.allow(CALL_TIMEOUT, ANSWER_BYTES_MAX);
        let calls: Vec<_> = calls.iter().map(Vec::as_slice).collect();
        self.send(&calls)?;
        let answers: Vec<_> = calls.iter().map(|_| self.receive()).collect();
        answers.into_iter().collect()
    }

    /// Runs `script`, which the engine is given first if it does not know it.
    ///
    /// # Errors
    /// As [`Engine::call`].
    pub fn run(&mut self, script: &Script, keys: &[String], arguments: &[String]) -> Result<Reply, EngineError> {
        for attempt in 0.. {
            let name = match self.scripts.get(script.name) {
                Some(name) => name.clone(),
                None => self.load(script)?,
            };
            let mut words = vec!["EVALSHA".to_owned(), name, keys.len().to_string()];
            words.extend(keys.iter().chain(arguments).cloned());
            match self.call(&words) {
                // The engine was restarted, or somebody has emptied its store of scripts.
                Err(EngineError::Refused(message)) if message.starts_with("NOSCRIPT") && attempt == 0 => {
                    self.scripts.remove(script.name);
                }
                answer => return answer,
            }
        }
        Err(EngineError::Nonsense)
    }

    fn load(&mut self, script: &Script) -> Result<String, EngineError> {
        let name = self.call(&["SCRIPT", "LOAD", script.text])?.text().ok_or(EngineError::Nonsense)?;
        self.scripts.insert(script.name, name.clone());
        Ok(name)
    }

    fn send<T: AsRef<str>>(&mut self, calls: &[&[T]]) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        for words in calls {
            // Writing to memory does not fail.
            let _ = write!(bytes, "*{}\r\n", words.len());
            for word in *words {
                let _ = write!(bytes, "${}\r\n{}\r\n", word.as_ref().len(), word.as_ref());
            }
        }
        self.stream.write_all(&bytes)?;
        Ok(self.stream.flush()?)
    }

    fn receive(&mut self) -> Result<Reply, EngineError> {
        self.answers.next(&mut self.stream)
    }
}

/// What an engine says, answer by answer, with what was read ahead.
#[derive(Default)]
pub struct Answers {
    #[cfg(feature = "cluster")]
    parser: Parser,
}

impl Answers {
    /// The next answer in `stream`.
    ///
    /// # Errors
    /// When there is none, or another than we ever ask for.
    #[cfg(feature = "cluster")]
    pub fn next(&mut self, stream: &mut impl Read) -> Result<Reply, EngineError> {
        let value = self.parser.parse_value(stream);
        let value = value.map_err(|error| EngineError::Lost(io::Error::other(error.to_string())))?;
        reply(value)
    }

    /// As with the cluster: a build without it reads nothing.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "cluster"))]
    pub fn next(&mut self, _: &mut impl Read) -> Result<Reply, EngineError> {
        Err(EngineError::Lost(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(feature = "cluster")]
fn reply(value: Value) -> Result<Reply, EngineError> {
    Ok(match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Number(number),
        Value::BulkString(bytes) => Reply::Text(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) => Reply::Text(text),
        Value::Okay => Reply::Text("OK".to_owned()),
        Value::Array(values) => Reply::List(values.into_iter().map(reply).collect::<Result<_, _>>()?),
        Value::ServerError(error) => {
            let detail = error.details().unwrap_or_default();
            // What an engine does not know it repeats, with the arguments.
            let detail = detail.split(", with args").next().unwrap_or_default();
            return Err(EngineError::Refused(plain(format!("{} {detail}", error.code()).trim())));
        }
        _ => return Err(EngineError::Nonsense),
    })
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => error.fmt(f),
            Self::Refused(message) => write!(f, "the engine refuses: {message}"),
            Self::Nonsense => f.write_str("the engine answers something that was not asked"),
            Self::Endless => f.write_str("the engine's list of accounts has no end"),
        }
    }
}
