//! The command line: arguments in, [`Command`] out.
//!
//! Owns the words and the help text. Does nothing itself and looks at no file.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::app::exit::{self, Failure};

/// What the operator wants. A configuration of `None` means `config.json` in the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run {
        /// The configuration to use.
        config: Option<PathBuf>,
    },
    /// Validate and show the effective configuration.
    Check {
        /// The configuration to use.
        config: Option<PathBuf>,
    },
    /// Write a new configuration.
    Init {
        /// Where to.
        config: Option<PathBuf>,
        /// Take every default instead of asking.
        yes: bool,
    },
    /// Print share links.
    Link {
        /// The configuration to use.
        config: Option<PathBuf>,
        /// Whose; none = everybody's.
        email: Option<String>,
    },
    /// Print the version.
    Version,
    /// Print [`HELP`].
    Help,
}

/// What `help` prints on stdout, and a wrong command line on stderr.
pub const HELP: &str = "\
VLESS-Rust, a VLESS proxy server

usage: vless-rust [COMMAND] [OPTIONS]

  [run] [CONFIG]        serve; without a configuration: `init --yes`, then serve
  check [CONFIG]        validate the configuration and print what is in effect
  init --yes [CONFIG]   write a configuration: random id, self-signed certificate,
                        port 8443; prints the link to import into a client
  link [EMAIL]          print the share links of all users, or of one
  version               print the version
  help                  print this text

  -c, --config CONFIG   the configuration, for every command; default config.json
  -h, --help            same as help
  -V, --version         same as version

exit codes: 0 success, 64 wrong command line, 66 file not found, 69 port in use,
73 cannot create a file, 77 no permission, 78 wrong configuration
";

/// Reads the arguments, without the program's own name.
///
/// # Errors
/// 64 with what is wrong; the caller adds [`HELP`].
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Failure> {
    let words = Words::read(arguments)?;
    if words.help {
        return Ok(Command::Help);
    }
    if words.version {
        return Ok(Command::Version);
    }
    let mut plain = words.plain.into_iter();
    let mut command = plain.next().unwrap_or_else(|| "run".into());
    let mut operand = plain.next();
    // A configuration alone means `run`; it is told from a misspelt command by its dot or slash.
    if operand.is_none() && command.to_string_lossy().contains(['.', '/']) {
        operand = Some(std::mem::replace(&mut command, "run".into()));
    }
    let command = command.to_string_lossy().into_owned();
    let unexpected =
        |extra: OsString| usage(format!("too many arguments: \"{}\" is not expected here", extra.to_string_lossy()));
    if let Some(extra) = plain.next() {
        return Err(unexpected(extra));
    }
    if words.yes && command != "init" {
        return Err(usage("--yes belongs to init"));
    }
    let config = |named: Option<PathBuf>, operand: Option<OsString>| match (named, operand) {
        (Some(_), Some(second)) => {
            Err(usage(format!("two configurations; \"{}\" is one too many", second.to_string_lossy())))
        }
        (named, operand) => Ok(named.or(operand.map(PathBuf::from))),
    };
    match command.as_str() {
        "run" => Ok(Command::Run { config: config(words.config, operand)? }),
        "check" => Ok(Command::Check { config: config(words.config, operand)? }),
        "init" => Ok(Command::Init { config: config(words.config, operand)?, yes: words.yes }),
        "link" => {
            let email = operand.map(|email| email.to_string_lossy().into_owned());
            Ok(Command::Link { config: words.config, email })
        }
        "version" => operand.map_or(Ok(Command::Version), |extra| Err(unexpected(extra))),
        "help" => Ok(Command::Help),
        "user" | "probe" => Err(usage(format!("{command} is not built yet"))),
        other => Err(usage(format!("there is no command \"{other}\""))),
    }
}

/// Arguments sorted into options and the rest.
#[derive(Default)]
struct Words {
    plain: Vec<OsString>,
    config: Option<PathBuf>,
    yes: bool,
    help: bool,
    version: bool,
}

impl Words {
    fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let mut words = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("-c" | "--config") => {
                    let path = arguments.next().ok_or_else(|| usage("--config needs the path of a file"))?;
                    words.name_config(path.into())?;
                }
                Some(text) if text.starts_with("--config=") => words.name_config(text["--config=".len()..].into())?,
                Some("-y" | "--yes") => words.yes = true,
                Some("-h" | "--help") => words.help = true,
                Some("-V" | "--version") => words.version = true,
                Some("--qr") => return Err(usage("--qr is not built yet")),
                Some("--") => words.plain.extend(arguments.by_ref()),
                Some(text) if text.starts_with('-') && text.len() > 1 => {
                    return Err(usage(format!("there is no option \"{text}\"")));
                }
                _ => words.plain.push(argument),
            }
        }
        Ok(words)
    }

    fn name_config(&mut self, path: PathBuf) -> Result<(), Failure> {
        match self.config.replace(path) {
            None => Ok(()),
            Some(_) => Err(usage("--config is given twice")),
        }
    }
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(exit::USAGE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn path(text: &str) -> PathBuf {
        PathBuf::from(text)
    }

    #[test]
    fn nothing_means_run_with_the_default() {
        assert_eq!(parsed(""), Ok(Command::Run { config: None }));
        assert_eq!(parsed("run"), Ok(Command::Run { config: None }));
    }

    #[test]
    fn a_configuration_may_stand_alone_or_behind_its_command() {
        for line in ["my.json", "run my.json", "-c my.json", "run --config my.json", "--config=my.json run"] {
            assert_eq!(parsed(line), Ok(Command::Run { config: Some(path("my.json")) }), "{line}");
        }
        assert_eq!(parsed("/etc/vless"), Ok(Command::Run { config: Some(path("/etc/vless")) }));
        assert_eq!(parsed("check a.json"), Ok(Command::Check { config: Some(path("a.json")) }));
    }

    #[test]
    fn init_and_link_take_their_arguments() {
        assert_eq!(parsed("init --yes"), Ok(Command::Init { config: None, yes: true }));
        assert_eq!(parsed("init a.json"), Ok(Command::Init { config: Some(path("a.json")), yes: false }));
        assert_eq!(parsed("link"), Ok(Command::Link { config: None, email: None }));
        assert_eq!(
            parsed("link me@example.com -c a.json"),
            Ok(Command::Link { config: Some(path("a.json")), email: Some("me@example.com".into()) })
        );
    }

    #[test]
    fn help_and_version_have_three_spellings_each() {
        for line in ["help", "--help", "-h", "run --help"] {
            assert_eq!(parsed(line), Ok(Command::Help));
        }
        for line in ["version", "--version", "-V"] {
            assert_eq!(parsed(line), Ok(Command::Version));
        }
    }

    #[test]
    fn wrong_command_lines_exit_with_64_and_say_why() {
        for (line, why) in [
            ("chekc", "no command \"chekc\""),
            ("--banana", "no option \"--banana\""),
            ("run a.json b.json", "too many"),
            ("version extra", "\"extra\" is not expected here"),
            ("run a.json -c b.json", "two configurations"),
            ("-c a.json -c b.json", "given twice"),
            ("run -c", "needs the path"),
            ("run --yes", "belongs to init"),
            ("user list", "not built yet"),
            ("link --qr", "not built yet"),
        ] {
            let failure = parsed(line).unwrap_err();
            assert_eq!(failure.code, exit::USAGE);
            assert!(failure.message.contains(why), "{line}: {failure}");
        }
    }
}
