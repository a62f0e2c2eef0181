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
        Err(failure) => {
            console::note(&format!("vless-rust: {failure}\n`vless-rust help` lists the commands"));
            return ExitCode::from(failure.code);
        }
    };
    match execute(&command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            console::note(&format!("vless-rust: {failure}"));
            ExitCode::from(failure.code)
        }
    }
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
        (Command::Run { config }, None) => run::run(config.as_ref()).map(|()| exit::OK),
        (_, None) => Ok(exit::OK),
    }
}
