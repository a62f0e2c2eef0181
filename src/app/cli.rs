//! The command line: arguments in, [`Command`] out.
//!
//! Owns what each command means; [`table`] has the words. Does nothing itself and looks at no file.

mod joining;
pub mod table;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;

use self::words::Words;
use crate::app::ask::{Ask, Cut, Shape};
use crate::app::backup::Over;
use crate::app::client_configs::Format;
use crate::app::exit::Failure;
use crate::app::probe::Wishes;
use crate::app::service::{Change, Mode};
use crate::app::user::{self, Action, wishes};
use crate::app::wizard::Lang;

pub use self::joining::Joining;
pub use self::table::help;

/// What the operator wants. A configuration of `None` means `config.json` in the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run {
        /// The configuration to use.
        config: Option<PathBuf>,
        /// The language of the questions that are asked without one; none = that of the terminal.
        lang: Option<Lang>,
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
        /// Who answers the questions.
        answers: Answerer,
        /// The language to ask in; none = that of the terminal.
        lang: Option<Lang>,
    },
    /// Print what clients import.
    Link {
        /// The configuration to use.
        config: Option<PathBuf>,
        /// Whose; none = everybody's.
        email: Option<String>,
        /// What to print.
        format: Format,
        /// Draw it as a QR code, too.
        qr: bool,
    },
    /// See or change accounts.
    User {
        /// The configuration they belong to.
        config: Option<PathBuf>,
        /// What is to be done.
        action: Action,
        /// How the answer is written.
        shape: user::Shape,
    },
    /// Ask the running server.
    Ask {
        /// The configuration it runs with.
        config: Option<PathBuf>,
        /// What.
        ask: Ask,
        /// How the answer is written.
        shape: Shape,
    },
    /// Act as a client.
    Probe { link: String, wishes: Wishes, shape: Shape },
    /// Look for what is wrong.
    Doctor {
        /// The configuration to look at.
        config: Option<PathBuf>,
        shape: Shape,
    },
    /// Write everything to one file.
    Backup {
        /// The configuration of the server.
        config: Option<PathBuf>,
        file: PathBuf,
    },
    /// Put it back.
    Restore {
        /// Where the configuration is to be.
        config: Option<PathBuf>,
        file: PathBuf,
        over: Over,
        mode: Mode,
    },
    /// Install or remove the service.
    Service {
        /// The configuration it is to serve.
        config: Option<PathBuf>,
        change: Change,
        mode: Mode,
    },
    /// Print completions of a shell.
    Completions(String),
    /// Print the manual page.
    Man,
    /// Print the version.
    Version,
    /// Print the help: of this command, or of all.
    Help(Option<&'static str>),
}

/// Who answers the questions of `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answerer {
    /// Whoever is at standard input.
    Person,
    /// Nobody: every default is taken.
    Defaults,
    /// A file.
    File(PathBuf),
    /// Nobody: the server is to be a node of a cluster.
    Join(Joining),
}

/// Reads the arguments, without the program's own name.
///
/// # Errors
/// 64 with what is wrong; the caller adds [`help`].
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Failure> {
    let mut words = Words::read(arguments)?;
    match words.command.name {
        "run" => Ok(Command::Run { config: words.config_or_operand()?, lang: lang(&words) }),
        "check" => Ok(Command::Check { config: words.config_or_operand()? }),
        "init" => init(&mut words),
        "link" => link(&mut words),
        "user" => user(&mut words),
        "status" => Ok(asking(&words, Ask::Status)),
        "reload" => Ok(asking(&words, Ask::reload(words.is_given("--all-nodes")))),
        "online" => Ok(asking(&words, Ask::Online { user: words.text_value("--user") })),
        "nodes" => nodes(&mut words),
        "upgrade" => Ok(asking(&words, Ask::Upgrade)),
        "connections" => connections(&words),
        "cut" => cut(&mut words),
        "probe" => probe(&mut words),
        "doctor" => Ok(Command::Doctor { config: words.config(), shape: shape(&words) }),
        "backup" => Ok(Command::Backup { config: words.config(), file: file(&mut words, "backup")? }),
        "restore" => restore(&mut words),
        "service" => service(&mut words),
        "completions" => completions(&mut words),
        "man" => Ok(Command::Man),
        "version" => Ok(Command::Version),
        _ => help_of(&mut words),
    }
}

/// Whether these arguments ask for JSON, as far as they can be understood: what is wrong with them is told as such, too.
pub fn wants_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Whoever asks for help with a command that does not exist is told so.
fn help_of(words: &mut Words) -> Result<Command, Failure> {
    let Some(name) = words.text() else { return Ok(Command::Help(None)) };
    let row = table::command(&name).ok_or_else(|| words::no_command(&name))?;
    Ok(Command::Help(Some(row.name)))
}

fn init(words: &mut Words) -> Result<Command, Failure> {
    let answers = match (words.is_given("--yes"), words.value("--answers")) {
        (true, Some(_)) => return Err(words::usage("--yes takes every default, so --answers is one too many")),
        (true, None) => Answerer::Defaults,
        (false, Some(file)) => Answerer::File(file.into()),
        (false, None) => Answerer::Person,
    };
    let answers = match (Joining::read(words)?, answers) {
        (None, answers) => answers,
        (Some(joining), Answerer::Person | Answerer::Defaults) => Answerer::Join(joining),
        (Some(_), _) => return Err(words::usage("--join asks nothing, so --answers is one too many")),
    };
    Ok(Command::Init { config: words.config_or_operand()?, answers, lang: lang(words) })
}

fn lang(words: &Words) -> Option<Lang> {
    words.text_value("--lang").map(|lang| Lang::of(&lang))
}

fn link(words: &mut Words) -> Result<Command, Failure> {
    let format = words.text_value("--format").and_then(|format| Format::of(&format)).unwrap_or_default();
    let qr = words.is_given("--qr");
    if qr && format != Format::Vless {
        return Err(words::usage("--qr draws a link; leave --format out"));
    }
    Ok(Command::Link { config: words.config(), email: words.text(), format, qr })
}

fn user(words: &mut Words) -> Result<Command, Failure> {
    let shape = if words.is_given("--json") { user::Shape::Json } else { user::Shape::Words };
    let (config, given) = (words.config(), values(words));
    let action =
        words.text().ok_or_else(|| words::usage(format!("user needs one of {}", table::USER_ACTIONS.join(", "))))?;
    if !given.is_empty() && !matches!(action.as_str(), "add" | "set") {
        return Err(words::usage(format!("{} belongs to user add and user set", given[0].0)));
    }
    if words.is_given("--dry-run") && action != "import" {
        return Err(words::usage("--dry-run belongs to user import"));
    }
    let name = words.operand();
    if action == "list" {
        return match name {
            None => Ok(Command::User { config, action: Action::List, shape }),
            Some(extra) => Err(words::usage(format!("\"{}\" is not expected here", extra.to_string_lossy()))),
        };
    }
    if !table::USER_ACTIONS.contains(&action.as_str()) {
        return Err(words::no_action(&action));
    }
    let what = if action == "import" { "the file to import" } else { "the name of an account" };
    let name = name.ok_or_else(|| words::usage(format!("user {action} needs {what}")))?;
    let email = name.to_string_lossy().into_owned();
    let action = match action.as_str() {
        "show" => Action::Show(email),
        "add" => Action::Add(email, given),
        "set" if given.is_empty() => {
            return Err(words::usage("user set needs at least one option, such as --quota 10GB"));
        }
        "set" => Action::Set(email, given),
        "enable" => Action::Enable(email, true),
        "disable" => Action::Enable(email, false),
        "reset" => Action::Reset(email),
        "rotate" => Action::Rotate(email),
        "remove" => Action::Remove(email),
        "import" => Action::Import(name.into(), words.is_given("--dry-run")),
        other => return Err(words::no_action(other)),
    };
    Ok(Command::User { config, action, shape })
}

/// The options that set something of an account, with their texts.
fn values(words: &Words) -> Vec<(String, String)> {
    let given = |long: &'static str| words.text_value(long).map(|text| (long.to_owned(), text));
    wishes::option_names().filter_map(given).collect()
}

fn asking(words: &Words, ask: Ask) -> Command {
    Command::Ask { config: words.config(), ask, shape: shape(words) }
}

fn shape(words: &Words) -> Shape {
    if words.is_given("--json") { Shape::Json } else { Shape::Words }
}

fn probe(words: &mut Words) -> Result<Command, Failure> {
    let link = words.text().ok_or_else(|| words::usage("probe needs the LINK; put it in quotes"))?;
    let mut wishes = Wishes::default();
    if let Some(target) = words.text_value("--via") {
        wishes.target = target;
    }
    if let Some(dns) = words.text_value("--dns") {
        wishes.dns = dns.parse().map_err(|_| words::usage("--dns needs an address and a port, such as 9.9.9.9:53"))?;
    }
    Ok(Command::Probe { link, wishes, shape: shape(words) })
}

fn restore(words: &mut Words) -> Result<Command, Failure> {
    let over = if words.is_given("--force") { Over::Replace } else { Over::Refuse };
    let file = file(words, "restore")?;
    Ok(Command::Restore { config: words.config(), file, over, mode: mode(words) })
}

fn file(words: &mut Words, command: &str) -> Result<PathBuf, Failure> {
    let file = words.operand().map(PathBuf::from);
    file.ok_or_else(|| words::usage(format!("{command} needs the FILE that holds everything, such as vless-rust.tar")))
}

fn mode(words: &Words) -> Mode {
    if words.is_given("--dry-run") { Mode::Tell } else { Mode::Do }
}

fn service(words: &mut Words) -> Result<Command, Failure> {
    let change = match (words.text().as_deref(), words.is_given("--files-only")) {
        (Some("install"), false) => Change::Install,
        (Some("install"), true) => Change::InstallFiles,
        (Some("uninstall"), false) => Change::Uninstall,
        (Some("uninstall"), true) => return Err(words::usage("--files-only belongs to service install")),
        _ => return Err(words::usage("service needs install or uninstall")),
    };
    Ok(Command::Service { config: words.config(), change, mode: mode(words) })
}

fn completions(words: &mut Words) -> Result<Command, Failure> {
    let shell = words.text().filter(|shell| ["bash", "zsh", "fish"].contains(&shell.as_str()));
    shell.map(Command::Completions).ok_or_else(|| words::usage("completions needs bash, zsh or fish"))
}

fn connections(words: &Words) -> Result<Command, Failure> {
    let names = [("--user", "user"), ("--source", "source"), ("--target", "target"), ("--limit", "limit")];
    let given = names.iter().filter_map(|(long, key)| words.text_value(long).map(|value| (*key, value)));
    let filters: Vec<_> = given.collect();
    let limit = filters.iter().find(|(key, _)| *key == "limit");
    if limit.is_some_and(|(_, value)| value.parse::<u32>().is_err()) {
        return Err(words::usage("--limit needs a whole number"));
    }
    Ok(asking(words, Ask::Connections { filters }))
}

fn nodes(words: &mut Words) -> Result<Command, Failure> {
    let ask = match (words.text().as_deref(), words.text()) {
        (None, _) => Ask::Nodes,
        (Some("forget"), Some(node)) => Ask::ForgetNode(node),
        (Some("forget"), None) => return Err(words::usage("nodes forget needs the NAME of a node")),
        (Some(other), _) => return Err(words::usage(format!("there is no \"nodes {other}\"; there is forget NAME"))),
    };
    Ok(asking(words, ask))
}

fn cut(words: &mut Words) -> Result<Command, Failure> {
    let cut = match (words.text(), words.text_value("--user"), words.text_value("--source")) {
        (Some(id), None, None) => Cut::Id(id),
        (None, Some(user), None) => Cut::User(user),
        (None, None, Some(source)) => Cut::Source(source),
        _ => return Err(words::usage("cut needs one of: the ID of a session, --user EMAIL, --source IP")),
    };
    Ok(asking(words, Ask::Cut(cut)))
}

#[cfg(test)]
mod tests;
