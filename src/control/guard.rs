//! Who may ask: tokens, the login cookie, the names by which we are called, and the origin of a page that asks.
//!
//! Two rights. `token` looks, `admin_token` changes; whoever can open the Unix socket may change. On loopback everybody on
//! the machine may look unless a `token` is set. Tokens are compared in constant time, failed attempts are answered late
//! and counted by source. A reader of the feed stays as long as what it was let in with still opens the door: its
//! [`Grant`] is looked at again whenever that may have changed. The clock comes as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use super::format;
use super::http::connection::Request;
use super::http::head::{Head, Method};
use super::http::response::Reply;
use super::http::stream::Peer;

/// Logins remembered at the same time; the oldest goes first.
const LOGINS_MAX: usize = 256;
const LOGIN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Sources whose failures are counted at the same time; the one longest silent goes first.
const SOURCES_MAX: usize = 1024;
/// After so long a source's failures are forgotten.
const FAILURES_LIFETIME: Duration = Duration::from_secs(600);
/// The first failure is answered after this, each further one after twice the time, up to the longest.
const DELAY_FIRST: Duration = Duration::from_millis(250);
const DELAY_DOUBLINGS_MAX: u64 = 5;

/// What the operator decided.
#[derive(Clone, Default)]
pub struct Keys {
    pub token: Option<String>,
    pub admin_token: Option<String>,
    /// The listener is reachable from this machine only.
    pub is_loopback: bool,
    /// One more origin (`https://host`) under which a proxy in front shows the page.
    pub origin: Option<String>,
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    None,
    View,
    Admin,
}

impl Right {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::View => "view",
            Self::Admin => "admin",
        }
    }
}

/// What a client has shown to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It could open the Unix socket.
    Socket,
    /// Nothing: what it gets is free.
    Nothing,
    /// A token, by its hash.
    Token([u8; 32]),
    /// The cookie of a login, by its hash.
    Login([u8; 32]),
}

/// A right, and what it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub pass: Pass,
    pub right: Right,
}

/// What is at the path that somebody asks for, as far as it decides who may come from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Says only whether the server works. Load balancers ask for it by whatever name they know.
    Probe,
    /// A file of the page, which is the same for everybody. A link on any other page may lead to it.
    Page,
    /// Everything else.
    Figures,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub right: Right,
    pub pass: Pass,
    /// For events: `command`, `page` or the address.
    pub by: String,
    /// Whether looking needs a login here.
    pub login_required: bool,
    /// Nobody on the way can read or change what is sent.
    pub is_private: bool,
}

impl Access {
    pub fn grant(&self) -> Grant {
        Grant { pass: self.pass, right: self.right }
    }

    /// Whether secrets may be in the answer: they go to the admin right alone, and not over the open network in plain
    /// text.
    pub fn may_see_secrets(&self) -> bool {
        self.right == Right::Admin && self.is_private
    }
}

/// A request that goes no further.
#[derive(Debug)]
pub struct Refused {
    pub reply: Box<Reply>,
    /// How long the answer is held back.
    pub delay: Duration,
    /// It was a wrong token, the source's so many-th.
    pub failure: Option<(Peer, u64)>,
}

pub struct Guard {
    keys: Keys,
    logins: HashMap<[u8; 32], Login>,
    failures: HashMap<Peer, Failures>,
    failures_total: u64,
}

struct Login {
    right: Right,
    expires: Instant,
}

struct Failures {
    count: u64,
    last: Instant,
}

impl Guard {
    pub fn new(keys: Keys) -> Self {
        Self { keys, logins: HashMap::new(), failures: HashMap::new(), failures_total: 0 }
    }

    /// Takes other keys. Whoever logged in with one that changed has to do it again.
    pub fn adopt(&mut self, keys: Keys) {
        if keys.token != self.keys.token {
            self.logins.retain(|_, login| login.right != Right::View);
        }
        if keys.admin_token != self.keys.admin_token {
            self.logins.retain(|_, login| login.right != Right::Admin);
        }
        self.keys = keys;
    }

    pub fn failures_total(&self) -> u64 {
        self.failures_total
    }

    /// Who sends this request for something of this exposure.
    ///
    /// # Errors
    /// When it must not be served, whatever it asks for.
    pub fn check(&mut self, request: &Request, exposure: Exposure, now: Instant) -> Result<Access, Refused> {
        let Peer::Ip(address) = request.peer else {
            return Ok(self.access(self.grant(Pass::Socket, now), "command".to_owned(), true));
        };
        if exposure == Exposure::Probe {
            return Ok(self.access(self.grant(Pass::Nothing, now), address.to_string(), false));
        }
        let grant = self.grant_of(request, now)?;
        self.check_names(request, exposure, grant).map_err(|reply| Refused {
            reply: Box::new(reply),
            delay: Duration::ZERO,
            failure: None,
        })?;
        let by = if matches!(grant.pass, Pass::Login(_)) { "page".to_owned() } else { address.to_string() };
        Ok(self.access(grant, by, self.is_private(&request.head, address)))
    }

    /// The right that the request has by its token, by its cookie, or without either.
    fn grant_of(&mut self, request: &Request, now: Instant) -> Result<Grant, Refused> {
        if let Some(token) = &request.head.bearer {
            let grant = self.grant(Pass::Token(hash(token)), now);
            return if grant.right == Right::None { Err(self.wrong_token(request.peer, now)) } else { Ok(grant) };
        }
        let login = request.head.session.as_ref().map(|cookie| self.grant(Pass::Login(hash(cookie)), now));
        Ok(login.filter(|login| login.right > Right::None).unwrap_or_else(|| self.grant(Pass::Nothing, now)))
    }

    /// The right that `pass` gives at this moment.
    fn grant(&self, pass: Pass, now: Instant) -> Grant {
        let right = match pass {
            Pass::Socket => Right::Admin,
            Pass::Nothing if self.looking_is_free() => Right::View,
            Pass::Nothing => Right::None,
            Pass::Token(given) => self.right_of(&given),
            Pass::Login(secret) => {
                self.logins.get(&secret).filter(|login| login.expires > now).map_or(Right::None, |login| login.right)
            }
        };
        Grant { pass, right }
    }

    /// Whether what was granted would be granted again, no more and no less.
    pub fn holds(&self, grant: Grant, now: Instant) -> bool {
        self.grant(grant.pass, now) == grant
    }

    fn access(&self, grant: Grant, by: String, is_private: bool) -> Access {
        let Grant { pass, right } = grant;
        Access { right, pass, by, login_required: !self.looking_is_free(), is_private }
    }

    fn looking_is_free(&self) -> bool {
        self.keys.is_loopback && self.keys.token.is_none()
    }

    /// A page of another site can make a browser send requests here, also under a name that the site's owner lets point
    /// to this machine. Such a name is not ours, and such a page's origin is not ours. Whoever shows a token in the field
    /// `Authorization` is no such browser, which would have a cookie at best: a monitoring system may use any name.
    fn check_names(&self, request: &Request, exposure: Exposure, grant: Grant) -> Result<(), Reply> {
        let head = &request.head;
        if !self.is_own_name(head) && !matches!(grant.pass, Pass::Token(_)) {
            let message = "this server does not go by that name; send a token in the field Authorization, or set \
                           VLESS_MONITOR_ORIGIN if a proxy shows it under one";
            return Err(Reply::error(421, "wrong_host", message));
        }
        let host = head.host.as_deref().unwrap_or_default();
        let is_ours = |origin: &str| {
            self.keys.origin.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(origin))
                || origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        };
        // Whoever follows a link or a bookmark to the page leaves the other page, which sees nothing of the answer.
        let is_arrival =
            exposure == Exposure::Page && head.is_navigation && matches!(head.method, Method::Get | Method::Head);
        let is_foreign = head.origin.as_deref().is_some_and(|origin| !is_ours(origin));
        if is_foreign || head.fetched_cross_site && !is_arrival {
            return Err(Reply::error(403, "wrong_origin", "pages of other sites may not ask here"));
        }
        Ok(())
    }

    /// Whether the request calls us by a name that nobody can make point elsewhere, or that the operator told us.
    fn is_own_name(&self, head: &Head) -> bool {
        let host = head.host.as_deref().unwrap_or_default();
        let own = self.keys.origin.as_deref().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        own.is_some_and(|own| own.eq_ignore_ascii_case(host))
            || is_address_or_localhost(host)
            || host.is_empty() && head.minor_version == 0
    }

    /// Whether what passes between us stays on this machine or, by the operator's word, inside somebody's TLS. A name that
    /// is not ours is a sign of a proxy in front, of which nobody has told us whether it speaks TLS.
    fn is_private(&self, head: &Head, address: IpAddr) -> bool {
        let over_tls = self.keys.origin.as_deref().and_then(|origin| origin.strip_prefix("https://"));
        let host = head.host.as_deref().unwrap_or_default();
        address.is_loopback() && self.is_own_name(head) || over_tls.is_some_and(|own| own.eq_ignore_ascii_case(host))
    }

    fn right_of(&self, given: &[u8; 32]) -> Right {
        let is =
            |key: &Option<String>| key.as_ref().is_some_and(|key| verify_slices_are_equal(&hash(key), given).is_ok());
        // Both are compared always: the time must not say which one was close.
        let (admin, view) = (is(&self.keys.admin_token), is(&self.keys.token));
        match (admin, view) {
            (true, _) => Right::Admin,
            (false, true) => Right::View,
            (false, false) => Right::None,
        }
    }

    /// The cookie for `token`.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn login(&mut self, token: &str, request: &Request, now: Instant) -> Result<String, Refused> {
        let right = self.right_of(&hash(token));
        if right == Right::None {
            return Err(self.wrong_token(request.peer, now));
        }
        let mut secret = [0; 32];
        if SystemRandom::new().fill(&mut secret).is_err() {
            let reply = Reply::error(500, "internal", "no random numbers are to be had");
            return Err(Refused { reply: Box::new(reply), delay: Duration::ZERO, failure: None });
        }
        let secret = format::hex(&secret);
        self.logins.retain(|_, login| login.expires > now);
        if self.logins.len() >= LOGINS_MAX {
            let oldest = self.logins.iter().min_by_key(|(_, login)| login.expires).map(|(key, _)| *key);
            oldest.map(|key| self.logins.remove(&key));
        }
        // Kept as a hash: whoever reads this memory cannot log in with it.
        self.logins.insert(hash(&secret), Login { right, expires: now + LOGIN_LIFETIME });
        let secure =
            if self.keys.origin.as_deref().is_some_and(|own| own.starts_with("https:")) { "; Secure" } else { "" };
        Ok(format!(
            "{}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}",
            request.head.session_cookie(),
            LOGIN_LIFETIME.as_secs()
        ))
    }

    /// Forgets the login of this request; returns the cookie that makes the browser forget it, too.
    pub fn logout(&mut self, request: &Request) -> String {
        if let Some(cookie) = &request.head.session {
            self.logins.remove(&hash(cookie));
        }
        format!("{}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0", request.head.session_cookie())
    }

    fn wrong_token(&mut self, peer: Peer, now: Instant) -> Refused {
        self.failures_total += 1;
        let source = peer.source();
        self.failures.retain(|_, failures| now.saturating_duration_since(failures.last) < FAILURES_LIFETIME);
        if self.failures.len() >= SOURCES_MAX && !self.failures.contains_key(&source) {
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.last).map(|(source, _)| *source);
            oldest.map(|source| self.failures.remove(&source));
        }
        let failures = self.failures.entry(source).or_insert(Failures { count: 0, last: now });
        failures.count += 1;
        failures.last = now;
        let delay = DELAY_FIRST * (1 << (failures.count - 1).min(DELAY_DOUBLINGS_MAX));
        let reply =
            Reply::error(401, "wrong_token", "this token opens nothing here").with("WWW-Authenticate", "Bearer");
        Refused { reply: Box::new(reply), delay, failure: Some((source, failures.count)) }
    }
}

/// `127.0.0.1`, `[::1]:9090`, `localhost:9090`: an address cannot be made to point elsewhere, and `localhost` is local.
fn is_address_or_localhost(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, port)) => return inside.parse::<std::net::Ipv6Addr>().is_ok() && is_port(port),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    is_port(&host[name.len()..])
        && (name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok())
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

/// Of equal length whatever the secret's, so that a comparison does not tell it.
fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests;
