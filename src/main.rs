//! The `vless-rust` command: arguments in, exit code out. Everything else is in the library.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use vless_rust::app::cli::{self, Command};
use vless_rust::app::exit::{self, Failure};
use vless_rust::app::{commands, console, run};

fn main() -> ExitCode {
    let command = match cli::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(failure) => return failed(&failure, "\n`vless-rust help` lists the commands"),
    };
    execute(&command).map_or_else(|failure| failed(&failure, ""), ExitCode::from)
}

/// A script that asked for JSON gets the failure as such, beside the words for people.
fn failed(failure: &Failure, advice: &str) -> ExitCode {
    console::note(&format!("vless-rust: {failure}{advice}"));
    if cli::wants_json(env::args_os().skip(1)) {
        // Whether it could be written or not, the program ends with the code of the failure.
        let _ = console::result(&failure.json());
    }
    ExitCode::from(failure.code)
}

fn execute(command: &Command) -> Result<u8, Failure> {
    match (command, commands::execute(command)) {
        (_, Some(output)) => {
            let output = output?;
            for note in &output.notes {
                console::note(note);
            }
            let written = console::result(&output.stdout);
            written.map(|()| output.code).map_err(|error| Failure::writing("/dev/stdout".as_ref(), &error))
        }
        (Command::Run { config, lang }, None) => run::run(config.as_ref(), *lang).map(|()| exit::OK),
        (_, None) => Ok(exit::OK),
    }
}
