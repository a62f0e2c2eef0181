//! The configuration file: read, checked, and turned into settings the program can use as they are.
//!
//! `keys.rs` has every key once, in the form of `section.rs` and with the kinds of `kinds.rs` and `oddities.rs`; from
//! it follow schema, defaults, checks, types and reference (`reference.rs`). `check.rs` has the rules between keys.
//! `text.rs` blanks comments; `locate.rs` finds the line of a complaint and `error.rs` words it; `print.rs` shows the
//! effective configuration. Nothing here opens any file but the configuration, or changes it.

mod check;
mod cluster_users;
mod compare;
mod engine_url;
mod error;
mod keys;
mod kinds;
mod locate;
mod merged;
mod oddities;
mod print;
mod reading;
mod reference;
mod rules;
mod section;
mod settings;
mod text;
mod users_file;
mod values;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use self::cluster_users::cluster_user;
pub use self::compare::ChangedKey;
pub use self::engine_url::{ENGINE_URL_RULE, EnginePlace, EngineUrl};
pub use self::error::{ConfigError, ConfigErrors};
pub(in crate::app) use self::error::{SECRET_BYTES_MIN, did_you_mean};
pub use self::keys::{
    Alert, CertificateFiles, ClusterKeys, ConnectionPool, Dns, Log, Monitoring, Outbound, Performance, ProcessLimits,
    Server, Timeouts, UserLimits,
};
pub use self::merged::{Fallback, Origin, Tls, User};
pub use self::reference::{example, table};
pub use self::settings::{FallbackDest, Flow, LogFormat, Prefer, QuotaPeriod, Receiver, Secret, TlsVersion};
pub use self::users_file::{UsersFile, user_json};

use self::check::Need;
use self::error::shown_name;
use self::keys::{File, RawFile};
use self::reading::Reading;
use crate::app::exit::{self, Failure};
use crate::app::files::{folder_of, read_limited};
use crate::protocol::user_id::mask;

/// The file that is used when none is named.
pub const DEFAULT_FILE: &str = "config.json";

/// No sane configuration is larger; a mistyped path to a disk image is.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// Everything the operator decides. See the types of the fields for ranges and units.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file as it was named.
    pub file: PathBuf,
    /// Listeners and workers.
    pub server: Server,
    /// Those in this file, then those in the users file; no two with the same email, nor with the same id when bytes 6
    /// and 7 are ignored.
    pub users: Vec<User>,
    /// Counts the changes of the users file.
    pub users_revision: u64,
    /// Counts the changes of the cluster's accounts, as far as they are known here.
    pub cluster_version: u64,
    /// Where more of them are.
    pub users_file: Option<PathBuf>,
    /// The flow of users without one of their own; `None` without TLS, where there is none.
    pub flow_with_tls: Option<Flow>,
    /// None = plain VLESS.
    pub tls: Option<Tls>,
    /// In the order of the file.
    pub fallbacks: Vec<Fallback>,
    /// For each source of connections.
    pub limits: ProcessLimits,
    /// The statistics interface.
    pub monitoring: Monitoring,
    /// Sizes and switches of the data path.
    pub performance: Performance,
    /// Spares per target, and the connect timeout.
    pub connection_pool: ConnectionPool,
    /// What clients may reach and how.
    pub outbound: Outbound,
    /// Seconds per phase.
    pub timeouts: Timeouts,
    /// What this node shares with others; without a URL it is alone.
    pub cluster: ClusterKeys,
    /// Where log lines go.
    pub log: Log,
    warnings: Vec<String>,
    /// What the file says after defaults; for `effective_json` alone.
    source: RawFile,
}

impl Config {
    /// Reads and checks the file at `path`, and the users file that it names, if there is one.
    ///
    /// # Errors
    /// 66 if there is no such file, 77 if it may not be read, 78 with every problem found if one of the two is wrong.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        Self::load_with(path, Need::Somebody)
    }

    /// The same for commands about accounts: there may be none yet, or none left.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_without_accounts(path: &Path) -> Result<Self, Failure> {
        Self::load_with(path, Need::Nobody)
    }

    fn load_with(path: &Path, need: Need) -> Result<Self, Failure> {
        let text = read_text(path)?;
        let config =
            Self::parse_with(&text, path, need).map_err(|errors| Failure::new(exit::CONFIG, errors.to_string()))?;
        let users = config.read_users_file()?;
        config.with_users(users)
    }

    /// The contents of the users file; none of it where there is no such file.
    ///
    /// # Errors
    /// 77 if it may not be read, 78 with every problem found if it is wrong.
    pub fn read_users_file(&self) -> Result<UsersFile, Failure> {
        let is_there = |path: &&PathBuf| !matches!(path.try_exists(), Ok(false));
        let Some(path) = self.users_file.as_ref().filter(is_there) else { return Ok(UsersFile::default()) };
        let text = read_text(path)?;
        UsersFile::parse(&text, path, self.flow_with_tls)
            .map_err(|errors| Failure::new(exit::CONFIG, errors.to_string()))
    }

    /// Those of the accounts that are in the users file.
    pub fn of_users_file(&self) -> UsersFile {
        let users = self.users.iter().filter(|user| user.origin == Origin::UsersFile).cloned().collect();
        UsersFile { revision: self.users_revision, users }
    }

    /// The same configuration with these contents of the users file.
    ///
    /// # Errors
    /// 78 if an account is in both files; the message names both places.
    pub fn with_users(mut self, file: UsersFile) -> Result<Self, Failure> {
        let cluster: Vec<_> = self.users.extract_if(.., |user| user.origin == Origin::Cluster).collect();
        self.users.retain(|user| user.origin == Origin::Configuration);
        if let Some((place, clash)) = clashes(&self.users, &file.users).into_iter().next() {
            let theirs = self.users_file.as_deref().unwrap_or(Path::new("")).display();
            let message = format!(
                "{theirs}: users[{place}] ({}) has the same {} as {}; remove one of them",
                shown_name(&file.users[place].email),
                clash.what,
                self.place_of(clash.with)
            );
            return Err(Failure::new(exit::CONFIG, message));
        }
        self.users_revision = file.revision;
        self.users.extend(file.users);
        self.users.extend(cluster);
        Ok(self)
    }

    /// The same configuration with these accounts of the cluster. Those that have the email or id of an account in a
    /// file of this node are left out; each of them is told in words.
    pub fn with_cluster(mut self, version: u64, accounts: &[User]) -> (Self, Vec<String>) {
        self.cluster_version = version;
        self.users.retain(|user| user.origin != Origin::Cluster);
        let clashes = clashes(&self.users, accounts);
        let words = clashes.iter().map(|(place, clash)| self.clash_words(&accounts[*place], *clash)).collect();
        let is_clash = |place: usize| clashes.binary_search_by_key(&place, |(place, _)| *place).is_ok();
        let served = accounts.iter().enumerate().filter(|(place, _)| !is_clash(*place)).map(|(_, user)| user.clone());
        self.users.extend(served);
        (self, words)
    }

    /// Counts the changes of all accounts, wherever they are kept.
    pub fn revision(&self) -> u64 {
        self.users_revision.saturating_add(self.cluster_version)
    }

    /// Why `account` of the cluster cannot be served here; `None` if it can.
    pub fn clash_with_files(&self, account: &User) -> Option<String> {
        let files: Vec<_> = self.users.iter().filter(|user| user.origin != Origin::Cluster).cloned().collect();
        let (_, clash) = clashes(&files, std::slice::from_ref(account)).into_iter().next()?;
        Some(self.clash_words(account, clash))
    }

    fn clash_words(&self, account: &User, clash: Clash) -> String {
        let name = shown_name(&account.email);
        format!("{name} of the cluster has the same {} as {}", clash.what, self.place_of(clash.with))
    }

    /// The account at `place` of the list, in words, such as `users[0] (a@b) of /etc/config.json`.
    pub fn place_of(&self, place: usize) -> String {
        let user = &self.users[place];
        let before = self.users[..place].iter().filter(|other| other.origin == user.origin).count();
        let file = match user.origin {
            Origin::Configuration => self.file.as_path(),
            Origin::UsersFile => self.users_file.as_deref().unwrap_or(Path::new("")),
            Origin::Cluster => return format!("{} of the cluster", user.email),
        };
        format!("users[{before}] ({}) of {}", shown_name(&user.email), file.display())
    }

    /// Checks `text`, the contents of `path`. The path is used for messages and to resolve relative paths only.
    ///
    /// # Errors
    /// All misspelt keys and wrong types; or, if there are none, all values that make no sense. At most 50 at a time.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, path, Need::Somebody)
    }

    /// The same where accounts come from elsewhere: there may be none yet.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse_without_accounts(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, path, Need::Nobody)
    }

    fn parse_with(text: &str, path: &Path, need: Need) -> Result<Self, ConfigErrors> {
        let file = Reading::<File>::new(text, path)?;
        let (config, problems) = check::check(file.raw.clone(), path, need);
        file.refuse(problems)?;
        Ok(config)
    }

    /// What the operator should know although the configuration is usable; a line each, without a final full stop.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The configuration in effect, defaults included, as JSON without secrets: ids are cut to eight characters, the
    /// monitoring token is replaced by stars.
    pub fn effective_json(&self) -> String {
        print::effective_json(&self.source, &self.users)
    }

    /// `path` as it is meant in this file: relative paths begin at the folder of the configuration file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        resolve(&self.file, path)
    }
}

/// An account that is in the way of another.
#[derive(Clone, Copy)]
struct Clash {
    /// The key that both have the same of.
    what: &'static str,
    /// Its place among those that were known before.
    with: usize,
}

/// Which of `accounts`, by place and in order, have the email or the id of one in `known`.
fn clashes(known: &[User], accounts: &[User]) -> Vec<(usize, Clash)> {
    let by_email: HashMap<&str, usize> =
        known.iter().enumerate().map(|(place, user)| (user.email.as_str(), place)).collect();
    let by_id: HashMap<[u8; 16], usize> =
        known.iter().enumerate().map(|(place, user)| (mask(user.id), place)).collect();
    let clash = |user: &User| {
        let of_email = by_email.get(user.email.as_str()).map(|&with| Clash { what: "email", with });
        of_email.or_else(|| by_id.get(&mask(user.id)).map(|&with| Clash { what: "id", with }))
    };
    accounts.iter().enumerate().filter_map(|(place, user)| Some((place, clash(user)?))).collect()
}

/// Whether `text` is a host name or an IP address, without port and brackets.
pub fn is_host(text: &str) -> bool {
    values::host(text).is_ok()
}

/// The text of a file that people write.
fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = read_limited(path, FILE_BYTES_MAX).map_err(|error| Failure::reading(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
        let message = format!("{}:{line}: the file is not UTF-8 text; save it as UTF-8", path.display());
        Failure::new(exit::CONFIG, message)
    })
}

fn resolve(config_file: &Path, path: &Path) -> PathBuf {
    folder_of(config_file).join(path)
}

#[cfg(test)]
mod tests;
