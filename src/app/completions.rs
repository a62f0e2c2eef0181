//! Shell completions and the manual page, from the table of the command line.

use std::fmt::Write as _;

use crate::app::cli::table::{
    COMMANDS, CommandRow, OPTIONS, OPTIONS_OF_ALL, OptionRow, first_words, option, option_heading,
};

/// The script for `shell`; none for one that is not known.
pub fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// The manual page in roff.
pub fn man() -> String {
    let mut page = String::from(
        ".TH VLESS-RUST 1\n.SH NAME\nvless-rust \\- a VLESS proxy server\n.SH SYNOPSIS\n.B vless-rust\n[COMMAND] [OPTIONS]\n\
         .SH COMMANDS\n",
    );
    for row in COMMANDS {
        // Writing to a String does not fail.
        let _ = writeln!(page, ".TP\n.B {} {}\n{}", row.name, roff(row.operands), roff(row.about));
    }
    page.push_str(".SH OPTIONS\n");
    for row in OPTIONS {
        let _ = writeln!(page, ".TP\n.B {}\n{}", roff(option_heading(row).trim()), roff(row.about));
    }
    page.push_str(
        ".SH EXIT STATUS\n0 success, 64 wrong command line, 66 file not found, 69 not available, 73 cannot create a file, \
         77 no permission, 78 wrong configuration\n",
    );
    page
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn options_of(row: &CommandRow) -> impl Iterator<Item = &'static OptionRow> {
    row.options.iter().chain(OPTIONS_OF_ALL).filter_map(|long| option(long))
}

fn bash() -> String {
    let names = COMMANDS.iter().map(|row| row.name).collect::<Vec<_>>().join(" ");
    let mut script = String::from(
        "_vless_rust() {\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n  case $before in\n",
    );
    for row in OPTIONS.iter().filter(|row| !row.words.is_empty()) {
        let words = row.words.join(" ");
        let _ = writeln!(script, "    {}) COMPREPLY=($(compgen -W '{words}' -- \"$word\")); return ;;", row.long);
    }
    let _ = writeln!(
        script,
        "  esac\n  if [[ $COMP_CWORD == 1 ]]; then COMPREPLY=($(compgen -W '{names}' -- \"$word\") $(compgen -f -- \"$word\")); return; fi\n  \
         case ${{COMP_WORDS[1]}} in"
    );
    for row in COMMANDS {
        let longs = options_of(row).map(|row| row.long).collect::<Vec<_>>().join(" ");
        let first = first_words(row).join(" ");
        let _ = writeln!(script, "    {})", row.name);
        if !first.is_empty() {
            let _ = writeln!(
                script,
                "      if [[ $COMP_CWORD == 2 && $word != -* ]]; then COMPREPLY=($(compgen -W '{first}' -- \"$word\")); return; fi"
            );
        }
        let _ =
            writeln!(script, "      COMPREPLY=($(compgen -W '{longs}' -- \"$word\") $(compgen -f -- \"$word\")) ;;");
    }
    script + "  esac\n}\ncomplete -o filenames -F _vless_rust vless-rust\n"
}

fn zsh() -> String {
    let mut script = String::from("#compdef vless-rust\nlocal -a commands\ncommands=(\n");
    for row in COMMANDS {
        let _ = writeln!(script, "  '{}:{}'", row.name, row.about.replace('\'', "").replace(':', "\\:"));
    }
    script
        .push_str(")\nif (( CURRENT == 2 )); then _describe command commands; _files; return; fi\ncase $words[2] in\n");
    for row in COMMANDS {
        let specs = options_of(row).map(|row| {
            let about = row.about.replace(['\'', '[', ']', ':'], "");
            let value = row.value.map_or(String::new(), |value| match row.words {
                [] => format!(":{value}:_files"),
                words => format!(":{value}:({})", words.join(" ")),
            });
            format!("'{}[{about}]{value}'", row.long)
        });
        let specs = specs.collect::<Vec<_>>().join(" ");
        // The command itself is the first argument that is no option.
        let first = match first_words(row).join(" ") {
            words if words.is_empty() => words,
            words => format!("'1:command:' '2:word:({words})' "),
        };
        let _ = writeln!(script, "  {}) _arguments {specs} {first}'*:file:_files' ;;", row.name);
    }
    script + "esac\n"
}

fn fish() -> String {
    let mut script = String::new();
    for row in COMMANDS {
        let about = row.about.replace('\'', "");
        let _ = writeln!(script, "complete -c vless-rust -n __fish_use_subcommand -a {} -d '{about}'", row.name);
        let first = first_words(row).join(" ");
        if !first.is_empty() && row.name != "help" {
            let seen =
                format!("'__fish_seen_subcommand_from {}; and not __fish_seen_subcommand_from {first}'", row.name);
            let _ = writeln!(script, "complete -c vless-rust -n {seen} -x -a '{first}'");
        }
        for option in options_of(row) {
            let long = option.long.trim_start_matches('-');
            let value = match (option.value, option.words) {
                (None, _) => String::new(),
                (Some(_), []) => " -r".to_owned(),
                (Some(_), words) => format!(" -x -a '{}'", words.join(" ")),
            };
            let about = option.about.replace('\'', "");
            let seen = format!("'__fish_seen_subcommand_from {}'", row.name);
            let _ = writeln!(script, "complete -c vless-rust -n {seen} -l {long}{value} -d '{about}'");
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::process::{Command, Stdio};

    #[test]
    fn every_word_is_in_every_script_and_in_the_manual() {
        let texts = [script("bash").unwrap(), script("zsh").unwrap(), script("fish").unwrap(), man()];
        for text in &texts {
            for word in COMMANDS.iter().map(|row| row.name).chain(OPTIONS.iter().map(|row| &row.long[2..])) {
                let found = text.contains(word) || text.contains(&roff(word));
                assert!(found, "{word} is not in\n{text}");
            }
        }
        assert_eq!(script("csh"), None);
    }

    #[test]
    fn bash_completes_commands_options_and_their_words() {
        let complete = |line: &str| {
            let words = line.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
            let count = line.split(' ').count() - 1;
            let program =
                format!("{}COMP_WORDS=({words}); COMP_CWORD={count}; _vless_rust; echo \"${{COMPREPLY[@]}}\"", bash());
            let output = Command::new("bash").args(["-c", &program]).stdin(Stdio::null()).output();
            output.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        // A machine without bash has nothing to complete.
        let Ok(found) = complete("vless-rust connec") else { return };
        assert_eq!(found, "connections");
        assert_eq!(complete("vless-rust link --for").unwrap(), "--format");
        assert_eq!(complete("vless-rust link --format sing").unwrap(), "sing-box");
        // A command whose first operand is one of few words has these, and no files.
        assert_eq!(complete("vless-rust service ").unwrap(), "install uninstall");
        assert_eq!(complete("vless-rust completions ").unwrap(), "bash zsh fish");
        assert_eq!(complete("vless-rust user r").unwrap(), "reset rotate remove");
        assert_eq!(complete("vless-rust user --j").unwrap(), "--json");
        assert_eq!(complete("vless-rust help doc").unwrap(), "doctor");
    }
}
