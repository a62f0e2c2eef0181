//! The server as a service of this machine: systemd's unit, or a script for OpenRC.
//!
//! Owns installing and removing it. Every command that is run and every file that is written is told; with a dry run
//! they are only told. The unit is the one in `conf/`, with the program and the configuration of this call.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::app::config::{Config, FallbackDest};
use crate::app::exit::{self, Failure};
use crate::app::files::folder_of;

const UNIT: &str = include_str!("../../conf/vless-rust.service");
const SCRIPT: &str = include_str!("../../conf/vless-rust.openrc");
const UNIT_PATH: &str = "/etc/systemd/system/vless-rust.service";
/// What `ProtectHome=yes` in the unit hides from the service.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
const SCRIPT_PATH: &str = "/etc/init.d/vless-rust";
/// The user whom it runs as.
const USER: &str = "vless-rust";
/// The program and the configuration that the files in `conf/` name.
const PROGRAM: &str = "/usr/local/bin/vless-rust";
const CONFIG: &str = "/etc/vless-rust/config.json";

/// Names of strange files in a message.
const STRANGE_NAMED_MAX: usize = 3;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Install,
    Uninstall,
}

/// Whether it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Do,
    /// Only told.
    Tell,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Run(Vec<String>),
    Write(PathBuf, String),
    Remove(PathBuf),
}

/// Makes the server with this configuration a service, or no longer one. What was done, a line each.
///
/// # Errors
/// 77 without root; 64 where neither systemd nor OpenRC is; 78 for a wrong configuration; 69 for a command that failed.
pub fn change(change: Change, config: &Path, mode: Mode) -> Result<String, Failure> {
    let manager = Manager::detect().ok_or_else(|| {
        Failure::new(exit::USAGE, "neither systemd nor OpenRC is here: start `vless-rust run CONFIG` some other way")
    })?;
    if mode == Mode::Do && !rustix::process::geteuid().is_root() {
        return Err(Failure::new(exit::NO_PERMISSION, "a service is installed by root: try sudo, or --dry-run"));
    }
    let mut told = String::new();
    let steps = match change {
        Change::Install => {
            let config = fs::canonicalize(config).map_err(|error| Failure::reading(config, &error))?;
            let loaded = Config::load(&config)?;
            let program = env::current_exe().map_err(|error| Failure::new(exit::UNAVAILABLE, error.to_string()))?;
            let hidden = manager == Manager::Systemd;
            let hidden = in_a_home([program.clone()].into_iter().chain(files(&loaded))).filter(|_| hidden);
            let hidden = hidden.map(|path| {
                format!(
                    "the service cannot see {}: ProtectHome=yes in its unit hides home folders; move program, \
                     configuration and certificates elsewhere, such as to /usr/local/bin and /etc/vless-rust",
                    path.display()
                )
            });
            if let Some(words) = hidden.or_else(|| why_not_given_away(&loaded)) {
                match mode {
                    Mode::Do => return Err(Failure::new(exit::CONFIG, words)),
                    Mode::Tell => told.extend(["this would fail: ", &words, "\n"]),
                }
            }
            manager.install(&program, &config)
        }
        Change::Uninstall => manager.uninstall(),
    };
    for step in &steps {
        told.push_str(&step.words());
        told.push('\n');
        if mode == Mode::Do {
            step.execute()?;
        }
    }
    Ok(told)
}

/// The files that a server with this configuration reads.
pub fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = vec![config.file.clone()];
    for pair in config.tls.iter().flat_map(|tls| std::iter::once(&tls.main).chain(&tls.more)) {
        files.extend([pair.cert_file.clone(), pair.key_file.clone()]);
    }
    files
}

/// The first of these that is hidden from a service with `ProtectHome=yes`.
pub fn in_a_home(files: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    files.into_iter().find(|file| HOMES.iter().any(|home| file.starts_with(home)))
}

/// Why the folder of the configuration must not be given to the user of the service with everything in it; `None`: all
/// of it is the server's.
fn why_not_given_away(config: &Config) -> Option<String> {
    let folder = folder_of(&config.file);
    let why = match strange_entries(folder, config) {
        Ok(strange) if strange.is_empty() => return None,
        Ok(strange) => format!("holds what is not the server's ({})", strange.join(", ")),
        Err(error) => format!("cannot be listed ({error})"),
    };
    Some(format!(
        "{} {why}, and the user of the service gets the folder of the configuration with everything in it; move the \
         configuration and its files into a folder of their own, such as /etc/vless-rust",
        folder.display()
    ))
}

/// A few names of what is in `folder` and is neither named by the configuration nor made by the server beside that.
fn strange_entries(folder: &Path, config: &Config) -> io::Result<Vec<String>> {
    let own = [
        Some(&config.monitoring.state_file),
        config.users_file.as_ref(),
        config.monitoring.socket.as_ref(),
        config.log.file.as_ref(),
        config.cluster.ca_file.as_ref(),
        Some(&config.cluster.folder),
    ];
    let sites = config.fallbacks.iter().filter_map(|fallback| match &fallback.dest {
        FallbackDest::BuiltIn(root) => root.clone(),
        _ => None,
    });
    let own = files(config).into_iter().chain(own.into_iter().flatten().cloned()).chain(sites);
    // Of what lies deeper, the first folder on the way.
    let own: Vec<_> = own
        .filter_map(|path| Some(path.strip_prefix(folder).ok()?.components().next()?.as_os_str().to_owned()))
        .collect();
    let mut strange = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        // Locks, earlier versions, rotated logs and backups are named after what they belong to, with something behind.
        let is_own = own.iter().any(|own| name.as_encoded_bytes().starts_with(own.as_encoded_bytes()));
        let is_backup = Path::new(&name).extension().is_some_and(|ending| ending == "tar");
        if !is_own && !is_backup {
            strange.push(name.to_string_lossy().into_owned());
        }
        if strange.len() == STRANGE_NAMED_MAX {
            break;
        }
    }
    strange.sort();
    Ok(strange)
}

/// The settings of the present unit that another one lacks, by their names.
pub fn lacking(unit: &str) -> Vec<&'static str> {
    let names = |text: &'static str| text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    let mut lacking = Vec::new();
    for name in names(UNIT).filter(|name| !name.starts_with('#')) {
        let has = unit.lines().any(|line| line.split_once('=').is_some_and(|(known, _)| known.trim() == name));
        if !has && !lacking.contains(&name) {
            lacking.push(name);
        }
    }
    lacking
}

/// Who starts services here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manager {
    Systemd,
    OpenRc,
}

impl Manager {
    fn detect() -> Option<Self> {
        if Path::new("/run/systemd/system").exists() || Path::new("/usr/bin/systemctl").exists() {
            return Some(Self::Systemd);
        }
        Path::new("/sbin/openrc-run").exists().then_some(Self::OpenRc)
    }

    fn install(self, program: &Path, config: &Path) -> Vec<Step> {
        let folder = folder_of(config).display().to_string();
        let (program, config) = (program.display().to_string(), config.display().to_string());
        let fill = |text: &str| {
            let text = text.replace(PROGRAM, &program).replace(CONFIG, &config);
            text.replace(&folder_of(Path::new(CONFIG)).display().to_string(), &folder)
        };
        let user = format!(
            "id -u {USER} >/dev/null 2>&1 || useradd --system --home-dir {folder} --shell /usr/sbin/nologin {USER}"
        );
        let mut steps = vec![run(&["sh", "-c", &user]), run(&["chown", "-R", &format!("{USER}:"), &folder])];
        match self {
            Self::Systemd => {
                steps.push(Step::Write(UNIT_PATH.into(), fill(UNIT)));
                steps.push(run(&["systemctl", "daemon-reload"]));
                steps.push(run(&["systemctl", "enable", "--now", "vless-rust"]));
            }
            Self::OpenRc => {
                steps.push(Step::Write(SCRIPT_PATH.into(), fill(SCRIPT)));
                steps.push(run(&["chmod", "755", SCRIPT_PATH]));
                steps.push(run(&["rc-update", "add", "vless-rust", "default"]));
                steps.push(run(&["rc-service", "vless-rust", "start"]));
            }
        }
        steps
    }

    /// The configuration, the certificates and the user stay.
    fn uninstall(self) -> Vec<Step> {
        match self {
            Self::Systemd => vec![
                run(&["systemctl", "disable", "--now", "vless-rust"]),
                Step::Remove(UNIT_PATH.into()),
                run(&["systemctl", "daemon-reload"]),
            ],
            Self::OpenRc => vec![
                run(&["rc-service", "vless-rust", "stop"]),
                run(&["rc-update", "del", "vless-rust", "default"]),
                Step::Remove(SCRIPT_PATH.into()),
            ],
        }
    }
}

impl Step {
    fn words(&self) -> String {
        match self {
            Self::Run(words) => words.join(" "),
            Self::Write(path, _) => format!("write {}", path.display()),
            Self::Remove(path) => format!("remove {}", path.display()),
        }
    }

    fn execute(&self) -> Result<(), Failure> {
        match self {
            Self::Write(path, text) => fs::write(path, text).map_err(|error| Failure::writing(path, &error)),
            Self::Remove(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::writing(path, &error)),
                _ => Ok(()),
            },
            Self::Run(words) => {
                let Some((program, arguments)) = words.split_first() else { return Ok(()) };
                let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
                let why = match status {
                    Ok(status) if status.success() => return Ok(()),
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                };
                Err(Failure::new(exit::UNAVAILABLE, format!("`{}` failed: {why}", self.words())))
            }
        }
    }
}

fn run(words: &[&str]) -> Step {
    Step::Run(words.iter().map(|word| (*word).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(manager: Manager) -> String {
        let steps = manager.install(Path::new("/opt/v/vless-rust"), Path::new("/srv/proxy/my.json"));
        let written = steps.into_iter().find_map(|step| match step {
            Step::Write(_, text) => Some(text),
            _ => None,
        });
        written.unwrap()
    }

    #[test]
    fn the_unit_names_this_program_and_configuration() {
        let unit = written(Manager::Systemd);
        assert!(unit.contains("ExecStart=/opt/v/vless-rust run /srv/proxy/my.json\n"), "{unit}");
        assert!(unit.contains("ReadWritePaths=/srv/proxy\n") && !unit.contains("/etc/vless-rust"), "{unit}");
        let script = written(Manager::OpenRc);
        assert!(script.contains("/opt/v/vless-rust") && script.contains("/srv/proxy/my.json"), "{script}");
    }

    #[test]
    fn the_unit_says_what_systemd_has_to_know() {
        for line in [
            "Type=notify",
            "WatchdogSec=30",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "LimitNOFILE=1048576",
            "User=vless-rust",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            // Without netlink the server cannot ask for routes, without Unix sockets nobody can ask the server.
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        ] {
            assert!(UNIT.lines().any(|known| known == line), "{line}");
        }
    }

    #[test]
    fn only_a_folder_that_is_the_servers_own_is_given_away() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let text =
            r#"{ "users": [ { "uuid": "example" } ], "log": { "file": "proxy.log" }, "tls": { "enabled": true } }"#;
        let names = ["config.json", "users.json", "users.json.lock", "state.json.previous", "proxy.log.1", "old.tar"];
        for name in names {
            fs::write(folder.join(name), text).unwrap();
        }
        fs::create_dir(folder.join("certs")).unwrap();
        let config = Config::parse(text, &folder.join("config.json")).unwrap();
        assert_eq!(why_not_given_away(&config), None);
        for name in ["passwd", "vless-rust", "ssh", "shadow"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let words = why_not_given_away(&config).unwrap();
        assert_eq!(words.matches(", ").count(), 4, "three are named: {words}");
        let etc = Config::parse(text, Path::new("/etc/config.json")).unwrap();
        assert!(why_not_given_away(&etc).unwrap().starts_with("/etc holds what is not the server's"));
    }

    #[test]
    fn what_the_unit_hides_is_noticed() {
        let found = |path: &str| in_a_home([PathBuf::from("/usr/bin/vless-rust"), path.into()]);
        for path in ["/home/anna/config.json", "/root/config.json", "/run/user/1000/x"] {
            assert_eq!(found(path), Some(path.into()));
        }
        for path in ["/etc/vless-rust/config.json", "/homes/config.json", "/srv/home/config.json"] {
            assert_eq!(found(path), None, "{path}");
        }
        assert!(UNIT.lines().any(|line| line == "ProtectHome=yes"));
    }

    #[test]
    fn an_older_unit_lacks_what_came_later() {
        assert_eq!(lacking(UNIT), Vec::<&str>::new());
        assert_eq!(lacking(&UNIT.replace("WatchdogSec=30", "")), ["WatchdogSec"]);
        assert_eq!(lacking(&UNIT.replace("WatchdogSec=30", "WatchdogSec=60")), Vec::<&str>::new());
    }

    #[test]
    fn uninstalling_keeps_configuration_and_user() {
        let told: Vec<_> = Manager::Systemd.uninstall().iter().map(Step::words).collect();
        assert_eq!(
            told,
            [
                "systemctl disable --now vless-rust",
                "remove /etc/systemd/system/vless-rust.service",
                "systemctl daemon-reload"
            ]
        );
    }
}
