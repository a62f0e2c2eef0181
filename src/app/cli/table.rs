//! The table of commands and options.
//!
//! Owns every word of the command line with its explanation. The parser, the help text, the shell completions and the
//! manual page all come from here, so that none of them can know a word that another does not.

/// In the order in which the help shows them.
pub const COMMANDS: &[CommandRow] = &[
    row(
        "run",
        "[CONFIG]",
        1,
        &["--lang"],
        "serve; without a configuration: the wizard on a terminal, else `init --yes`, first",
    ),
    row(
        "init",
        "[CONFIG]",
        1,
        &["--yes", "--answers", "--lang", "--join", "--node", "--engine-ca"],
        "write a first configuration: the wizard asks",
    ),
    row("check", "[CONFIG]", 1, &[], "validate the configuration and print what is in effect"),
    row("link", "[EMAIL]", 1, &["--format", "--qr"], "print what clients import, of all users or of one"),
    row(
        "user",
        "ACTION [NAME]",
        2,
        &[
            "--note",
            "--flow",
            "--id",
            "--name",
            "--quota",
            "--quota-period",
            "--quota-day",
            "--expires",
            "--expires-after-days",
            "--addresses",
            "--sessions",
            "--up",
            "--down",
            "--dry-run",
            "--json",
        ],
        "accounts: list, show, add, set, enable, disable, reset, rotate, remove NAME; import FILE",
    ),
    row("status", "", 0, &["--json"], "one screen of the running server"),
    row(
        "connections",
        "",
        0,
        &["--user", "--source", "--target", "--limit", "--json"],
        "the sessions of the running server",
    ),
    row("online", "", 0, &["--user", "--json"], "who is online on all nodes of the cluster"),
    row(
        "nodes",
        "[forget NAME]",
        2,
        &["--json"],
        "the nodes of the cluster; forget NAME: no longer lists one that is gone for good",
    ),
    row("cut", "[ID]", 1, &["--user", "--source", "--json"], "end one session, or all of a user or a source"),
    row("reload", "", 0, &["--all-nodes", "--json"], "the running server takes over a changed configuration"),
    row(
        "upgrade",
        "",
        0,
        &["--json"],
        "the program that is there now takes over from the running server, without loss",
    ),
    row(
        "probe",
        "LINK",
        1,
        &["--via", "--dns", "--json"],
        "act as a client: go through LINK, and say which side is at fault",
    ),
    row("doctor", "", 0, &["--json"], "what is wrong with this machine and configuration; has no secret in it"),
    row("backup", "FILE", 1, &[], "write configuration, accounts, totals and certificates to one file; it is secret"),
    row("restore", "FILE", 1, &["--dry-run", "--force"], "put them back, beside the configuration that -c names"),
    row(
        "service",
        "install|uninstall",
        1,
        &["--dry-run", "--files-only"],
        "start with the machine, by systemd or OpenRC",
    ),
    row("completions", "bash|zsh|fish", 1, &[], "print the completions of a shell"),
    row("man", "", 0, &[], "print the manual page"),
    row("version", "", 0, &[], "print the version"),
    row("help", "[COMMAND]", 1, &[], "print this text, or what there is to know of one command"),
];

/// Options that all commands take.
pub const OPTIONS_OF_ALL: &[&str] = &["--config", "--help", "--version"];

/// In the order in which the help shows them.
pub const OPTIONS: &[OptionRow] = &[
    with_value("--config", Some("-c"), "CONFIG", &[], "the configuration, for every command; default config.json"),
    flag("--yes", Some("-y"), "ask nothing and take every default"),
    with_value("--answers", None, "FILE", &[], "take the answers from a file with lines such as `port = 443`"),
    with_value("--lang", None, "LANG", &["en", "zh"], "the language of the questions; default: that of the terminal"),
    with_value(
        "--join",
        None,
        "URL",
        &[],
        "be a node of the cluster with this engine; -: read the URL, which is secret",
    ),
    with_value("--node", None, "NAME", &[], "the name of the new node; default: that of the machine"),
    with_value("--engine-ca", None, "FILE", &[], "who vouches for the engine of --join, if the system does not know"),
    with_value("--format", None, "FORMAT", FORMATS, "what to print: a link, or a whole client configuration"),
    flag("--qr", None, "draw the link as a QR code"),
    with_value("--note", None, "TEXT", &[], "a remark about the account"),
    with_value("--flow", None, "FLOW", &[], "xtls-rprx-vision, xtls-rprx-vision-udp443 or none"),
    with_value("--id", None, "UUID", &[], "the id of a new account; default: a random one"),
    with_value("--name", None, "NAME", &[], "another name for the account"),
    with_value("--quota", None, "SIZE", &[], "what it may use in both directions, such as 10GB; none: no quota"),
    with_value(
        "--quota-period",
        None,
        "PERIOD",
        &["none", "day", "week", "month"],
        "when the quota begins anew, in UTC",
    ),
    with_value("--quota-day", None, "DAY", &[], "the first day of a month's quota"),
    with_value("--expires", None, "TIME", &[], "a date, a time, days from now such as 30d, or never"),
    with_value("--expires-after-days", None, "N", &[], "so many days after the first use"),
    with_value("--addresses", None, "N", &[], "source addresses at the same time"),
    with_value("--sessions", None, "N", &[], "sessions at the same time"),
    with_value("--up", None, "SIZE", &[], "bytes a second from client to target"),
    with_value("--down", None, "SIZE", &[], "bytes a second from target to client"),
    flag("--dry-run", None, "say what would be done, and do nothing"),
    flag("--files-only", None, "write what the service needs, and start nothing: for images and containers"),
    flag("--force", None, "replace files that differ; the old ones are kept beside them"),
    with_value("--user", None, "EMAIL", &[], "only sessions of this user"),
    with_value("--source", None, "IP", &[], "only sessions from this address"),
    with_value("--target", None, "HOST", &[], "only sessions to this target"),
    with_value("--limit", None, "N", &[], "so many at the most; default 100"),
    with_value("--via", None, "URL", &[], "what probe fetches; default https://cp.cloudflare.com/"),
    with_value("--dns", None, "IP:PORT", &[], "the name server that probe asks by UDP; default 1.1.1.1:53"),
    flag("--all-nodes", None, "the other nodes of the cluster, too"),
    flag("--json", None, "answer as JSON, for scripts"),
    flag("--help", Some("-h"), "same as help, and behind a command as help COMMAND"),
    flag("--version", Some("-V"), "same as version"),
];

/// What `link --format` takes.
pub const FORMATS: &[&str] = &["vless", "xray", "sing-box", "mihomo"];

/// Columns of the heading, and of a line of the help: a terminal has 80.
const HEADING_COLUMNS: usize = 24;
const LINE_COLUMNS: usize = 79;

/// What `user` does.
pub const USER_ACTIONS: &[&str] =
    &["list", "show", "add", "set", "enable", "disable", "reset", "rotate", "remove", "import"];

/// One command.
#[derive(Debug)]
pub struct CommandRow {
    pub name: &'static str,
    /// What may stand behind it, as the help shows it.
    pub operands: &'static str,
    /// Operands at the most.
    pub operands_max: usize,
    /// The long names of the options it takes, beside those that all commands take.
    pub options: &'static [&'static str],
    /// In one sentence, without a final full stop.
    pub about: &'static str,
}

/// One option.
#[derive(Debug)]
pub struct OptionRow {
    /// With its two dashes.
    pub long: &'static str,
    /// With its dash.
    pub short: Option<&'static str>,
    /// The word for its value, if it takes one.
    pub value: Option<&'static str>,
    /// The words a value may be, where these are few.
    pub words: &'static [&'static str],
    /// In one sentence, without a final full stop.
    pub about: &'static str,
}

/// The row of the command with this name.
pub fn command(name: &str) -> Option<&'static CommandRow> {
    COMMANDS.iter().find(|row| row.name == name)
}

/// What the first operand of a command may be, where these are few words; else nothing.
pub fn first_words(row: &CommandRow) -> Vec<&'static str> {
    match row.name {
        "user" => USER_ACTIONS.to_vec(),
        "nodes" => vec!["forget"],
        "help" => COMMANDS.iter().map(|row| row.name).collect(),
        _ if row.operands.contains('|') => row.operands.split('|').collect(),
        _ => Vec::new(),
    }
}

/// The row of the option with this long or short name.
pub fn option(name: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|row| row.long == name || row.short == Some(name))
}

/// The commands that take the option `long`, for a message.
pub fn commands_with(long: &str) -> String {
    let names = COMMANDS.iter().filter(|row| row.options.contains(&long)).map(|row| row.name);
    names.collect::<Vec<_>>().join(", ")
}

/// What `help` prints on stdout, and a wrong command line on stderr.
pub fn help() -> String {
    let mut text = String::from("VLESS-Rust, a VLESS proxy server\n\nusage: vless-rust [COMMAND] [OPTIONS]\n\n");
    for row in COMMANDS {
        let name = if row.name == "run" { "[run]" } else { row.name };
        entry(&mut text, format!("{name} {}", row.operands).trim_end(), row.about);
    }
    text.push('\n');
    for row in OPTIONS {
        entry(&mut text, &option_heading(row), row.about);
    }
    text.push_str(
        "\nexit codes: 0 success, 64 wrong command line, 66 file not found, 69 not\n\
         available (port in use, server not reachable), 73 cannot create a file, 77 no\n\
         permission, 78 wrong configuration\n",
    );
    text
}

/// What `help` prints about one command: its line, and the options that it takes.
pub fn help_of(row: &CommandRow) -> String {
    let operands = [" ", row.operands].concat();
    let mut text = format!("usage: vless-rust {}{} [OPTIONS]\n\n", row.name, operands.trim_end());
    let mut line = String::new();
    for word in row.about.split(' ') {
        if line.len() + word.len() > LINE_COLUMNS {
            text.push_str(line.trim_end());
            text.push('\n');
            line.clear();
        }
        line.push_str(word);
        line.push(' ');
    }
    text.push_str(line.trim_end());
    text.push_str("\n\n");
    for row in row.options.iter().chain(OPTIONS_OF_ALL).filter_map(|long| option(long)) {
        let words = if row.words.is_empty() { String::new() } else { format!(": {}", row.words.join(", ")) };
        entry(&mut text, &option_heading(row), &[row.about, &words].concat());
    }
    text
}

/// Such as `-c, --config CONFIG`.
pub fn option_heading(row: &OptionRow) -> String {
    let short = row.short.map_or("    ".to_owned(), |short| format!("{short}, "));
    let value = row.value.map_or(String::new(), |value| format!(" {value}"));
    format!("{short}{}{value}", row.long)
}

fn entry(text: &mut String, heading: &str, about: &str) {
    let mut line = format!("  {heading:HEADING_COLUMNS$}");
    if heading.len() >= HEADING_COLUMNS {
        text.push_str(line.trim_end());
        text.push('\n');
        line = " ".repeat(2 + HEADING_COLUMNS);
    }
    for word in about.split(' ') {
        if line.len() + word.len() > LINE_COLUMNS {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(2 + HEADING_COLUMNS);
        }
        line.push_str(word);
        line.push(' ');
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

const fn row(
    name: &'static str,
    operands: &'static str,
    operands_max: usize,
    options: &'static [&'static str],
    about: &'static str,
) -> CommandRow {
    CommandRow { name, operands, operands_max, options, about }
}

const fn flag(long: &'static str, short: Option<&'static str>, about: &'static str) -> OptionRow {
    OptionRow { long, short, value: None, words: &[], about }
}

const fn with_value(
    long: &'static str,
    short: Option<&'static str>,
    value: &'static str,
    words: &'static [&'static str],
    about: &'static str,
) -> OptionRow {
    OptionRow { long, short, value: Some(value), words, about }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_a_command_has_a_row_and_every_row_a_command() {
        for row in COMMANDS {
            for long in row.options {
                assert!(option(long).is_some_and(|found| found.long == *long), "{} {long}", row.name);
            }
        }
        for row in OPTIONS {
            let used = OPTIONS_OF_ALL.contains(&row.long) || !commands_with(row.long).is_empty();
            assert!(used, "{} belongs to no command", row.long);
        }
    }

    #[test]
    fn the_help_shows_every_word_within_its_columns() {
        let help = help();
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        let missing = COMMANDS.iter().map(|row| row.name).chain(OPTIONS.iter().map(|row| row.long));
        assert_eq!(missing.filter(|word| !help.contains(word)).collect::<Vec<_>>(), Vec::<&str>::new());
    }

    #[test]
    fn the_help_of_a_command_shows_its_options_and_no_others() {
        for row in COMMANDS {
            let help = help_of(row);
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
            assert!(help.starts_with(&format!("usage: vless-rust {}", row.name)), "{help}");
            for option in OPTIONS {
                let takes = row.options.contains(&option.long) || OPTIONS_OF_ALL.contains(&option.long);
                let is_shown = help.lines().any(|line| line.trim_end().contains(option_heading(option).trim_end()));
                assert_eq!(is_shown, takes, "{} of {}: {help}", option.long, row.name);
            }
        }
    }
}
