//! The `vless-rust` command: arguments in, exit code out. Everything else is in the library.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use vless_rust::app::cli::{self, Command};
use vless_rust::app::exit::{self, Failure};
use vless_rust::app::{commands, run};

fn main() -> ExitCode {
    let command = match cli::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(failure) => {
            eprintln!("vless-rust: {failure}\n`vless-rust help` lists the commands");
            return ExitCode::from(failure.code);
        }
    };
    match execute(&command) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => {
            eprintln!("vless-rust: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn execute(command: &Command) -> Result<(), Failure> {
    match (command, commands::execute(command)) {
        (_, Some(output)) => {
            let output = output?;
            for note in &output.notes {
                eprintln!("{note}");
            }
            // A reader that went away wants no more of it.
            let _ = io::stdout().write_all(output.stdout.as_bytes());
            Ok(())
        }
        (Command::Run { config }, None) => run::run(config.as_ref()),
        (_, None) => Ok(()),
    }
}
