//! What would keep the server from starting or from working, told without changing anything.
//!
//! `check` asks all of it. `run` asks for what it would otherwise notice late or not at all, so that both say the same.

use std::io;
use std::net::{IpAddr, UdpSocket};

use crate::app::config::Config;
use crate::app::exit::{self, Failure};
use crate::app::files::may_write;
use crate::app::{certs, sites};
use crate::outbound::resolve::ResolverSettings;
use crate::outbound::resolve::hosts_file::HostsFile;

/// # Errors
/// 69 if `outbound.bind` is not an address of this machine or the hosts file too long, 73 or 77 for a log file that
/// cannot be opened, and those of [`certs::may_generate`].
pub fn check(config: &Config) -> Result<(), Failure> {
    if let Some(path) = &config.log.file {
        may_write(path).map_err(|error| Failure::writing(path, &error))?;
    }
    certs::may_generate(config)?;
    sites::contents(config)?;
    hosts_file(&ResolverSettings::default().hosts)?;
    source_address(config)
}

/// Whether the hosts file can be read whole: a part of it could open names that the rest of it closes.
///
/// # Errors
/// 69 if it is too long.
pub fn hosts_file(file: &HostsFile) -> Result<(), Failure> {
    file.read().map_err(|error| Failure::new(exit::UNAVAILABLE, format!("{error}; shorten it")))
}

/// Whether connections to targets can leave from `outbound.bind`: if not, every dial fails, and nothing else shows it.
///
/// # Errors
/// 69 if not.
pub fn source_address(config: &Config) -> Result<(), Failure> {
    let Some(ip) = config.outbound.bind else { return Ok(()) };
    may_bind(ip).map_err(|error| {
        Failure::new(
            exit::UNAVAILABLE,
            format!("outbound.bind: cannot connect from {ip}: {error}; give an address of this machine, or null"),
        )
    })
}

fn may_bind(ip: IpAddr) -> io::Result<()> {
    UdpSocket::bind((ip, 0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::path::Path;

    fn checked(folder: &Path, section: &str) -> Result<(), Failure> {
        let text = format!("{{ \"users\": [ {{ \"uuid\": \"example\", \"flow\": \"\" }} ], {section} }}");
        check(&Config::parse(&text, &folder.join("config.json")).unwrap())
    }

    #[test]
    fn a_log_file_needs_a_folder_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let log = |file: &str| checked(folder.path(), &format!("\"log\": {{ \"file\": \"{file}\" }}"));
        fs::write(folder.path().join("old.log"), "").unwrap();
        assert_eq!((log("new.log"), log("old.log")), (Ok(()), Ok(())));
        for file in ["missing/new.log", "old.log/new.log", "."] {
            let failure = log(file).unwrap_err();
            assert_eq!(failure.code, exit::CANNOT_CREATE, "{failure}");
            assert!(failure.message.starts_with("cannot write "), "{failure}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
    }

    #[test]
    fn the_source_address_must_be_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let bind = |ip: &str| checked(folder.path(), &format!("\"outbound\": {{ \"bind\": \"{ip}\" }}"));
        assert_eq!(bind("127.0.0.1"), Ok(()));
        let failure = bind("203.0.113.77").unwrap_err();
        assert_eq!(failure.code, exit::UNAVAILABLE);
        assert!(failure.message.starts_with("outbound.bind: cannot connect from 203.0.113.77: "), "{failure}");
    }

    #[test]
    fn a_pair_that_is_to_be_made_needs_two_files_and_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let pair = |cert: &str, key: &str| {
            let files = format!("\"enabled\": true, \"cert_file\": \"{cert}\", \"key_file\": \"{key}\"");
            checked(folder.path(), &format!("\"tls\": {{ {files} }}"))
        };
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(pair("new/folder/a.crt", "new/folder/a.key"), Ok(()));
        let same = pair("a.pem", "a.pem").unwrap_err();
        assert_eq!(same.code, exit::CONFIG);
        assert!(same.message.contains("tls.cert_file and tls.key_file are both"), "{same}");
        let inside = pair("a.crt", "file/certs/a.key").unwrap_err();
        assert_eq!(inside.code, exit::CANNOT_CREATE);
        assert!(inside.message.contains("file/certs/a.key") && inside.message.contains("not a folder"), "{inside}");
    }
}
