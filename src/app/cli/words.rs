//! The arguments, sorted by the table: which command, its operands, its options.
//!
//! Owns the rules that all commands share: an option belongs to its command, stands once, has its value.

use std::ffi::OsString;
use std::path::PathBuf;

use super::table::{self, CommandRow, OPTIONS_OF_ALL, OptionRow};
use crate::app::config::did_you_mean;
use crate::app::exit::{self, Failure};

/// Arguments that fit the table.
pub(super) struct Words {
    pub(super) command: &'static CommandRow,
    operands: std::vec::IntoIter<OsString>,
    options: Vec<(&'static OptionRow, OsString)>,
}

impl Words {
    /// # Errors
    /// 64 for whatever is not in the table.
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let (mut plain, options) = split(arguments)?;
        // A configuration alone means `run`; it is told from a misspelt command by its dot or slash.
        let lone_config = plain.len() == 1 && plain[0].to_string_lossy().contains(['.', '/']);
        let is_bare = plain.is_empty() || lone_config;
        if is_bare {
            plain.insert(0, "run".into());
        }
        let is_given = |long: &str| options.iter().any(|(row, _)| row.long == long);
        if is_given("--version") {
            plain = vec!["version".into()];
        }
        if is_given("--help") || plain[0] == "help" {
            // Only the command counts, whatever stands behind it.
            let about = plain.into_iter().find(|word| word != "help").filter(|_| !is_bare);
            plain = std::iter::once("help".into()).chain(about).collect();
        }
        let name = plain.remove(0).to_string_lossy().into_owned();
        let Some(command) = table::command(&name) else {
            return Err(no_command(&name));
        };
        let words = Self { command, operands: plain.into_iter(), options };
        words.fits()?;
        Ok(words)
    }

    /// The next operand.
    pub(super) fn operand(&mut self) -> Option<OsString> {
        self.operands.next()
    }

    /// The next operand as text.
    pub(super) fn text(&mut self) -> Option<String> {
        self.operand().map(|operand| operand.to_string_lossy().into_owned())
    }

    pub(super) fn is_given(&self, long: &str) -> bool {
        self.options.iter().any(|(row, _)| row.long == long)
    }

    pub(super) fn value(&self, long: &str) -> Option<OsString> {
        self.options.iter().find(|(row, _)| row.long == long).map(|(_, value)| value.clone())
    }

    pub(super) fn text_value(&self, long: &str) -> Option<String> {
        self.value(long).map(|value| value.to_string_lossy().into_owned())
    }

    /// The configuration, by option or as the next operand.
    pub(super) fn config_or_operand(&mut self) -> Result<Option<PathBuf>, Failure> {
        match (self.config(), self.operand()) {
            (Some(_), Some(second)) => {
                Err(usage(format!("two configurations; \"{}\" is one too many", second.to_string_lossy())))
            }
            (named, operand) => Ok(named.or(operand.map(PathBuf::from))),
        }
    }

    pub(super) fn config(&self) -> Option<PathBuf> {
        self.value("--config").map(PathBuf::from)
    }

    fn fits(&self) -> Result<(), Failure> {
        let command = self.command;
        if let Some(extra) = self.operands.as_slice().get(command.operands_max) {
            let extra = extra.to_string_lossy();
            return Err(usage(format!("too many arguments: \"{extra}\" is not expected here")));
        }
        // Whoever asks for help gets it, whatever else is there.
        if matches!(command.name, "help" | "version") {
            return Ok(());
        }
        for (row, value) in &self.options {
            if !OPTIONS_OF_ALL.contains(&row.long) && !command.options.contains(&row.long) {
                return Err(usage(format!("{} belongs to {}", row.long, table::commands_with(row.long))));
            }
            let value = value.to_string_lossy();
            if !row.words.is_empty() && !row.words.contains(&&*value) {
                return Err(usage(format!("{} must be one of {}, not \"{value}\"", row.long, row.words.join(", "))));
            }
        }
        Ok(())
    }
}

/// There is no command with this name.
pub(super) fn no_command(name: &str) -> Failure {
    let known: Vec<_> = table::COMMANDS.iter().map(|row| row.name).collect();
    usage(format!("there is no command \"{name}\"{}", did_you_mean(name, &known)))
}

fn no_option(name: &str) -> Failure {
    let known: Vec<_> = table::OPTIONS.iter().map(|row| row.long).collect();
    usage(format!("there is no option \"{name}\"{}", did_you_mean(name, &known)))
}

/// `user` does nothing that is called so.
pub(super) fn no_action(name: &str) -> Failure {
    let advice = match did_you_mean(name, table::USER_ACTIONS) {
        none if none.is_empty() => format!("; there are {}", table::USER_ACTIONS.join(", ")),
        nearest => nearest,
    };
    usage(format!("there is no \"user {name}\"{advice}"))
}

pub(super) fn usage(message: impl Into<String>) -> Failure {
    Failure::new(exit::USAGE, message)
}

type Split = (Vec<OsString>, Vec<(&'static OptionRow, OsString)>);

/// Options on one side, the rest on the other.
fn split(arguments: impl IntoIterator<Item = OsString>) -> Result<Split, Failure> {
    let (mut plain, mut options) = (Vec::new(), Vec::<(&OptionRow, OsString)>::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        if text == "--" {
            plain.extend(arguments.by_ref());
            break;
        }
        if !text.starts_with('-') || text.len() == 1 {
            plain.push(argument);
            continue;
        }
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(OsString::from(value))),
            _ => (text.as_str(), None),
        };
        let row = table::option(name).ok_or_else(|| no_option(name))?;
        let value = match (row.value, inline) {
            (None, None) => OsString::new(),
            (None, Some(_)) => return Err(usage(format!("{} takes no value", row.long))),
            (Some(_), Some(value)) => value,
            (Some(what), None) => {
                arguments.next().ok_or_else(|| usage(format!("{} needs a value: {what}", row.long)))?
            }
        };
        if options.iter().any(|(known, _)| known.long == row.long) {
            return Err(usage(format!("{} is given twice", row.long)));
        }
        options.push((row, value));
    }
    Ok((plain, options))
}
