//! The first configuration as a command, and as what `run` does without one.
//!
//! Owns the choice between asking, a file of answers, and the defaults.

use std::io::{self, IsTerminal};
use std::path::Path;

use crate::app::cli::Answerer;
use crate::app::config::{Config, DEFAULT_FILE};
use crate::app::console;
use crate::app::exit::Failure;
use crate::app::init;
use crate::app::wizard::{self, Answers, Echo, Lang, ThisMachine, tr};

/// Asks, or reads the file of answers, and writes the configuration to `path`; what follows from it is said on stdout.
///
/// # Errors
/// Those of the wizard.
pub fn ask(path: &Path, answers: &Answerer, lang: Option<Lang>) -> Result<Config, Failure> {
    let lang = lang.unwrap_or_else(Lang::of_terminal);
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    match answers {
        Answerer::File(file) => wizard::with_file(path, lang, &ThisMachine, Answers::read(file)?, &mut output),
        Answerer::Person | Answerer::Defaults | Answerer::Join(_) => {
            let echo = if input.is_terminal() { Echo::Terminal } else { Echo::Ours };
            wizard::with_person(path, lang, &ThisMachine, (&mut input, echo), &mut output)
        }
    }
}

/// The default configuration, made because there is none: by asking on a terminal, else from the defaults. The link
/// goes to stdout.
///
/// # Errors
/// Those of the wizard, and of `init --yes`.
pub fn first_run(lang: Option<Lang>) -> Result<Config, Failure> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        let lang = lang.unwrap_or_else(Lang::of_terminal);
        let config = ask(Path::new(DEFAULT_FILE), &Answerer::Person, Some(lang))?;
        console::note(&tr!(lang, "\nServing now; Ctrl-C ends the server.", "\n正在运行；Ctrl-C 停止服务器。"));
        return Ok(config);
    }
    let created = init::init_with_defaults(Path::new(DEFAULT_FILE))?;
    console::note(&format!("{DEFAULT_FILE} was written; import this link into a client:"));
    if let Err(error) = console::result(&format!("{}\n", created.link)) {
        console::note(&format!("the link could not be written to stdout ({error}); `vless-rust link` prints it again"));
    }
    for warning in &created.warnings {
        console::note(warning);
    }
    Ok(created.config)
}
