//! The first configuration.
//!
//! Owns writing a draft and the certificate that belongs to it, both or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::app::certs::LoadedCertificate;
use crate::app::config::{Config, Tls};
use crate::app::exit::{self, Failure};
use crate::app::files::create_new;
use crate::app::wizard::draft::Draft;
use crate::app::{certs, link};

/// What a new configuration comes with.
#[derive(Debug)]
pub struct Created {
    /// As it was written.
    pub config: Config,
    /// The files that were made.
    pub files: Vec<PathBuf>,
    /// The lines to import into clients, one for each user.
    pub link: String,
    /// What the links name as this server.
    pub host: String,
    /// Empty without TLS.
    pub certificates: Vec<LoadedCertificate>,
    /// What keeps clients from using the link.
    pub warnings: Vec<String>,
}

/// Writes a configuration with one user and a random id to `path`, and a self-signed certificate beside it.
///
/// # Errors
/// As [`create`].
pub fn init_with_defaults(path: &Path) -> Result<Created, Failure> {
    create(path, &Draft::default())
}

/// Writes `draft` to `path`, and the certificate that it needs, if there is none yet.
///
/// # Errors
/// 73 if there is something at `path` already, which is never touched, or if files cannot be created; 77 if that is for
/// lack of permission; 78 for a certificate that does not serve. A failure leaves nothing behind.
pub fn create(path: &Path, draft: &Draft) -> Result<Created, Failure> {
    must_be_new(path)?;
    let text = draft.to_json();
    let config = Config::parse(&text, path).map_err(|errors| Failure::new(exit::CONFIG, errors.to_string()))?;
    let host = link::host(&config);
    // The certificate first: were the configuration there and this failed, a second attempt would be refused.
    let certificates = certs::load_or_generate(&config, &host.host, SystemTime::now())?;
    let made = certificates.first().is_some_and(|certificate| certificate.generated);
    let mut files = config.tls.as_ref().filter(|_| made).map(files_of).unwrap_or_default();
    create_new(path, text.as_bytes(), 0o600).map_err(|error| {
        // Nobody has used them yet.
        for file in &files {
            let _ = fs::remove_file(file);
        }
        match error.kind() {
            io::ErrorKind::AlreadyExists => already_there(path),
            _ => Failure::writing(path, &error),
        }
    })?;
    files.insert(0, path.to_owned());
    let links = link::links(&config, &host, &certificates, None)?;
    let link = links.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let warnings = link::warnings(&config, &host, &certificates);
    Ok(Created { config, files, link, host: host.host, certificates, warnings })
}

/// # Errors
/// 73 if there is something at `path` already.
pub fn must_be_new(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() { Err(already_there(path)) } else { Ok(()) }
}

fn files_of(tls: &Tls) -> Vec<PathBuf> {
    vec![tls.main.cert_file.clone(), tls.main.key_file.clone()]
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(loaded.monitoring.admin_token.is_some());
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

    #[test]
    fn a_configuration_that_cannot_be_written_leaves_no_certificate() {
        let folder = tempfile::tempdir().unwrap();
        // The name is too long with what is put around it while it is written.
        let path = folder.path().join("x".repeat(250));
        let failure = init_with_defaults(&path).unwrap_err();
        assert_eq!(failure.code, exit::CANNOT_CREATE);
        assert_eq!(fs::read_dir(folder.path().join("certs")).unwrap().count(), 0);
    }
}
