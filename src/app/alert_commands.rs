//! What alerts run, looked at by `check`: a command that cannot be run tells nobody, and the first to notice would be
//! whoever was to be told.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::app::config::{Config, Receiver};

/// A line for everything that keeps an alert's command from running.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&folders).collect();
    let mut lines = Vec::new();
    for (rule, alert) in config.monitoring.alerts.iter().enumerate() {
        for (place, receiver) in alert.to.iter().enumerate() {
            if let Receiver::Command(words) = receiver {
                let key = format!("monitoring.alerts[{rule}].to[{place}].command");
                lines.extend(faults(words, &folders).into_iter().map(|fault| format!("{key}{fault}")));
            }
        }
    }
    lines
}

/// What is wrong with a command, each behind the key.
fn faults(words: &[String], folders: &[PathBuf]) -> Vec<String> {
    let Some((program, arguments)) = words.split_first() else { return Vec::new() };
    let mut faults: Vec<_> = program_fault(program, folders).map(|fault| format!("[0]: {fault}")).into_iter().collect();
    for (place, argument) in arguments.iter().enumerate() {
        // Such as the script that an interpreter is given.
        if argument.starts_with('/') && !Path::new(argument).exists() {
            faults.push(format!("[{}]: there is no {argument}", place + 1));
        }
    }
    faults
}

fn program_fault(program: &str, folders: &[PathBuf]) -> Option<String> {
    // No shell takes the line apart, and none looks for a name with a slash in other folders.
    let found = if program.contains('/') {
        Some(PathBuf::from(program)).filter(|file| file.exists())
    } else {
        folders.iter().map(|folder| folder.join(program)).find(|file| is_program(file))
    };
    match found {
        Some(file) if is_program(&file) => None,
        Some(file) => Some(format!("{} is not executable", file.display())),
        None if program.contains(char::is_whitespace) => {
            let words: Vec<_> = program.split_whitespace().collect();
            Some(format!("there is no program \"{program}\"; each argument is a text of its own: {words:?}"))
        }
        None if program.contains('/') => Some(format!("there is no program {program}")),
        None => Some(format!("there is no program {program} in the folders of PATH; write its whole path")),
    }
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_run_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for (name, mode) in [("tell", 0o755), ("note", 0o644)] {
            fs::write(path(name), "").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let faults_of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            faults(&words, &[folder.path().to_owned()])
        };
        assert!(faults_of(&["tell", "admin", "-v"]).is_empty());
        assert!(faults_of(&[&path("tell"), &path("note")]).is_empty());
        let (note, gone) = (path("note"), path("gone"));
        assert_eq!(faults_of(&[&note]), [format!("[0]: {note} is not executable")]);
        assert_eq!(faults_of(&[&gone, "x"]), [format!("[0]: there is no program {gone}")]);
        assert_eq!(faults_of(&["tell", "x", &gone]), [format!("[2]: there is no {gone}")]);
        assert!(faults_of(&["note"])[0].contains("there is no program note in the folders of PATH"));
        let line = "each argument is a text of its own: [\"tell\", \"admin\"]";
        assert!(faults_of(&["tell admin"])[0].ends_with(line), "{:?}", faults_of(&["tell admin"]));
    }

    #[test]
    fn every_command_of_every_rule_is_looked_at() {
        let rule = |name: &str, to: &str| {
            format!(r#"{{ "name": "{name}", "metric": "sessions_percent", "above": 1, "to": [{to}] }}"#)
        };
        let rules = [rule("a", r#""log""#), rule("b", r#""log", { "command": ["/nowhere/tell"] }"#)].join(", ");
        let text = format!(r#"{{ "users": [ {{ "uuid": "a" }} ], "monitoring": {{ "alerts": [{rules}] }} }}"#);
        let config = Config::parse(&text, Path::new("/etc/vless/config.json")).unwrap();
        let expected = "monitoring.alerts[1].to[1].command[0]: there is no program /nowhere/tell";
        assert_eq!(warnings(&config), [expected]);
    }
}
