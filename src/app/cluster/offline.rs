//! The accounts of the cluster for commands that no running server answers: those that this node has written to disk.

use std::fs;
use std::time::SystemTime;

use super::files::{accounts_file, read_accounts};
use super::list::List;
use super::settings::Settings;
use crate::app::config::Config;
use crate::app::exit::Failure;

/// `config` with the accounts of the cluster that this node served last, and what to say about that: a line each.
///
/// # Errors
/// 66 when there is such a list and it cannot be read.
pub fn with_list_on_disk(config: Config) -> Result<(Config, Vec<String>), Failure> {
    let Some(settings) = Settings::of(&config)? else { return Ok((config, Vec::new())) };
    let file = accounts_file(&settings.folder);
    let saved = read_accounts(&settings.folder).map_err(|error| Failure::reading(&file, &error))?;
    let listed = List::new(saved, settings.flow_with_tls).listed();
    let age = fs::metadata(&file).and_then(|found| found.modified()).ok();
    let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
    let note = match age {
        Some(age) => format!(
            "the accounts of the cluster are those of version {} of its list, which this node wrote to {} {} s ago; \
             the cluster was not asked",
            listed.version,
            file.display(),
            age.as_secs()
        ),
        None => format!("no accounts of the cluster are known here yet: {} does not exist", file.display()),
    };
    let (config, clashes) = config.with_cluster(listed.version, &listed.users);
    let clashes = clashes.into_iter().map(|words| format!("{words}; the account of the cluster is not served here"));
    Ok((config, std::iter::once(note).chain(clashes).collect()))
}
