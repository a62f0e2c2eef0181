//! The sites that fallbacks lead to: read from their folders and served, one for each folder.

use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::config::{Config, FallbackDest};
use crate::app::exit::{self, Failure};
use crate::session::BuiltIn;
use crate::site::{Content, LoadedSite, content};

/// Sites that are being served. Whoever holds one of them keeps it alive.
#[derive(Default)]
pub struct Sites {
    by_root: Vec<(Option<PathBuf>, BuiltIn)>,
}

impl Sites {
    /// Reads and serves what `config` names. Files are read anew each time, so that a reload shows what has changed.
    ///
    /// # Errors
    /// Those of [`contents`]; 69 when a thread cannot be started.
    pub fn serve(config: &Config) -> Result<Self, Failure> {
        let mut by_root = Vec::new();
        for (root, content) in contents(config)? {
            let site = LoadedSite::serve(content)
                .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot start a site: {error}")))?;
            by_root.push((root, BuiltIn(Arc::new(site))));
        }
        Ok(Self { by_root })
    }

    /// The site that shows the folder or the page at `root`; without a root, the page that says nothing.
    ///
    /// # Errors
    /// 78 when it is not among those that are served.
    pub fn at(&self, root: Option<&Path>) -> Result<BuiltIn, Failure> {
        let known = self.by_root.iter().find(|(known, _)| known.as_deref() == root);
        known
            .map(|(_, site)| site.clone())
            .ok_or_else(|| Failure::new(exit::CONFIG, "fallbacks: this site is not served".to_owned()))
    }
}

/// What the sites of `config` hold, each once.
///
/// # Errors
/// 78 for a folder or page that cannot be read whole, or that is too large.
pub fn contents(config: &Config) -> Result<Vec<(Option<PathBuf>, Content)>, Failure> {
    let mut contents: Vec<(Option<PathBuf>, Content)> = Vec::new();
    for (position, fallback) in config.fallbacks.iter().enumerate() {
        let FallbackDest::BuiltIn(root) = &fallback.dest else { continue };
        if contents.iter().any(|(known, _)| known == root) {
            continue;
        }
        let refused = |why: String| Failure::new(exit::CONFIG, format!("fallbacks[{position}].root: {why}"));
        let content = match root {
            Some(root) => {
                if let Some(file) = private(config).into_iter().find(|file| is_shown(root, file)) {
                    let file = file.display();
                    return Err(refused(format!(
                        "{file} must not be read by strangers; give the site a folder of its own"
                    )));
                }
                Content::load(root).map_err(|error| refused(error.to_string()))?
            }
            None => Content::plain(),
        };
        contents.push((root.clone(), content));
    }
    Ok(contents)
}

/// Files of the server that hold secrets, or that tell what it is.
fn private(config: &Config) -> Vec<&Path> {
    let mut files = vec![config.file.as_path(), &config.monitoring.state_file];
    files.extend(config.users_file.as_deref());
    files.extend(config.log.file.as_deref());
    files.extend(config.cluster.url.is_some().then_some(config.cluster.folder.as_path()));
    files.extend(
        config.tls.iter().flat_map(|tls| iter::once(&tls.main).chain(&tls.more)).map(|pair| pair.key_file.as_path()),
    );
    files
}

/// Whether a site at `root` shows `file`, now or as soon as there is such a file.
fn is_shown(root: &Path, file: &Path) -> bool {
    let Some(root) = resolved(root) else { return false };
    let inside = resolved(file).and_then(|file| Some(file.strip_prefix(root).ok()?.to_owned()));
    inside.is_some_and(|inside| inside.iter().all(content::is_shown))
}

/// The path without links; its last part need not exist.
fn resolved(path: &Path) -> Option<PathBuf> {
    let of_folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(of_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;

    fn config(folder: &Path, fallbacks: &str) -> Config {
        let text = format!(r#"{{ "users": [ {{ "uuid": "example", "flow": "" }} ], "fallbacks": [ {fallbacks} ] }}"#);
        Config::parse(&text, &folder.join("config.json")).unwrap()
    }

    #[test]
    fn each_folder_is_served_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("www")).unwrap();
        fs::write(folder.path().join("www/index.html"), "hello").unwrap();
        let entry = r#"{ "dest": "builtin", "root": "www" }"#;
        let other = r#"{ "dest": "builtin", "root": "www", "path": "/x" }, { "dest": "builtin", "name": "a" }"#;
        let config = config(folder.path(), &format!("{entry}, {other}, {{ \"dest\": 80, \"alpn\": \"h2\" }}"));
        let sites = Sites::serve(&config).unwrap();
        assert_eq!(sites.by_root.len(), 2);
        assert_eq!(sites.at(Some(&folder.path().join("www"))), sites.at(Some(&folder.path().join("www"))));
        assert_ne!(sites.at(None), sites.at(Some(&folder.path().join("www"))));
        assert_eq!(sites.at(Some(Path::new("/else"))).unwrap_err().code, exit::CONFIG);
    }

    #[test]
    fn nothing_of_the_server_lies_where_strangers_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "{}").unwrap();
        for name in ["www/.hidden", "certs"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["config.json", "index.html", "www/index.html", "certs/index.html", "certs/server.key"] {
            write(name);
        }
        let refused = |root: &str, more: &str| {
            let text = format!(
                r#"{{ "users": [ {{ "uuid": "example", "flow": "" }} ], "fallbacks": [ {{ "dest": "builtin", "root": "{root}" }} ]
                {more} }}"#
            );
            let config = Config::parse(&text, &folder.path().join("config.json")).unwrap();
            contents(&config).err().map(|failure| {
                assert_eq!(failure.code, exit::CONFIG);
                failure.message
            })
        };
        let tls = r#", "tls": { "enabled": true }"#;
        for (root, more, file) in [
            (".", "", "config.json"),
            ("www/..", "", "config.json"),
            ("config.json", "", "config.json"),
            ("certs", tls, "certs/server.key"),
            ("www", r#", "users_file": "www/users.json""#, "www/users.json"),
            ("www", r#", "monitoring": { "state_file": "www/state.json" }"#, "www/state.json"),
            ("www", r#", "log": { "file": "www/log.txt" }"#, "www/log.txt"),
        ] {
            let message = refused(root, more).unwrap_or_else(|| panic!("{root} with {more} is served"));
            let expected = format!("{} must not be read by strangers", folder.path().join(file).display());
            assert!(message.starts_with("fallbacks[0].root: ") && message.contains(&expected), "{root}: {message}");
        }
        assert_eq!(refused("www", tls), None);
        assert_eq!(refused("certs", ""), None, "there is no TLS that would need a key");
        assert_eq!(refused("www", r#", "users_file": "www/.hidden/users.json""#), None);
    }

    #[test]
    fn a_folder_that_cannot_be_served_is_an_error_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let failure = contents(&config(folder.path(), r#"{ "dest": "builtin", "root": "nowhere" }"#)).unwrap_err();
        assert_eq!(failure.code, exit::CONFIG);
        assert!(failure.message.starts_with("fallbacks[0].root: cannot read "), "{failure}");
        fs::create_dir(folder.path().join("empty")).unwrap();
        let failure = contents(&config(folder.path(), r#"{ "dest": "builtin", "root": "empty" }"#)).unwrap_err();
        assert!(failure.message.ends_with("empty holds no index.html"), "{failure}");
    }
}
