//! The sites that fallbacks lead to: read from their folders and served, one for each folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::config::{Config, FallbackDest};
use crate::app::exit::{self, Failure};
use crate::session::BuiltIn;
use crate::site::{Content, LoadedSite};

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
        let content = match root {
            Some(root) => Content::load(root)
                .map_err(|error| Failure::new(exit::CONFIG, format!("fallbacks[{position}].root: {error}")))?,
            None => Content::plain(),
        };
        contents.push((root.clone(), content));
    }
    Ok(contents)
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
