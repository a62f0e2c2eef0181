//! The first configuration.
//!
//! Owns writing a draft and what belongs to it (accounts, certificate), all of it or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::app::certs::LoadedCertificate;
use crate::app::cluster::files::Folder;
use crate::app::cluster::joining;
use crate::app::cluster::list::List;
use crate::app::cluster::settings::Settings;
use crate::app::config::{Config, ConfigErrors, Tls, UsersFile};
use crate::app::exit::{self, Failure};
use crate::app::files::{create_new, folder_of, may_make_folder, may_write};
use crate::app::wizard::draft::{Draft, DraftTls, users_file};
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

/// Writes a configuration with one user and a random id to `path`, and users file and self-signed certificate beside
/// it.
///
/// # Errors
/// As [`create`].
pub fn init_with_defaults(path: &Path) -> Result<Created, Failure> {
    create(path, &Draft::default())
}

/// Writes `draft` to `path`, the accounts to the users file beside it, and the certificate that it needs, if there is
/// none yet.
///
/// # Errors
/// 64 or 69 if the cluster does not take this node; 73 if there is something at one of the two paths already, which is
/// never touched, or if files cannot be created; 77 if that is for lack of permission; 78 for a certificate that does
/// not serve. A failure leaves nothing behind.
pub fn create(path: &Path, draft: &Draft) -> Result<Created, Failure> {
    must_be_new(path)?;
    let text = draft.to_json(path);
    let mut made = Made(Vec::new());
    // A configuration may be without users only where there is a users file, so that comes first.
    let users_path = users_file(path);
    let users = UsersFile::parse(&draft.users_json(), &users_path, None).map_err(|errors| wrong(&errors))?;
    made.create(&users_path, &users.text())?;
    let config = Config::parse(&text, path).map_err(|errors| wrong(&errors))?;
    let users = config.read_users_file()?;
    let config = config.with_users(users)?;
    let config = joined(config, &mut made)?;
    let host = link::host(&config);
    // The certificate before the configuration: were that there and this failed, a second attempt would be refused.
    let certificates = certs::load_or_generate(&config, &host.host, SystemTime::now())?;
    if certificates.first().is_some_and(|certificate| certificate.generated) {
        made.0.extend(config.tls.as_ref().map(files_of).unwrap_or_default());
    }
    made.create(path, &text)?;
    let links = link::links(&config, &host, &certificates, None)?;
    let link = links.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let warnings = link::warnings(&config, &host, &certificates);
    Ok(Created { config, files: made.keep(), link, host: host.host, certificates, warnings })
}

/// Where the configuration is that of a node of a cluster: the engine is asked whether that works, and the accounts
/// that it has are kept for the start.
fn joined(config: Config, made: &mut Made) -> Result<Config, Failure> {
    let Some(settings) = Settings::of(&config)? else { return Ok(config) };
    let saved = joining::look(&settings)?;
    let folder = Folder::take(&settings.folder)?;
    folder.write_accounts(&saved).map_err(|error| Failure::writing(&settings.folder, &error))?;
    made.0.push(folder.accounts());
    let listed = List::new(saved, settings.flow_with_tls).listed();
    Ok(config.with_cluster(listed.version, &listed.users).0)
}

/// Files that nobody has used yet. They are removed again unless all of them are kept.
struct Made(Vec<PathBuf>);

impl Made {
    fn create(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        create_new(path, text.as_bytes(), 0o600).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_there(path),
            _ => Failure::writing(path, &error),
        })?;
        self.0.push(path.to_owned());
        Ok(())
    }

    /// The configuration first.
    fn keep(mut self) -> Vec<PathBuf> {
        self.0.rotate_right(1);
        std::mem::take(&mut self.0)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = fs::remove_file(file);
        }
    }
}

fn wrong(errors: &ConfigErrors) -> Failure {
    Failure::new(exit::CONFIG, errors.to_string())
}

/// # Errors
/// 73 if there is something at `path` already, or where its users file would be.
fn must_be_new(path: &Path) -> Result<(), Failure> {
    let there = [path.to_owned(), users_file(path)].into_iter().find(|path| path.symlink_metadata().is_ok());
    there.map_or(Ok(()), |path| Err(already_there(&path)))
}

/// Whether [`create`] can succeed with the defaults, as far as a look at the files tells: whoever is asked questions should
/// not be told only after the last of them.
///
/// # Errors
/// Those of [`create`], with the way out.
pub fn may_create(path: &Path) -> Result<(), Failure> {
    must_be_new(path)?;
    let folder = folder_of(path);
    if !folder.is_dir() {
        let shown = folder.display();
        return Err(Failure::new(
            exit::CANNOT_CREATE,
            format!("there is no folder {shown}: make it, `mkdir -p {shown}`"),
        ));
    }
    may_write(path).map_err(|error| {
        let failure = Failure::writing(path, &error);
        let shown = folder.display();
        let message =
            format!("{failure}; run as who may write in {shown}, or name another place: `vless-rust init FILE`");
        Failure::new(failure.code, message)
    })
}

/// The same for the pair of certificate and key that is made where none is named.
///
/// # Errors
/// Those of [`certs::inspect`] for a pair that is there, or half there; 73 or 77 where none can be made.
pub fn may_make_certificate(path: &Path) -> Result<(), Failure> {
    let tls = DraftTls::default();
    let [cert_file, key_file] = [tls.cert_file, tls.key_file].map(|file| folder_of(path).join(file));
    if cert_file.symlink_metadata().is_ok() || key_file.symlink_metadata().is_ok() {
        return certs::inspect(&cert_file, &key_file, SystemTime::now()).map(drop);
    }
    may_make_folder(folder_of(&cert_file)).map_err(|error| Failure::writing(&cert_file, &error))
}

fn files_of(tls: &Tls) -> Vec<PathBuf> {
    vec![tls.main.cert_file.clone(), tls.main.key_file.clone()]
}

fn already_there(path: &Path) -> Failure {
    let path = path.display();
    Failure::new(
        exit::CANNOT_CREATE,
        format!(
            "{path} exists and is not overwritten: `vless-rust link` shows the links of what is there; to begin anew, \
             move configuration and users file away, or name another configuration, such as `vless-rust init --yes \
             new.json`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    use crate::app::config::Origin;

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
        assert!(failure.message.contains("name another configuration"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(!folder.path().join("certs").exists());
    }

    #[test]
    fn a_certificate_that_cannot_be_made_leaves_no_configuration() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("certs"), "a file where the folder should be").unwrap();
        let failure = init_with_defaults(&folder.path().join("config.json")).unwrap_err();
        assert_eq!(failure.code, exit::CANNOT_CREATE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_configuration_that_cannot_be_written_leaves_no_certificate() {
        let folder = tempfile::tempdir().unwrap();
        // The name is too long with what is put around it while it is written; that of the users file is not.
        let path = folder.path().join(format!("{}.{}", "x".repeat(100), "y".repeat(149)));
        let failure = init_with_defaults(&path).unwrap_err();
        assert_eq!(failure.code, exit::CANNOT_CREATE);
        assert_eq!(fs::read_dir(folder.path().join("certs")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the folder of certificates");
    }

    #[test]
    fn the_first_user_may_be_changed_by_commands_and_two_servers_share_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let created = init_with_defaults(&path("config.json")).unwrap();
        assert_eq!(created.config.users[0].origin, Origin::UsersFile);
        assert_eq!(fs::metadata(path("users.json")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(created.files[..2], [path("config.json"), path("users.json")]);
        let second = init_with_defaults(&path("second.json")).unwrap().config;
        assert_eq!(second.users_file, Some(path("second.users.json")));
        assert_eq!(second.monitoring.state_file, path("second.state.json"));
        assert_eq!(second.monitoring.socket, Some(path("second.sock")));
    }

    #[test]
    fn accounts_of_somebody_else_are_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users.json"), "mine").unwrap();
        let failure = init_with_defaults(&folder.path().join("config.json")).unwrap_err();
        assert_eq!(failure.code, exit::CANNOT_CREATE);
        assert!(failure.message.contains("users.json exists and is not overwritten"), "{failure}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
