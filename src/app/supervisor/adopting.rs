//! Changes of the running server: a reload, renewed certificates, other accounts.
//!
//! Each is prepared whole before anybody hears of it, so one that fails changes nothing. Then the workers adopt the new
//! rules, and the sessions of those who may not connect any more are cut.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::json;

use super::Supervisor;
use super::changes::{Changes, Said, changes};
use super::cuts::{Cut, cuts};
use super::gates;
use super::roll::Roll;
use super::watch::Watch;
use crate::app::access::AccessLines;
use crate::app::accounts::store;
use crate::app::certs::{self, LoadedCertificate};
use crate::app::clock::unix_time;
use crate::app::config::Config;
use crate::app::exit::Failure;
use crate::app::rules::{self, Surroundings};
use crate::app::sites::Sites;
use crate::app::{link, monitoring, preflight};
use crate::control::events::{Event, Kind, Level};
use crate::control::sample::ReloadSample;
use crate::protocol::user_id::mask;
use crate::reactor::Rules;
use crate::reactor::request::{CutQuery, LedgerRef, Which};
use crate::session::close::CloseReason;
use crate::session::{SessionSettings, TlsAcceptor, Users};

impl Supervisor {
    /// Reads all files anew and adopts what they say.
    pub(super) fn reload(&mut self, by: &str) -> Result<Changes, Failure> {
        self.heart.notifier().reloading();
        let result = self.try_reload();
        // Whatever came of it, the server serves.
        self.heart.notifier().ready();
        match &result {
            Ok(changes) => {
                let line = changes.line();
                log::info!("reloaded ({by}): {line}");
                let event = Event::new(Kind::Reload, Level::Info, format!("reloaded: {line}"));
                self.tell(event.by(by).coded("reloaded", changes.data()));
            }
            Err(failure) => {
                log::error!("not reloaded ({by}), everything is as before: {failure}");
                let event = Event::new(Kind::Reload, Level::Error, format!("not reloaded: {failure}"));
                self.tell(event.by(by).coded("reload_failed", json!({ "error": failure.message })));
            }
        }
        self.parts.backend.note_reload(reload_sample(&result));
        result
    }

    fn try_reload(&mut self) -> Result<Changes, Failure> {
        let config = Config::load(&self.parts.config.file)?;
        if config.users_file == self.parts.config.users_file {
            store::still_there(&self.parts.config)?;
        }
        // Whether the users file is still the one that was just read is not known.
        self.users_stamp = None;
        let config = self.with_cluster(config);
        preflight::source_address(&config)?;
        let watch = Watch::certificates(&config);
        let certificates = certs::load_or_generate(&config, &link::host(&config).host, SystemTime::now())?;
        let served = (&self.parts.config, self.parts.certificates.as_slice());
        let mut found = changes(served, (&config, &certificates), &self.started);
        let tls = self.acceptor(&config, &certificates)?;
        let rules = Arc::new(self.rules(&config, tls)?);
        let options = rules::socket_options(&config);
        let opened = self.parts.listening.open_new(&rules::listen_addresses(&config), options)?;
        // Reopened also where nothing has changed: it may have been renamed.
        self.parts.log.change(&config.log)?;
        for warning in config.warnings().iter().chain(certificates.iter().flat_map(|one| &one.warnings)) {
            log::warn!("{warning}");
        }
        self.parts.listening.adopt(opened, &self.parts.reactor.handle());
        found.needs_restart.extend(self.parts.listening.set_options(options).into_iter().map(str::to_owned));
        self.parts.watch = watch;
        self.parts.control.handle().adopt(monitoring::settings(&config));
        self.parts.certificates = certificates;
        self.adopt(config, &rules);
        Ok(found)
    }

    /// Certificate files have changed. A pair that does not match yet is looked at again later.
    pub(super) fn renew_certificates(&mut self) {
        let certificates = certs::load_existing(&self.parts.config, SystemTime::now())
            .and_then(|loaded| Ok((self.acceptor(&self.parts.config, &loaded)?, loaded)));
        self.parts.watch.tried(certificates.is_ok(), Instant::now());
        match certificates {
            Ok((tls, certificates)) => {
                let config = &self.parts.config;
                let found = changes((config, &self.parts.certificates), (config, &certificates), &self.started);
                if found.said.is_empty() {
                    return;
                }
                let (session, old) = (self.parts.rules.session.clone(), &self.parts.rules);
                let session = SessionSettings { tls, ..session };
                let rules = Arc::new(Rules { session, ..Rules::clone(old) });
                self.parts.certificates = certificates;
                self.adopt(self.parts.config.clone(), &rules);
                let text = found.line();
                log::info!("certificate files have changed: {text}");
                let event = Event::new(Kind::Certificate, Level::Info, text);
                self.tell(event.coded("certificate_files_changed", found.data()));
            }
            Err(failure) => log::warn!("certificate files have changed and cannot be used (yet): {failure}"),
        }
    }

    /// Somebody's standing has changed by the clock.
    pub(super) fn adopt_standing(&mut self, now: u64) {
        let before = Arc::clone(&self.parts.rules.session.users);
        for cut in cuts(&before, &self.parts.config.users, now) {
            let text = format!("user {}: {}", cut.email, cut.reason.name());
            log::info!("{text}");
            let data = json!({ "user": cut.email, "reason": cut.reason.name() });
            self.tell(Event::new(Kind::Limit, Level::Warn, text).coded("user_ended", data));
        }
        if let Err(failure) = self.adopt_accounts(self.parts.config.clone()) {
            log::error!("accounts: {failure}");
        }
    }

    pub(super) fn adopt_accounts(&mut self, config: Config) -> Result<(), Failure> {
        let users = rules::users(&config.users, &self.parts.ledgers, self.hours.unix_time())?;
        let rules = Arc::new(with_users(&self.parts.rules, users));
        self.adopt(config, &rules);
        Ok(())
    }

    /// From here on nothing can fail.
    fn adopt(&mut self, config: Config, rules: &Arc<Rules>) {
        // Before the workers: what was counted so far is not the cluster's where an account becomes its.
        self.tell_cluster(&config);
        let before = std::mem::replace(&mut self.parts.rules, Arc::clone(rules));
        self.parts.reactor.handle().adopt(rules);
        let now = self.hours.unix_time();
        for Cut { id, ledger, reason, .. } in cuts(&before.session.users, &config.users, now) {
            if let Some(teller) = &self.teller {
                teller.cut(id, reason);
            }
            // New sessions find the new rules, so there is nobody to be asked twice.
            let _ = self.parts.reactor.handle().cut(&CutQuery { which: Which::Ledger(LedgerRef(ledger)), reason });
        }
        self.roll = Roll::new(&config.users, &self.parts.ledgers, now);
        gates::adopt(&config, &self.parts.ledgers);
        self.parts.config = config;
        let sessions_max = self.parts.rules.sessions_max;
        self.parts.backend.publish(&self.parts.config, &self.parts.certificates, sessions_max);
    }

    /// Ends the sessions from addresses that were let in beyond their user's limit and have stayed too long.
    pub(super) fn cut_guests(&self) {
        for user in &self.parts.config.users {
            let ledger = self.parts.ledgers.of(mask(user.id));
            if let Some(source) = ledger.gate().look() {
                log::info!("user {}: sessions from one address too many are cut", user.email);
                let which = Which::LedgerFrom(LedgerRef(ledger), source);
                let _ = self.parts.reactor.handle().cut(&CutQuery { which, reason: CloseReason::UserAddressesLimit });
            }
        }
    }

    /// The acceptor for these certificates. Where nothing of TLS has changed it is the present one, because clients come
    /// back with tickets that only it can read. Whether it remembers the names that clients ask for depends on the
    /// fallbacks.
    fn acceptor(&self, config: &Config, certificates: &[LoadedCertificate]) -> Result<Option<TlsAcceptor>, Failure> {
        let known = &self.parts;
        let prints = |list: &[LoadedCertificate]| list.iter().map(|one| one.fingerprint).collect::<Vec<_>>();
        let names = |list: &[LoadedCertificate]| list.iter().map(|one| one.names.clone()).collect::<Vec<_>>();
        let is_same = known.config.tls == config.tls
            && prints(&known.certificates) == prints(certificates)
            && names(&known.certificates) == names(certificates);
        if !is_same {
            return rules::acceptor(config, certificates);
        }
        let present = known.rules.session.tls.clone();
        Ok(present.map(|acceptor| acceptor.remembering_names(rules::needs_names(config))))
    }

    fn rules(&self, config: &Config, tls: Option<TlsAcceptor>) -> Result<Rules, Failure> {
        let observer = Arc::new(AccessLines::new(&config.log, &self.parts.log));
        let sites = Sites::serve(config)?;
        let around = Surroundings {
            tls,
            sites: &sites,
            ledgers: &self.parts.ledgers,
            now: self.hours.unix_time(),
            capacity: self.parts.capacity,
            observer,
        };
        rules::rules(config, &around)
    }
}

fn reload_sample(result: &Result<Changes, Failure>) -> ReloadSample {
    let at = unix_time();
    match result {
        Ok(changes) => ReloadSample {
            at,
            ok: true,
            changes: changes.words(),
            changed: changes.said.iter().map(Said::data).collect(),
            needs_restart: changes.needs_restart.clone(),
            error: None,
        },
        Err(failure) => ReloadSample { at, ok: false, error: Some(failure.message.clone()), ..ReloadSample::default() },
    }
}

/// The same rules for other users.
fn with_users(rules: &Rules, users: Users) -> Rules {
    let session = SessionSettings { users: Arc::new(users), ..rules.session.clone() };
    Rules { session, ..rules.clone() }
}
