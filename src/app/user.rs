//! The `user` command: accounts are listed and changed, through the running server if there is one, else in the file.
//!
//! Both ways end in the same operations (`accounts/change.rs`), so they accept the same and refuse the same.

mod importing;
mod running;
pub mod wishes;
mod words;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::importing::imported;
use self::running::Running;
use crate::app::accounts::change::Change;
use crate::app::accounts::store::{self, StoreError};
use crate::app::accounts::used;
use crate::app::clock::unix_time;
use crate::app::cluster::offline::with_list_on_disk;
use crate::app::config::{Config, Origin, User, user_json};
use crate::app::exit::{self, Failure};
use crate::app::socket_client::config_to_ask;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// All accounts, one a line.
    List,
    /// One account, with its id.
    Show(String),
    /// A new account, with options and their texts.
    Add(String, Vec<(String, String)>),
    /// Some values of an account.
    Set(String, Vec<(String, String)>),
    /// On or off.
    Enable(String, bool),
    /// What counts as used is 0 from now on.
    Reset(String),
    /// A new id.
    Rotate(String),
    /// It is gone.
    Remove(String),
    /// All accounts of another panel's export; with a dry run only what would be done.
    Import(PathBuf, bool),
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// For people.
    Words,
    /// For programs.
    Json,
}

/// What the command has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// With its final line break.
    pub stdout: String,
    /// A line each.
    pub notes: Vec<String>,
}

impl Action {
    fn changes(&self) -> bool {
        !matches!(self, Self::List | Self::Show(_))
    }

    /// The account that it is about.
    fn email(&self) -> Option<&str> {
        match self {
            Self::List | Self::Import(..) => None,
            Self::Show(email)
            | Self::Add(email, _)
            | Self::Set(email, _)
            | Self::Enable(email, _)
            | Self::Reset(email)
            | Self::Rotate(email)
            | Self::Remove(email) => Some(email),
        }
    }
}

/// # Errors
/// 64 for what cannot be done to this account, 69 if the server does not answer, those of the files otherwise.
pub fn execute(path: &Path, action: &Action, shape: Shape) -> Result<Said, Failure> {
    let config = config_to_ask(path)?;
    let (place, mut notes) = match Running::find(&config)? {
        Some(running) => (Place::Server(running), Vec::new()),
        None => without_server(config.clone(), action)?,
    };
    let stdout = match action {
        Action::List => place.list(shape)?,
        Action::Show(email) => shown(&place.user(email)?, shape),
        Action::Add(email, given) => {
            let mut user = wished(given)?;
            user["email"] = email.as_str().into();
            shown(&place.change(&Change::Add(user))?, shape)
        }
        Action::Set(email, given) => {
            let patch = wished(given)?;
            shown(&place.change(&Change::Set { email: email.clone(), patch })?, shape)
        }
        Action::Enable(email, enabled) => {
            let change = Change::Set { email: email.clone(), patch: json!({ "enabled": enabled }) };
            shown(&place.change(&change)?, shape)
        }
        Action::Rotate(email) => shown(&place.change(&Change::Rotate { email: email.clone() })?, shape),
        Action::Remove(email) => {
            place.change(&Change::Remove { email: email.clone() })?;
            said(&format!("user {email} removed"), shape)
        }
        Action::Reset(email) => {
            place.reset(email, 0)?;
            said(&format!("user {email}: what was used counts from 0 again"), shape)
        }
        Action::Import(file, is_dry) => return imported(&place, &config, (file, *is_dry), shape),
    };
    if let (Place::File(config), true) = (&place, action.changes()) {
        notes.push(not_running(config));
    }
    Ok(Said { stdout, notes })
}

/// Who makes the change.
enum Place {
    Server(Running),
    File(Box<Config>),
}

/// The files, and what to say about them. Accounts of the cluster can be seen there and not changed: the engine has them.
fn without_server(config: Config, action: &Action) -> Result<(Place, Vec<String>), Failure> {
    let (with_cluster, mut notes) = with_list_on_disk(config.clone())?;
    if !action.changes() {
        return Ok((Place::File(Box::new(with_cluster)), notes));
    }
    let is_meant = |user: &&User| user.origin == Origin::Cluster && Some(user.email.as_str()) == action.email();
    if let Some(user) = with_cluster.users.iter().find(is_meant) {
        let message = format!(
            "{} is an account of the cluster, which only a running node changes: start this one, or \
                               ask another",
            user.email
        );
        return Err(Failure::new(exit::UNAVAILABLE, message));
    }
    notes.clear();
    if config.cluster.url.is_some() {
        notes.push(
            "accounts that are made without a running server are this node's own, and not the cluster's".to_owned(),
        );
    }
    Ok((Place::File(Box::new(config)), notes))
}

impl Place {
    fn list(&self, shape: Shape) -> Result<String, Failure> {
        let users = match self {
            Self::Server(running) => running.users()?,
            Self::File(config) => config.users.iter().map(described).collect(),
        };
        Ok(match shape {
            Shape::Json => format!("{:#}\n", Value::from(users)),
            Shape::Words => words::list(&users),
        })
    }

    /// Of all accounts.
    fn names(&self) -> Result<HashSet<String>, Failure> {
        let name = |user: &Value| user["email"].as_str().unwrap_or_default().to_owned();
        Ok(match self {
            Self::Server(running) => running.users()?.iter().map(name).collect(),
            Self::File(config) => config.users.iter().map(|user| user.email.clone()).collect(),
        })
    }

    fn user(&self, email: &str) -> Result<Value, Failure> {
        let found = match self {
            Self::Server(running) => running.users()?.into_iter().find(|user| user["email"] == email),
            Self::File(config) => config.users.iter().find(|user| user.email == email).map(described),
        };
        found.ok_or_else(|| nobody(email))
    }

    /// The account as it is afterwards; null if it is gone.
    fn change(&self, change: &Change) -> Result<Value, Failure> {
        match self {
            Self::Server(running) => running.change(change),
            Self::File(config) => {
                let changed = store::make(config, change, None, unix_time()).map_err(|error| match error {
                    StoreError::Refused(refusal) => Failure::new(exit::USAGE, refusal.message(config)),
                    StoreError::Failed(failure) => failure,
                })?;
                if let (Some(old), Some(user)) = (changed.old_id, &changed.user)
                    && keeps_used(config)
                {
                    used::carry_over(config, old, user.id)?;
                }
                Ok(changed.user.as_ref().map_or(Value::Null, described))
            }
        }
    }

    /// What was used counts from `used_bytes`.
    fn reset(&self, email: &str, used_bytes: u64) -> Result<(), Failure> {
        match self {
            Self::Server(running) => running.reset(email, used_bytes),
            Self::File(config) if keeps_used(config) => {
                // The account may have been added a moment ago.
                let config = Config::load(&config.file)?;
                let user = config.users.iter().find(|user| user.email == email).ok_or_else(|| nobody(email))?;
                used::set(&config, &[(user.id, used_bytes)])
            }
            Self::File(_) => Err(Failure::new(
                exit::UNAVAILABLE,
                "monitoring.socket is null or monitoring.enabled is false, so nobody knows here whether a server runs, which \
                 would write what was used over: name a socket, and restart",
            )),
        }
    }
}

/// That no server answers means that none runs.
fn keeps_used(config: &Config) -> bool {
    config.monitoring.enabled && config.monitoring.socket.is_some()
}

fn nobody(email: &str) -> Failure {
    Failure::new(exit::USAGE, format!("there is no user \"{email}\""))
}

/// Where the change is, for somebody who expects it to have effect at once.
fn not_running(config: &Config) -> String {
    let file = config.users_file.as_deref().unwrap_or(Path::new("")).display();
    match &config.monitoring.socket {
        Some(socket) => format!("no server answers at {}; the change is in {file}", socket.display()),
        None => {
            format!("the change is in {file}; monitoring.socket is null, so a running server has to be reloaded (HUP)")
        }
    }
}

fn described(user: &User) -> Value {
    let mut shown = user_json(user);
    shown["locked"] = (user.origin == Origin::Configuration).into();
    shown["flow"] = user.flow.as_str().into();
    shown
}

fn wished(given: &[(String, String)]) -> Result<Value, Failure> {
    wishes::wishes(given, unix_time()).map_err(|message| Failure::new(exit::USAGE, message))
}

fn shown(user: &Value, shape: Shape) -> String {
    match shape {
        Shape::Json => format!("{user:#}\n"),
        Shape::Words => words::user(user),
    }
}

fn said(text: &str, shape: Shape) -> String {
    match shape {
        Shape::Json => format!("{}\n", json!({ "ok": true, "message": text })),
        Shape::Words => format!("{text}\n"),
    }
}
