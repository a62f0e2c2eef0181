//! The first configuration, made without asking.
//!
//! Owns what a newcomer's file contains. Only keys that they need are written; everything else has a default.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use uuid::Uuid;

use crate::app::config::Config;
use crate::app::exit::{self, Failure};
use crate::app::files::create_new;
use crate::app::{certs, link};

/// The account's flow, which every current client speaks.
const FLOW: &str = "xtls-rprx-vision";
/// Needs no privilege, and is a port that browsers and firewalls know for HTTPS.
const PORT: u16 = 8443;

/// What a new configuration comes with.
#[derive(Debug)]
pub struct Created {
    /// As it was written.
    pub config: Config,
    /// The line to import into a client.
    pub link: String,
    /// What keeps clients from using the link.
    pub warnings: Vec<String>,
}

/// Writes a configuration with one user and a random id to `path`, and a self-signed certificate beside it.
///
/// # Errors
/// 73 if there is something at `path` already, which is never touched, or if files cannot be created; 77 if that is for
/// lack of permission. A failure leaves no configuration behind.
pub fn init_with_defaults(path: &Path) -> Result<Created, Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(already_there(path));
    }
    let text = text(Uuid::new_v4());
    let config = Config::parse(&text, path).map_err(|errors| Failure::new(exit::CONFIG, errors.to_string()))?;
    let host = link::host(&config);
    // The certificate first: were the configuration there and this failed, a second attempt would be refused.
    let certificates = certs::load_or_generate(&config, &host.host, SystemTime::now())?;
    create_new(path, text.as_bytes(), 0o600).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => already_there(path),
        _ => Failure::writing(path, &error),
    })?;
    let links = link::links(&config, &host, &certificates, None)?;
    let link = links.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let warnings = link::warnings(&config, &host, &certificates);
    Ok(Created { config, link, warnings })
}

fn already_there(path: &Path) -> Failure {
    let path = path.display();
    Failure::new(
        exit::CANNOT_CREATE,
        format!(
            "{path} exists and is not overwritten: `vless-rust link -c {path}` shows its links; to begin anew, move it \
             away or name another file, such as `vless-rust init --yes new.json`"
        ),
    )
}

fn text(id: Uuid) -> String {
    format!(
        r#"{{
  "server": {{
    "listen": "0.0.0.0",
    "port": {PORT}
  }},
  "users": [
    {{
      "uuid": "{id}",
      "email": "user1@example.com",
      "flow": "{FLOW}"
    }}
  ],
  "tls": {{
    "enabled": true,
    "cert_file": "certs/server.crt",
    "key_file": "certs/server.key",
    "server_name": "localhost"
  }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_first_configuration_is_written_with_a_working_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let created = init_with_defaults(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = Config::load(&path).unwrap();
        assert_eq!(loaded.server.port, 8443);
        assert_eq!(loaded.users[0].email, "user1@example.com");
        assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
        assert!(created.link.starts_with(&format!("vless://{}@", loaded.users[0].id_text())));
        assert!(
            created.link.contains(":8443?encryption=none&flow=xtls-rprx-vision&security=tls&sni=localhost"),
            "{}",
            created.link
        );
        assert!(created.link.contains("&pcs="));
        assert_eq!(certs::load_existing(&loaded, SystemTime::now()).unwrap().len(), 1);
    }

    #[test]
    fn two_first_configurations_have_different_ids() {
        let folder = tempfile::tempdir().unwrap();
        let id = |name: &str| init_with_defaults(&folder.path().join(name)).unwrap().config.users[0].id;
        assert_ne!(id("a.json"), id("b.json"));
    }

    #[test]
    fn an_existing_file_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, "mine").unwrap();
        let failure = init_with_defaults(&path).unwrap_err();
        assert_eq!(failure.code, exit::CANNOT_CREATE);
        assert!(failure.message.contains("name another file"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(!folder.path().join("certs").exists());
    }

    #[test]
    fn a_certificate_that_cannot_be_made_leaves_no_configuration() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("certs"), "a file where the folder should be").unwrap();
        let failure = init_with_defaults(&folder.path().join("config.json")).unwrap_err();
        assert_eq!(failure.code, exit::CANNOT_CREATE);
        assert!(!folder.path().join("config.json").exists());
    }
}
