//! From the file's text to plain JSON of the same shape.
//!
//! Owns the liberties a hand-written file may take: `//` and `/* */` comments, a comma before a closing bracket, a
//! byte order mark. They are replaced by spaces, byte for byte, so that every position in the result is the same
//! position in the file. Knows nothing of keys and values.

/// Why the text cannot even be read as JSON with comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnclosedComment {
    /// Byte offset of its `/*`.
    pub(super) offset: usize,
}

/// `text` with comments, trailing commas and a byte order mark blanked. The result has the same length and the same
/// line breaks; strings are untouched.
///
/// # Errors
/// A `/*` without its `*/`.
pub(super) fn blank_comments(text: &str) -> Result<String, UnclosedComment> {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    if text.starts_with('\u{feff}') {
        blank(&mut out, 0, 3);
        at = 3;
    }
    // Two facts about what came before, spaces and comments not counted.
    let mut previous = b'[';
    let mut comma_after_value = None;
    while let Some(&byte) = bytes.get(at) {
        let end = match (byte, bytes.get(at + 1)) {
            (b'"', _) => end_of_string(bytes, at),
            (b'/', Some(b'/')) => {
                let end = find(bytes, at, b"\n").unwrap_or(bytes.len());
                blank(&mut out, at, end);
                at = end;
                continue;
            }
            (b'/', Some(b'*')) => {
                let end = find(bytes, at + 2, b"*/").ok_or(UnclosedComment { offset: at })? + 2;
                blank(&mut out, at, end);
                at = end;
                continue;
            }
            _ => at + 1,
        };
        if byte.is_ascii_whitespace() {
            at = end;
            continue;
        }
        if let (b']' | b'}', Some(comma)) = (byte, comma_after_value) {
            blank(&mut out, comma, comma + 1);
        }
        // `[,]` stays the error it is: only a comma that follows a value may be one too many.
        comma_after_value = (byte == b',' && !matches!(previous, b'[' | b'{' | b',' | b':')).then_some(at);
        previous = byte;
        at = end;
    }
    // Blanking replaces whole characters by spaces, so this stays UTF-8.
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The line and column, both from 1 and the column in characters, of the byte at `offset`.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The byte offset of a line and a column, both from 1 and the column in bytes: the way the JSON parser counts.
pub(super) fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let line_start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    (line_start + column.saturating_sub(1)).min(text.len())
}

/// One past the closing quote of the string that opens at `start`, or the end of the text.
pub(super) fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len()).position(|window| window == what).map(|position| from + position)
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    for byte in &mut out[from..to] {
        if *byte != b'\n' && *byte != b'\r' {
            *byte = b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_spaces_of_the_same_length() {
        assert_eq!(blank_comments("{// é\n\"a\":/* x\n */1}").unwrap(), "{     \n\"a\":    \n   1}");
    }

    #[test]
    fn strings_keep_what_looks_like_a_comment() {
        let text = r#"{"a":"http://x/*y*/ \" // ","b":"\\"}"#;
        assert_eq!(blank_comments(text).unwrap(), text);
    }

    #[test]
    fn a_comma_before_a_closing_bracket_goes_also_across_a_comment() {
        assert_eq!(blank_comments("[1,2,]").unwrap(), "[1,2 ]");
        assert_eq!(blank_comments("{\"a\":[], // last\n}").unwrap(), "{\"a\":[]         \n}");
    }

    #[test]
    fn a_comma_without_a_value_before_it_stays() {
        for text in ["[,]", "{,}", "[1,,]"] {
            assert!(serde_json::from_str::<serde_json::Value>(&blank_comments(text).unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_blanked() {
        assert_eq!(blank_comments("\u{feff}{}").unwrap(), "   {}");
    }

    #[test]
    fn an_unclosed_comment_is_named_by_its_start() {
        assert_eq!(blank_comments("{ /* no end"), Err(UnclosedComment { offset: 2 }));
        assert_eq!(blank_comments("{ /*/"), Err(UnclosedComment { offset: 2 }));
    }

    #[test]
    fn every_prefix_of_a_file_is_blanked_without_a_panic() {
        let text = "\u{feff}{ // é\n \"a\\\"\": [1, /* 我 */ ], }";
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            if let Ok(blanked) = blank_comments(&text[..end]) {
                assert_eq!(blanked.len(), end);
            }
        }
    }

    #[test]
    fn positions_count_characters_and_survive_odd_offsets() {
        let text = "ab\né=1";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 5), (2, 2));
        assert_eq!(line_and_column(text, 4), (2, 1), "inside a character");
        assert_eq!(line_and_column(text, 99), (2, 4));
        assert_eq!(offset_of(text, 2, 3), 5);
        assert_eq!(offset_of(text, 9, 9), text.len());
    }
}
