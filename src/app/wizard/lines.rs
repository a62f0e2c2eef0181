//! Lines that fit a terminal.
//!
//! Owns where a sentence is broken: at spaces, and around ideograms, which have none between them. Pure.

/// Of a line; a terminal has one more.
const COLUMNS_MAX: usize = 79;
/// Ideograms and their punctuation begin here.
const WIDE_FROM: char = '\u{2e80}';
/// What never begins a line.
const CLOSING: &str = "，。；：！？、）”";
/// What never ends one.
const OPENING: &str = "（“";

/// Columns that a text takes: an ideogram takes two.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|char| if is_wide(char) { 2 } else { 1 }).sum()
}

/// The text in lines that fit a terminal of 80 columns. What a line is indented by, its continuation is, too.
pub(super) fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let words = paragraph.trim_start_matches(' ');
        let indent = " ".repeat(paragraph.len() - words.len());
        let mut line = indent.clone();
        for piece in pieces(words) {
            let is_begun = line.len() > indent.len();
            if is_begun && columns(&line) + columns(piece.trim_end()) > COLUMNS_MAX {
                lines.push(line.trim_end().to_owned());
                line.clone_from(&indent);
            }
            line.push_str(piece);
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// What stays on one line, each with the space behind it.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    let mut before = None;
    for (at, char) in text.char_indices() {
        if before.is_some_and(|before| may_part(before, char)) {
            pieces.push(&text[begin..at]);
            begin = at;
        }
        before = Some(char);
    }
    pieces.push(&text[begin..]);
    pieces
}

fn may_part(before: char, after: char) -> bool {
    if after == ' ' || CLOSING.contains(after) || OPENING.contains(before) {
        return false;
    }
    before == ' ' || is_wide(before) || is_wide(after)
}

fn is_wide(char: char) -> bool {
    char >= WIDE_FROM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces_and_keep_their_indent() {
        let text = format!("{}\n  {}", "word ".repeat(20), "other ".repeat(20));
        let lines: Vec<_> = wrapped(&text).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| columns(line) <= COLUMNS_MAX && !line.ends_with(' ')), "{lines:?}");
        assert!(lines[..2].iter().all(|line| line.starts_with("word")), "{lines:?}");
        assert!(lines[2..].iter().all(|line| line.starts_with("  other")), "{lines:?}");
    }

    #[test]
    fn ideograms_are_parted_but_not_from_their_punctuation() {
        let lines: Vec<_> = wrapped(&format!("{}，后面（说明）", "字".repeat(39))).lines().map(str::to_owned).collect();
        assert_eq!(lines, ["字".repeat(38), "字，后面（说明）".to_owned()]);
    }

    #[test]
    fn what_cannot_be_parted_is_left_whole() {
        let long = "x".repeat(100);
        assert_eq!(wrapped(&format!("see {long} there")), format!("see\n{long}\nthere"));
    }
}
