//! The address of the engine that a cluster shares: one text with everything that is needed to get in.

use std::fmt;
use std::path::PathBuf;

use super::rules::Check;
use super::section::Kind;
use super::settings::Secret;
use super::values;

/// The port of Redis and Valkey.
const ENGINE_PORT: u16 = 6379;
/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26_379;
/// Sentinels that are asked at the most.
const SENTINELS_MAX: usize = 9;

/// What such a URL looks like.
pub const ENGINE_URL_RULE: &str = "must be like \"redis://user:password@host:6379/0\", \"rediss://...\" for TLS, \
                                   \"redis+sentinel://user:password@host1:26379,host2:26379/PRIMARY/0\", or \
                                   \"unix:///path/of/the/socket\"; what is special in a password is written as %XX";

/// Where the engine is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineUrl {
    /// How it is reached.
    pub place: EnginePlace,
    /// `None`: the user that everybody is who has only the password.
    pub user: Option<String>,
    /// A credential.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u32,
}

/// How the engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnginePlace {
    /// A host name or an IP address without brackets.
    Tcp {
        host: String,
        port: u16,
        /// With TLS, in which the engine has to prove that it is `host`.
        tls: bool,
    },
    /// A Unix socket on this machine.
    Unix(PathBuf),
    /// Where one of these sentinels says that the primary is.
    Sentinels {
        /// Host and port of each.
        sentinels: Vec<(String, u16)>,
        /// What they call the primary.
        primary: String,
        /// With TLS to sentinels and engine.
        tls: bool,
    },
}

/// A URL of the engine, or null.
pub(super) struct EngineUrlKind;

impl Kind for EngineUrlKind {
    type Raw = Option<String>;
    type Value = Option<EngineUrl>;

    fn default_raw(&self) -> Option<String> {
        None
    }

    fn value(&self, key: &str, raw: &Option<String>, check: &mut Check<'_>) -> Option<EngineUrl> {
        let text = raw.as_ref().filter(|text| !text.is_empty())?;
        if !cfg!(feature = "cluster") {
            check.problem(key, "this program was built without the feature \"cluster\"; set it to null");
        }
        let url = EngineUrl::parse(text);
        if url.is_none() {
            // The text may hold a password, so it is not repeated.
            check.problem(key, ENGINE_URL_RULE);
        }
        url
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl EngineUrl {
    /// `None` for what is not such a URL.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(left, right)| (Some(left), right));
        let (user, password) = match credentials {
            None => (None, None),
            Some(both) => {
                let (user, password) = both.split_once(':').unwrap_or((both, ""));
                (Some(unescaped(user)?), Some(unescaped(password)?))
            }
        };
        let is_tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "unix" if rest.starts_with('/') => {
                let place = EnginePlace::Unix(PathBuf::from(rest));
                return Some(Self::new(place, user, password, 0));
            }
            "redis+sentinel" | "valkey+sentinel" => return Self::of_sentinels(rest, false, user, password),
            "rediss+sentinel" | "valkeys+sentinel" => return Self::of_sentinels(rest, true, user, password),
            _ => return None,
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { 0 } else { database.parse().ok()? };
        let (host, port) = host_and_port(authority, ENGINE_PORT)?;
        Some(Self::new(EnginePlace::Tcp { host, port, tls: is_tls }, user, password, database))
    }

    /// Whether the engine has to prove who it is, and nobody on the way can read along.
    pub fn has_tls(&self) -> bool {
        match self.place {
            EnginePlace::Tcp { tls, .. } | EnginePlace::Sentinels { tls, .. } => tls,
            EnginePlace::Unix(_) => false,
        }
    }

    fn of_sentinels(rest: &str, tls: bool, user: Option<String>, password: Option<String>) -> Option<Self> {
        let mut parts = rest.split('/');
        let sentinels = parts.next()?.split(',').map(|one| host_and_port(one, SENTINEL_PORT));
        let sentinels = sentinels.collect::<Option<Vec<_>>>().filter(|all| all.len() <= SENTINELS_MAX)?;
        let primary = parts.next().and_then(|name| values::node_name(name).ok())?;
        let database = parts.next().filter(|text| !text.is_empty()).map_or(Some(0), |text| text.parse().ok())?;
        let place = EnginePlace::Sentinels { sentinels, primary, tls };
        parts.next().is_none().then(|| Self::new(place, user, password, database))
    }

    fn new(place: EnginePlace, user: Option<String>, password: Option<String>, database: u32) -> Self {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self { place, user: given(user), password: given(password).map(Secret::new), database }
    }
}

impl fmt::Display for EngineUrl {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            EnginePlace::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                write!(f, "{scheme}://{}/{}", authority(host, *port), self.database)
            }
            EnginePlace::Sentinels { sentinels, primary, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let hosts: Vec<_> = sentinels.iter().map(|(host, port)| authority(host, *port)).collect();
                write!(f, "{scheme}+sentinel://{}/{primary}/{}", hosts.join(","), self.database)
            }
            EnginePlace::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl fmt::Debug for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineUrl({self})")
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    values::host_and_port(text).ok().or_else(|| Some((values::host(bare).ok()?, default_port)))
}

/// With each %XX as the byte that it stands for.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let url = EngineUrl::parse("rediss://node:p%40ss%3Aword@engine.example:6380/3").unwrap();
        let place = EnginePlace::Tcp { host: "engine.example".into(), port: 6380, tls: true };
        assert_eq!((url.place.clone(), url.database), (place, 3));
        assert_eq!((url.user.as_deref(), url.password.as_ref().unwrap().reveal()), (Some("node"), "p@ss:word"));
        assert_eq!(url.to_string(), "rediss://engine.example:6380/3");
        let plain = |text: &str| EngineUrl::parse(text).map(|url| url.to_string());
        assert_eq!(plain("redis://10.0.0.1").unwrap(), "redis://10.0.0.1:6379/0");
        assert_eq!(plain("redis://[::1]:7000/").unwrap(), "redis://[::1]:7000/0");
        assert_eq!(plain("redis://[::1]").unwrap(), "redis://[::1]:6379/0");
        assert_eq!(plain("unix:///run/valkey.sock").unwrap(), "unix:///run/valkey.sock");
        let only_password = EngineUrl::parse("redis://:secret@h").unwrap();
        assert_eq!((only_password.user, only_password.password.unwrap().reveal()), (None, "secret"));
        for bad in ["", "redis://", "http://h", "redis://h:0", "redis://h/x", "redis://a b", "unix://x", "redis://%4@h"]
        {
            assert_eq!(plain(bad), None, "{bad}");
        }
    }

    #[test]
    fn sentinels_are_several_places_and_a_name() {
        let url = EngineUrl::parse("rediss+sentinel://node:hidden@a.example,[::1]:7000/main/2").unwrap();
        let sentinels = vec![("a.example".into(), 26_379), ("::1".into(), 7000)];
        assert_eq!(url.place, EnginePlace::Sentinels { sentinels, primary: "main".into(), tls: true });
        assert_eq!(url.to_string(), "rediss+sentinel://a.example:26379,[::1]:7000/main/2");
        assert_eq!((url.user.as_deref(), url.database), (Some("node"), 2));
        for bad in
            ["redis+sentinel://a", "redis+sentinel:///main", "redis+sentinel://a,/main", "redis+sentinel://a/m/0/1"]
        {
            assert!(EngineUrl::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = EngineUrl::parse("redis://node:hidden@h").unwrap();
        assert!(!format!("{url:?} {url}").contains("hidden"));
    }
}
