//! The operator's reference, made from the keys: a table for `conf/README.md`, and a file with every default.

use std::fmt::Write;

use super::keys::File;
use super::section::{Row, Section};

/// Every key as a row of a Markdown table, with the table's head.
pub fn table() -> String {
    let mut text = "| key | default | range | meaning |\n|---|---|---|---|\n".to_owned();
    for row in File::rows("") {
        let default = if row.example.is_some() { row.default.clone() } else { format!("`{}`", row.default) };
        let range = if row.range.is_empty() { " ".to_owned() } else { format!(" {} ", row.range) };
        let default = default.replace("\",\"", "\", \"").replace(',', ", ").replace(",  ", ", ");
        // Writing to a String does not fail.
        let _ = writeln!(text, "| `{}` | {default} |{range}| {} |", row.key, row.meaning);
    }
    text
}

/// A configuration that says every key, with its default and what it means.
pub fn example() -> String {
    let mut text = "// Every key there is. All values are the defaults, except where a comment says \"example\".\n\
                    // Times are in seconds, sizes in bytes. Relative paths begin at the folder of this file.\n"
        .to_owned();
    let rows = File::rows("");
    object(&mut text, &rows, "", 0);
    text.push('\n');
    text
}

/// The object at `path`, which all of `rows` are in.
fn object(text: &mut String, rows: &[Row], path: &str, depth: usize) {
    text.push_str("{\n");
    let indent = "  ".repeat(depth + 1);
    let mut at = 0;
    while let Some(row) = rows.get(at) {
        let rest = &row.key[path.len()..];
        let name = rest.split('.').next().unwrap_or_default();
        let below = format!("{path}{name}.");
        let inside = rows[at..].iter().take_while(|row| row.key.starts_with(&below)).count();
        let comma = if at + inside.max(1) < rows.len() { "," } else { "" };
        if inside > 0 {
            let is_list = name.ends_with("[]");
            let (open, close) = if is_list { ("[", "]") } else { ("", "") };
            let example = if is_list { "   // example; the default is []\n" } else { "" };
            let _ = write!(text, "{indent}\"{}\": {open}", name.trim_end_matches("[]"));
            object_noting(text, &rows[at..at + inside], &below, depth + 1, example);
            let _ = writeln!(text, "{close}{comma}");
            at += inside;
        } else {
            for line in wrapped(&note(row), 110 - indent.len()) {
                let _ = writeln!(text, "{indent}// {line}");
            }
            let _ = writeln!(text, "{indent}\"{name}\": {}{comma}", row.example.as_ref().unwrap_or(&row.default));
            at += 1;
        }
    }
    let _ = write!(text, "{}}}", "  ".repeat(depth));
}

fn object_noting(text: &mut String, rows: &[Row], path: &str, depth: usize, note: &str) {
    let start = text.len() + 1;
    object(text, rows, path, depth);
    if !note.is_empty() {
        text.replace_range(start..=start, note);
    }
}

fn note(row: &Row) -> String {
    let meaning = row.meaning.replace('`', "");
    let range = if row.range.is_empty() { String::new() } else { format!(" ({})", row.range) };
    let example = if row.example.is_some() { "example: " } else { "" };
    format!("{example}{meaning}{range}")
}

/// `text` in lines of at most `chars_max` characters, if its words are not longer.
fn wrapped(text: &str, chars_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line from the start");
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + 1 + word.len() <= chars_max {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
