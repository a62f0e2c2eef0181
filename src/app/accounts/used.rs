//! What accounts have used, in the state file of a server that does not run.
//!
//! A running server keeps this in its ledgers and writes the file over, so whoever calls has found that none runs. The file
//! is changed under the lock of the users file. One that cannot be read is not touched.

use std::fs;
use std::io;

use serde_json::{Map, Value};

use super::store::lock;
use crate::app::certs::hex;
use crate::app::clock::unix_time;
use crate::app::config::Config;
use crate::app::exit::{self, Failure};
use crate::control::state::file;
use crate::protocol::user_id::mask;
use crate::stats::Notes;

/// Says what each of these ids has used from now on.
///
/// # Errors
/// 78 for a state file that cannot be read, 73 or 77 if it cannot be written.
pub fn set(config: &Config, used: &[([u8; 16], u64)]) -> Result<(), Failure> {
    change(config, |accounts| {
        for (id, used_bytes) in used {
            let notes = Notes { used_bytes: *used_bytes, warned: 0, ..notes_of(accounts, *id) };
            keep(accounts, *id, notes);
        }
    })
}

/// An account has another id: it goes on where the old one was.
///
/// # Errors
/// As [`set`].
pub fn carry_over(config: &Config, old: [u8; 16], new: [u8; 16]) -> Result<(), Failure> {
    change(config, |accounts| {
        let notes = notes_of(accounts, old);
        keep(accounts, new, notes);
    })
}

fn change(config: &Config, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), Failure> {
    let path = &config.monitoring.state_file;
    let _lock = match &config.users_file {
        Some(users) => Some(lock(users).map_err(|error| Failure::writing(users, &error))?),
        None => None,
    };
    let mut saved = match fs::read(path).and_then(|bytes| file::decode(&bytes)) {
        Ok(saved) => saved,
        // A crash may have left nothing but a copy beside it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => file::load(path, unix_time()).saved,
        Err(error) => {
            let path = path.display();
            return Err(Failure::new(exit::CONFIG, format!("{path}: what was used is in there, and {error}")));
        }
    };
    let mut accounts = saved.accounts.as_object().cloned().unwrap_or_default();
    change(&mut accounts);
    let accounts = Value::Object(accounts);
    if saved.accounts == accounts || (saved.accounts.is_null() && accounts == Value::Object(Map::new())) {
        return Ok(());
    }
    saved.accounts = accounts;
    file::write(path, &saved).map_err(|error| Failure::writing(path, &error))
}

fn notes_of(accounts: &Map<String, Value>, id: [u8; 16]) -> Notes {
    let notes = accounts.get(&hex(&mask(id))).cloned();
    notes.and_then(|notes| serde_json::from_value(notes).ok()).unwrap_or_default()
}

fn keep(accounts: &mut Map<String, Value>, id: [u8; 16], notes: Notes) {
    if notes == Notes::default() {
        accounts.remove(&hex(&mask(id)));
    } else {
        accounts.insert(hex(&mask(id)), serde_json::to_value(notes).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::app::backend::notes;
    use crate::stats::Ledgers;

    const ID: [u8; 16] = [7; 16];

    fn config(folder: &std::path::Path) -> Config {
        let text = r#"{ "users": [ { "uuid": "example", "email": "a" } ] }"#;
        Config::parse(text, &folder.join("config.json")).unwrap()
    }

    fn used(config: &Config, id: [u8; 16]) -> u64 {
        let ledgers = Ledgers::new(1);
        notes::restore(&ledgers, &file::load(&config.monitoring.state_file, 0).saved.accounts);
        ledgers.of(mask(id)).used_bytes()
    }

    #[test]
    fn what_was_set_is_what_the_next_server_counts_from_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        set(&config, &[(ID, 0)]).unwrap();
        assert!(!config.monitoring.state_file.exists(), "there was nothing to change");
        set(&config, &[(ID, 500), ([8; 16], 7)]).unwrap();
        let mut saved = file::load(&config.monitoring.state_file, 0).saved;
        saved.upload_bytes = 99;
        file::write(&config.monitoring.state_file, &saved).unwrap();
        assert_eq!((used(&config, ID), used(&config, [8; 16])), (500, 7));
        set(&config, &[(ID, 0)]).unwrap();
        assert_eq!((used(&config, ID), used(&config, [8; 16])), (0, 7));
        carry_over(&config, [8; 16], [9; 16]).unwrap();
        assert_eq!(used(&config, [9; 16]), 7);
        assert_eq!(file::load(&config.monitoring.state_file, 0).saved.upload_bytes, 99);
    }

    #[test]
    fn a_crash_that_left_only_a_copy_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let path = &config.monitoring.state_file;
        set(&config, &[([8; 16], 7)]).unwrap();
        for ending in [".previous", ".new"] {
            fs::rename(path, path.with_file_name(format!("state.json{ending}"))).unwrap();
            set(&config, &[(ID, 500)]).unwrap();
            assert_eq!((used(&config, ID), used(&config, [8; 16])), (500, 7), "{ending}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_read_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        fs::write(&config.monitoring.state_file, "torn").unwrap();
        assert_eq!(set(&config, &[(ID, 5)]).unwrap_err().code, exit::CONFIG);
        assert_eq!(fs::read_to_string(&config.monitoring.state_file).unwrap(), "torn");
    }
}
