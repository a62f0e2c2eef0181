//! The unit of systemd: whether it starts what is there, lets the server do what it must, and is of this version.

use std::path::PathBuf;

use super::{Findings, Place, Weight, read};
use crate::app::config::Config;
use crate::app::service::{files, in_a_home, lacking};

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
        if line("ProtectHome=").is_some_and(|value| ["yes", "true", "1", "on", "tmpfs"].contains(&value)) {
            // What stands in the command, and what the configuration names if it is the service's.
            let mut paths: Vec<_> = command.iter().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
            paths.extend(config.filter(|config| paths.contains(&config.file)).into_iter().flat_map(files));
            if let Some(path) = in_a_home(paths) {
                self.add(
                    Weight::Fault,
                    format!("the service cannot see {}: ProtectHome in its unit hides it", path.display()),
                    "move it out of the home folder, such as to /etc/vless-rust, and install the service again",
                );
            }
        }
        let lacking = lacking(&unit);
        if !lacking.is_empty() {
            let what = format!("the service is of an earlier version: its unit lacks {}", lacking.join(", "));
            self.add(Weight::Hint, what, INSTALL);
        }
    }
}
