//! The unit of systemd: whether it starts what is there, lets the server do what it must, and is of this version.

use std::fs;
use std::path::PathBuf;

use super::{Findings, Place, Weight, read};
use crate::app::config::Config;
use crate::app::files::folder_of;
use crate::app::service::{Account, files, in_a_home, is_in, lacking, unreadable};

/// Where units are; the first that has one counts.
const FOLDERS: [&str; 3] = ["etc/systemd/system", "lib/systemd/system", "usr/lib/systemd/system"];
const INSTALL: &str = "install it again: vless-rust service install";

impl Findings {
    pub(super) fn unit(&mut self, place: &Place<'_>, config: Option<&Config>) {
        let unit = FOLDERS.iter().find_map(|folder| read(&place.root, &format!("{folder}/vless-rust.service")));
        let Some(unit) = unit else { return };
        let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let command: Vec<_> = line("ExecStart=").unwrap_or_default().split_whitespace().collect();
        if let Some(program) = command.first().filter(|path| !place.root.join(path.trim_start_matches('/')).exists()) {
            self.add(Weight::Fault, format!("the service starts {program}, which does not exist"), INSTALL);
        }
        if line("LimitNOFILE=").is_none() {
            self.add(Weight::Fault, "the service has no LimitNOFILE: systemd allows few descriptors", INSTALL);
        }
        if line("Type=").is_none_or(|kind| !kind.starts_with("notify")) {
            self.add(
                Weight::Fault,
                "the service is not of Type=notify: systemd hears neither that the server is ready nor who takes over",
                INSTALL,
            );
        }
        let mut paths: Vec<_> = command.iter().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
        // What the configuration names matters if it is the service's.
        let is_of_service = |config: &&Config| fs::canonicalize(&config.file).is_ok_and(|file| paths.contains(&file));
        let named = config.filter(is_of_service).map(files).unwrap_or_default();
        self.readable(place, line("User=").unwrap_or("root"), &named);
        if line("ProtectHome=").is_some_and(|value| ["yes", "true", "1", "on", "tmpfs"].contains(&value)) {
            paths.extend(named);
            if let Some(path) = in_a_home(paths) {
                self.add(
                    Weight::Fault,
                    format!("the service cannot see {}: ProtectHome in its unit hides it", path.display()),
                    "move it out of the home folder, such as to /etc/vless-rust, and install the service again",
                );
            }
        }
        if !place.root.join("run/systemd/system").exists() {
            self.add(
                Weight::Hint,
                "there is a unit, and systemd does not run: nothing starts the server with the machine",
                "start `vless-rust run` some other way, or boot with systemd",
            );
        }
        let lacking = lacking(&unit);
        if !lacking.is_empty() {
            let what = format!("the service is of an earlier version: its unit lacks {}", lacking.join(", "));
            self.add(Weight::Hint, what, INSTALL);
        }
    }

    /// What the service reads must be readable by its user. A key that root has put there is what is met most.
    fn readable(&mut self, place: &Place<'_>, user: &str, files: &[PathBuf]) {
        let account = Account::named(user, &place.root);
        let folder = files.first().map(|config| folder_of(config).to_owned()).unwrap_or_default();
        for file in files.iter().filter(|file| file.exists()) {
            let Some((what, remedy)) = unreadable(file, &account) else { continue };
            let is_own = is_in(file, &folder) && account.stopped_before(&folder).is_none();
            let own = format!("give it to that user: chown -R {user}: {}", folder.display());
            self.add(Weight::Fault, what, if is_own { own } else { remedy });
        }
    }
}
