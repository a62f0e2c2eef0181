//! Rules between keys: what each key means alone is in `keys.rs`.
//!
//! Notes every breach instead of stopping at the first. A value that breaks a rule is replaced by something harmless so
//! that the checks after it can go on; the result is thrown away if there is even one problem.

use std::collections::HashMap;
use std::path::Path;

use super::Config;
use super::error::shown_name;
use super::keys::{CertificateFiles, FallbackKeys, File, Monitoring, RawFile, TlsKeys, UserKeys};
use super::merged::{Fallback, Origin, Tls, User};
use super::rules::{Check, Problem};
use super::section::Section;
use super::settings::{FallbackDest, Flow, Secret};
use crate::app::files::with_ending;
use crate::inbound::fallback::PATH_BYTES_MAX;
use crate::outbound::policy::is_public;
use crate::protocol::user_id;

/// Tokens shorter than this are warned about: with 16 letters and digits there is nothing to guess.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// Whom a configuration must have for what is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// At least one account, or a place where there may be some: nobody is served otherwise.
    Somebody,
    /// Accounts are going to be added.
    Nobody,
}

/// The settings that `raw` means, and everything that is wrong with it.
pub(super) fn check(raw: RawFile, path: &Path, need: Need) -> (Config, Vec<Problem>) {
    let mut check = Check::new(path);
    let file = File::check(&raw, "", &mut check);
    let flow_with_tls = file.tls.enabled.then_some(file.tls.xtls_flow);
    check.monitoring(&file.monitoring);
    check.somebody(&file, need);
    let config = Config {
        file: path.to_owned(),
        users: check.users(Origin::Configuration, file.users, flow_with_tls),
        users_revision: 0,
        cluster_version: 0,
        users_file: file.users_file,
        fallbacks: check.fallbacks(file.fallbacks),
        performance: file.performance,
        connection_pool: file.connection_pool,
        outbound: file.outbound,
        timeouts: file.timeouts,
        cluster: file.cluster,
        log: file.log,
        limits: file.limits,
        server: file.server,
        flow_with_tls,
        tls: file.tls.enabled.then(|| tls(file.tls)),
        monitoring: file.monitoring,
        warnings: Vec::new(),
        source: raw,
    };
    check.warn_about_plain(&config);
    check.warn_about_protocols(&config);
    check.warn_about_fallbacks(&config);
    check.warn_about_announcers(&config);
    (Config { warnings: check.warnings, ..config }, check.problems)
}

fn tls(tls: TlsKeys) -> Tls {
    Tls {
        main: CertificateFiles { cert_file: tls.cert_file, key_file: tls.key_file, server_names: Vec::new() },
        more: tls.certificates,
        server_name: tls.server_name,
        alpn: tls.alpn,
        min_version: tls.min_version,
    }
}

impl Check<'_> {
    /// The accounts of a file; `flow_with_tls` is what those get who have none of their own, if there is TLS.
    pub(super) fn users(&mut self, origin: Origin, users: Vec<UserKeys>, flow_with_tls: Option<Flow>) -> Vec<User> {
        let mut known = Vec::with_capacity(users.len());
        let mut by_email = HashMap::new();
        let mut by_id = HashMap::new();
        for (position, user) in users.into_iter().enumerate() {
            let key = |name: &str| format!("users[{position}].{name}");
            let email = user.email.unwrap_or_else(|| format!("user-{}", position + 1));
            if let Some(first) = by_email.insert(email.clone(), position) {
                let shown = shown_name(&email);
                let message = format!("\"{shown}\" is also the email of users[{first}]; each user needs its own");
                self.problem(&key("email"), message);
            }
            // An id that could not be read has been complained about.
            let id = Some(user.uuid).filter(|id| *id != [0; 16]);
            if let Some(other) = id.and_then(|id| by_id.insert(user_id::mask(id), email.clone())) {
                self.problem(
                    &key("uuid"),
                    format!(
                        "{} has the same id as {} (the third group of four digits does not count); \
                         give one of them a new id",
                        shown_name(&email),
                        shown_name(&other)
                    ),
                );
            }
            let flow = user.flow.unwrap_or_else(|| flow_with_tls.unwrap_or(Flow::None));
            if flow.is_vision() && flow_with_tls.is_none() {
                let text = flow.as_str();
                let message = format!("{text} needs TLS: set tls.enabled to true, or this to \"\" for no flow");
                self.problem(&key("flow"), message);
            }
            known.push(User {
                id: user.uuid,
                email,
                flow,
                given_flow: user.flow,
                enabled: user.enabled,
                note: user.note,
                limits: user.limits,
                created_at: user.created_at,
                origin,
            });
        }
        known
    }

    /// A server without a single account is a mistake, unless the accounts are elsewhere.
    fn somebody(&mut self, file: &File, need: Need) {
        // In a folder that may not be searched it is not missing: reading it tells what is wrong.
        let missing = file.users_file.as_ref().filter(|path| matches!(path.try_exists(), Ok(false)));
        let previous = missing.map(|path| with_ending(path, ".previous")).filter(|path| path.exists());
        let has_accounts = !file.users.is_empty() || file.cluster.url.is_some() || need == Need::Nobody;
        match (missing, &file.users_file) {
            (Some(path), _) if has_accounts => {
                let path = path.display();
                let words = previous.map(|previous| {
                    format!("users_file: {path} does not exist, but {} does: are accounts lost?", previous.display())
                });
                self.warnings.extend(words);
            }
            (Some(path), _) => {
                let (path, config) = (path.strip_prefix(".").unwrap_or(path).display(), self.config_file.display());
                let back = previous.map(|previous| format!(" (`cp {} {path}`)", previous.display()));
                let words = format!(
                    "at least one user is needed: the file {path} does not exist, and \"users\" is empty; put the file \
                     back{}, begin a new one with `vless-rust user add NAME -c {config}`, or give users such as \
                     {{ \"uuid\": \"...\", \"email\": \"me@example.com\" }}",
                    back.unwrap_or_default()
                );
                self.problem("users", words);
            }
            (None, None) if !has_accounts => self.problem(
                "users",
                "at least one user is needed, such as { \"uuid\": \"...\", \"email\": \"me@example.com\" }; \
                 `vless-rust init --yes NEW.json` writes a file with one",
            ),
            (None, _) => {}
        }
    }

    fn fallbacks(&mut self, fallbacks: Vec<FallbackKeys>) -> Vec<Fallback> {
        let mut known: Vec<Fallback> = Vec::new();
        for (position, entry) in fallbacks.into_iter().enumerate() {
            let Some(dest) = self.fallback_dest(position, &entry) else { continue };
            let FallbackKeys { name, alpn, path, xver, .. } = entry;
            let fallback = Fallback { name, alpn, path, dest, xver: xver as u8 };
            let same = |other: &Fallback| {
                (&other.name, &other.alpn, &other.path) == (&fallback.name, &fallback.alpn, &fallback.path)
            };
            if known.iter().any(same) {
                self.warnings
                    .push(format!("fallbacks[{position}] replaces an earlier one for the same name, alpn and path"));
                known.retain(|other| !same(other));
            }
            known.push(fallback);
        }
        known
    }

    /// Where an entry leads. What belongs to one kind only is refused at the others, where it would have no effect.
    fn fallback_dest(&mut self, position: usize, entry: &FallbackKeys) -> Option<FallbackDest> {
        let key = |name: &str| format!("fallbacks[{position}].{name}");
        match (entry.dest.clone()?, &entry.root) {
            (FallbackDest::BuiltIn(_), root) => {
                if entry.xver > 0 {
                    self.problem(&key("xver"), "a built-in site needs no PROXY header; leave it out");
                }
                Some(FallbackDest::BuiltIn(root.clone()))
            }
            (dest, None) => Some(dest),
            (dest, Some(_)) => {
                self.problem(&key("root"), "only \"dest\": \"builtin\" has a folder; leave it out");
                Some(dest)
            }
        }
    }

    fn monitoring(&mut self, monitoring: &Monitoring) {
        for (position, alert) in monitoring.alerts.iter().enumerate() {
            if alert.above.is_some() == alert.below.is_some() {
                let message = "an alert needs either \"above\" or \"below\", and not both";
                self.problem(&format!("monitoring.alerts[{position}]"), message);
            }
            // Messages, metrics and what is remembered over a restart go by it.
            if let Some(first) = monitoring.alerts[..position].iter().position(|other| other.name == alert.name) {
                let key = format!("monitoring.alerts[{position}].name");
                let message = format!("\"{}\" is the name of monitoring.alerts[{first}], too", alert.name);
                self.problem(&key, message + "; give each rule a name of its own");
            }
        }
        if monitoring.enabled && monitoring.token.is_none() && !monitoring.listen.is_loopback() {
            self.problem(
                "monitoring.listen",
                format!(
                    "outside loopback monitoring.token is mandatory: set it to a long random text, or listen on \
                     \"127.0.0.1\" instead of \"{}\"",
                    monitoring.listen
                ),
            );
        }
        self.tokens(monitoring);
    }

    fn tokens(&mut self, monitoring: &Monitoring) {
        let reveal = |token: &Option<Secret>| token.as_ref().map(|token| token.reveal().to_owned());
        let (look, change) = (reveal(&monitoring.token), reveal(&monitoring.admin_token));
        if look.is_some() && look == change {
            self.problem(
                "monitoring.admin_token",
                "is the same as monitoring.token, so whoever may look could change things: make one of them another",
            );
        }
        for (key, token) in [("monitoring.token", look), ("monitoring.admin_token", change)] {
            if token.is_some_and(|token| token.len() < TOKEN_CHARACTERS_MIN) {
                self.warnings.push(format!(
                    "{key} can be guessed: it has fewer than {TOKEN_CHARACTERS_MIN} characters; \
                     `openssl rand -hex 16` makes a good one"
                ));
            }
        }
    }

    /// A stranger who agreed on HTTP/2 speaks it to the fallback, and a web server that does not understand it gives
    /// the server away.
    fn warn_about_protocols(&mut self, config: &Config) {
        let Some(tls) = &config.tls else { return };
        let offers_h2 = tls.alpn.iter().any(|protocol| protocol == "h2");
        let names_h2 = config.fallbacks.iter().any(|fallback| fallback.alpn == "h2");
        if !config.fallbacks.is_empty() && offers_h2 && !names_h2 {
            self.warnings.push(
                "tls.alpn offers h2 and no fallback has \"alpn\": \"h2\": the fallback must understand HTTP/2 without \
                 TLS, else set tls.alpn to [\"http/1.1\"]"
                    .to_owned(),
            );
        }
    }

    /// A fallback that nobody can get is a mistake, and a stranger without one is closed as no web server closes.
    fn warn_about_fallbacks(&mut self, config: &Config) {
        for (position, fallback) in config.fallbacks.iter().enumerate() {
            self.warnings
                .extend(never_chosen(fallback, config.tls.as_ref()).map(|why| format!("fallbacks[{position}]{why}")));
        }
        let is_for_all = |one: &Fallback| one.name.is_empty() && one.alpn.is_empty() && one.path.is_empty();
        if !config.fallbacks.is_empty() && !config.fallbacks.iter().any(is_for_all) {
            self.warnings.push(
                "no fallback is for everybody (without name, alpn and path): a stranger for whom none is meant is closed \
                 without an answer"
                    .to_owned(),
            );
        }
    }

    /// Who is believed by everybody's word defeats limits by address, and the log.
    fn warn_about_announcers(&mut self, config: &Config) {
        if let Some(all) = config.server.proxy_protocol_from.iter().find(|network| network.prefix_bits() == 0) {
            self.warnings.push(format!(
                "server.proxy_protocol_from holds {all}: anybody may say to be anybody; name the balancer's addresses"
            ));
        }
    }

    fn warn_about_plain(&mut self, config: &Config) {
        let public = config.server.listen.iter().find(|ip| ip.is_unspecified() || is_public(**ip));
        if let (None, Some(ip)) = (&config.tls, public) {
            self.warnings.push(format!(
                "tls.enabled is false and server.listen is {ip}: everything is readable on its way, ids included, and \
                 Xray clients refuse to dial a public address without TLS"
            ));
        }
        let cluster = &config.cluster;
        if cluster.ca_file.is_some() && cluster.url.as_ref().is_some_and(|url| !url.has_tls()) {
            self.warnings.push(
                "cluster.ca_file is given, but cluster.url has no TLS: the engine proves nothing, and what is said to it \
                 is not encrypted; rediss:// is with TLS"
                    .to_owned(),
            );
        }
    }
}

/// Why no client can get `fallback`, if that is so.
fn never_chosen(fallback: &Fallback, tls: Option<&Tls>) -> Option<String> {
    let Fallback { name, alpn, path, .. } = fallback;
    match tls {
        None if !name.is_empty() || !alpn.is_empty() => {
            return Some(" has a name or an alpn, which there are with TLS only: nobody gets it".to_owned());
        }
        Some(tls) if !alpn.is_empty() && !tls.alpn.iter().any(|offered| offered.eq_ignore_ascii_case(alpn)) => {
            return Some(format!(".alpn is \"{alpn}\", which tls.alpn does not offer: nobody gets it"));
        }
        _ => {}
    }
    if name.contains('*') {
        let inside = name.replace('*', "");
        return Some(format!(
            ".name holds \"*\", which no client asks for: write \"{inside}\", which is looked for inside"
        ));
    }
    if path.contains(['?', ' ']) {
        return Some(".path: a path ends before \"?\" and a space: nobody gets it".to_owned());
    }
    let is_long = path.len() > PATH_BYTES_MAX;
    is_long.then(|| format!(".path is longer than {PATH_BYTES_MAX} bytes: nobody gets it"))
}
