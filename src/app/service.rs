//! The server as a service of this machine: systemd's unit, or a script for OpenRC.
//!
//! Owns installing and removing it. Every command that is run and every file that is written is told; with a dry run
//! they are only told. The unit is the one in `conf/`, with the program and the configuration of this call.

mod reach;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use self::reach::Account;

use crate::app::config::{Config, FallbackDest};
use crate::app::exit::{self, Failure};
use crate::app::files::folder_of;

const UNIT: &str = include_str!("../../conf/vless-rust.service");
const SCRIPT: &str = include_str!("../../conf/vless-rust.openrc");
const UNIT_PATH: &str = "/etc/systemd/system/vless-rust.service";
/// The link by which systemd starts the unit with the machine.
const WANTED_PATH: &str = "/etc/systemd/system/multi-user.target.wants/vless-rust.service";
/// What `ProtectHome=yes` in the unit hides from the service.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
const SCRIPT_PATH: &str = "/etc/init.d/vless-rust";
/// The user whom it runs as.
pub const USER: &str = "vless-rust";
/// The program and the configuration that the files in `conf/` name.
const PROGRAM: &str = "/usr/local/bin/vless-rust";
const CONFIG: &str = "/etc/vless-rust/config.json";

const ASLEEP: &str = "systemd is here and does not run (there is no /run/systemd/system), so no service can be started: \
                      `vless-rust service install --files-only` writes its files, for when it does; or start \
                      `vless-rust run CONFIG` some other way";

/// Names of strange files in a message.
const STRANGE_NAMED_MAX: usize = 3;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It starts now, and with the machine.
    Install,
    /// Its files are written and nothing is started: for an image, a container, or a machine that is not up.
    InstallFiles,
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
/// 77 without root; 64 where neither systemd nor OpenRC is; 69 where systemd is and does not run, or for a command that
/// failed; 78 for a wrong configuration, and for files that the user of the service could not read.
pub fn change(change: Change, config: &Path, mode: Mode) -> Result<String, Failure> {
    let root = Path::new("/");
    let manager = Manager::detect(root);
    if mode == Mode::Do && !rustix::process::geteuid().is_root() {
        return Err(Failure::new(exit::NO_PERMISSION, "a service is installed by root: try sudo, or --dry-run"));
    }
    if change == Change::Uninstall {
        return uninstalled(uninstall(manager, root)?, mode);
    }
    let manager = manager.ok_or_else(nowhere)?;
    if change == Change::Install && manager == Manager::SystemdAsleep {
        return Err(Failure::new(exit::UNAVAILABLE, ASLEEP));
    }
    let mut told = String::new();
    let config = fs::canonicalize(config).map_err(|error| Failure::reading(config, &error))?;
    let loaded = Config::load(&config)?;
    let program = env::current_exe().map_err(|error| Failure::new(exit::UNAVAILABLE, error.to_string()))?;
    if let Some(words) = why_not(manager, &program, &loaded, &Account::named(USER, root)) {
        match mode {
            Mode::Do => return Err(Failure::new(exit::CONFIG, words)),
            Mode::Tell => told.extend(["this would fail: ", &words, "\n"]),
        }
    }
    let mut steps = manager.files(&program, &config);
    if change == Change::Install {
        steps.extend(manager.start());
    }
    for step in &steps {
        told.extend([step.words().as_str(), "\n"]);
        if mode == Mode::Do {
            step.execute()?;
        }
    }
    if change == Change::InstallFiles {
        told.extend(["nothing is started; it starts with the machine after: ", manager.enable(), "\n"]);
    }
    Ok(told)
}

/// Does all steps, also after one that failed: what is left of a service is worse than one that is gone in part.
fn uninstalled(steps: Vec<Step>, mode: Mode) -> Result<String, Failure> {
    let (mut told, mut failed) = (String::new(), Vec::new());
    for step in steps {
        told.extend([step.words().as_str(), "\n"]);
        if mode == Mode::Do {
            failed.extend(step.execute().err());
        }
    }
    match failed.into_iter().next() {
        None => Ok(told),
        Some(first) => Err(Failure::new(first.code, format!("the rest is removed, but {first}"))),
    }
}

fn nowhere() -> Failure {
    Failure::new(exit::USAGE, "neither systemd nor OpenRC is here: start `vless-rust run CONFIG` some other way")
}

/// Why this configuration cannot be that of a service; `None`: it can.
fn why_not(manager: Manager, program: &Path, config: &Config, user: &Account) -> Option<String> {
    let is_hiding = manager != Manager::OpenRc;
    let hidden = in_a_home([program.to_owned()].into_iter().chain(files(config))).filter(|_| is_hiding);
    let hidden = hidden.map(|path| {
        format!(
            "the service cannot see {}: ProtectHome=yes in its unit hides home folders; move program, configuration and \
             certificates elsewhere, such as to /usr/local/bin and /etc/vless-rust",
            path.display()
        )
    });
    hidden.or_else(|| why_not_given_away(config)).or_else(|| {
        // What is in the folder of the configuration is given to the user.
        let folder = folder_of(&config.file);
        let elsewhere = files(config).into_iter().filter(|file| !is_in(file, folder));
        let unreadable = [program.to_owned()].into_iter().chain(elsewhere).find_map(|file| unreadable(&file, user));
        unreadable
            .or_else(|| user.stopped_before(folder).map(|at| closed(folder, &at)))
            .map(|(what, remedy)| format!("{what}; {remedy}"))
    })
}

/// Whether `file` is in `folder`, or deeper, whatever it is called by.
pub fn is_in(file: &Path, folder: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(file).starts_with(real(folder))
}

/// What keeps `user`, whom the service runs as, from reading `path`, and the way out; `None`: nothing does, or only root
/// can tell.
pub fn unreadable(path: &Path, user: &Account) -> Option<(String, String)> {
    let at = user.stopped_at(path)?;
    if at != path {
        return Some(closed(path, &at));
    }
    let (shown, name) = (path.display(), user.name());
    let what = format!("{name}, the user of the service, cannot read {shown}");
    let remedy = format!(
        "copy it into the folder of the configuration (for certbot: the hook in conf/README.md, Certificates), or let that \
         user in: setfacl -m u:{name}:r {shown}"
    );
    Some((what, remedy))
}

/// The same for a folder on the way.
fn closed(path: &Path, at: &Path) -> (String, String) {
    let (shown, at) = (path.display(), at.display());
    (
        format!("{USER}, the user of the service, cannot reach {shown}: {at} keeps it out"),
        format!(
            "copy it to where others may look (for certbot: the hook in conf/README.md, Certificates), or let that user \
             through: setfacl -m u:{USER}:x {at}"
        ),
    )
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
    /// Its programs are here, and it is not what runs this machine: so it is in a container, or below another root.
    SystemdAsleep,
    OpenRc,
}

impl Manager {
    fn detect(root: &Path) -> Option<Self> {
        let is_there = |path: &str| root.join(path).exists();
        // As sd_booted(3) tells it.
        if is_there("run/systemd/system") {
            return Some(Self::Systemd);
        }
        if is_there("sbin/openrc-run") {
            return Some(Self::OpenRc);
        }
        is_there("usr/bin/systemctl").then_some(Self::SystemdAsleep)
    }

    /// The user, and the file that makes it a service.
    fn files(self, program: &Path, config: &Path) -> Vec<Step> {
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
            Self::Systemd | Self::SystemdAsleep => steps.push(Step::Write(UNIT_PATH.into(), fill(UNIT))),
            Self::OpenRc => {
                steps.push(Step::Write(SCRIPT_PATH.into(), fill(SCRIPT)));
                steps.push(run(&["chmod", "755", SCRIPT_PATH]));
            }
        }
        steps
    }

    /// Now, and with the machine.
    fn start(self) -> Vec<Step> {
        match self {
            Self::Systemd | Self::SystemdAsleep => {
                vec![run(&["systemctl", "daemon-reload"]), run(&["systemctl", "enable", "--now", "vless-rust"])]
            }
            Self::OpenRc => {
                vec![run(&["rc-update", "add", "vless-rust", "default"]), run(&["rc-service", "vless-rust", "start"])]
            }
        }
    }

    /// What has it start with the machine.
    fn enable(self) -> &'static str {
        match self {
            Self::Systemd | Self::SystemdAsleep => "systemctl enable vless-rust",
            Self::OpenRc => "rc-update add vless-rust default",
        }
    }
}

/// What removes the service, whoever it was installed for. The configuration, the certificates and the user stay.
///
/// # Errors
/// 64 where there is nobody whom it could have been installed for, and nothing of it.
fn uninstall(manager: Option<Manager>, root: &Path) -> Result<Vec<Step>, Failure> {
    // A link that leads nowhere is there, too.
    let is_there = |path: &str| root.join(path.trim_start_matches('/')).symlink_metadata().is_ok();
    let left: Vec<_> = [UNIT_PATH, WANTED_PATH, SCRIPT_PATH].into_iter().filter(|path| is_there(path)).collect();
    let (before, after) = match manager {
        Some(Manager::Systemd) => {
            (vec![run(&["systemctl", "disable", "--now", "vless-rust"])], vec![run(&["systemctl", "daemon-reload"])])
        }
        Some(Manager::OpenRc) if left.contains(&SCRIPT_PATH) => (
            vec![run(&["rc-service", "vless-rust", "stop"]), run(&["rc-update", "del", "vless-rust", "default"])],
            Vec::new(),
        ),
        None if left.is_empty() => return Err(nowhere()),
        _ => (Vec::new(), Vec::new()),
    };
    let removed = left.into_iter().map(|path| Step::Remove(path.into()));
    Ok(before.into_iter().chain(removed).chain(after).collect())
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
mod tests;
