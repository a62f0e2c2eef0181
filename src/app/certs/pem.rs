//! PEM (RFC 7468) as tools and editors leave it.
//!
//! Reads what OpenSSL reads and a little more: text around the sections, a byte order mark, indented lines, any line
//! ends, headers inside a section, and two files joined without a line break between them. Nothing is ever skipped
//! silently: a section that cannot be read is an error with its line.

use std::fmt;

use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const DASHES: usize = 5;

/// One section. It may be a key, so it is wiped in the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// What stands behind BEGIN.
    pub(super) label: String,
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// It has a header that says so.
    pub(super) is_encrypted: bool,
}

impl Section {
    /// What it holds, for whoever wipes that if it must be.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// Why a text is not PEM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PemError {
    /// From 1.
    line: usize,
    what: String,
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// All sections of `file`, in order.
pub(super) fn sections(file: &[u8]) -> Result<Vec<Section>, PemError> {
    // Comments may be in any encoding; what matters is ASCII. The copy has a key in it, and never grows, which would leave
    // another behind.
    let text = file.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' });
    let text = Zeroizing::new(text.collect::<String>());
    let mut sections = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(BEGIN).map(|offset| at + offset) {
        let error = |what: String| PemError { line: text[..start].matches('\n').count() + 1, what };
        let rest = &text[start + BEGIN.len()..];
        let label = rest.split_once("-----").map(|(label, _)| label).filter(|label| !label.contains(['\n', '\r']));
        let label = label.ok_or_else(|| error("a BEGIN line without its closing dashes".to_owned()))?;
        let body_start = start + BEGIN.len() + label.len() + DASHES;
        let end_line = format!("-----END {label}-----");
        let end = text[body_start..].find(&end_line).map(|offset| body_start + offset);
        let end = end.ok_or_else(|| error(format!("BEGIN {label} without its END; is the file cut?")))?;
        let body = &text[body_start..end];
        if body.contains(BEGIN) {
            return Err(error(format!("BEGIN {label} without its END before the next section")));
        }
        let (headers, lines): (Vec<&str>, Vec<&str>) = body.lines().partition(|line| line.contains(':'));
        let mut digits = Zeroizing::new(String::with_capacity(body.len()));
        digits.extend(lines.iter().flat_map(|line| line.chars()).filter(|digit| !digit.is_whitespace()));
        let bytes = base64(&digits).ok_or_else(|| error(format!("what stands in {label} is not Base64")))?;
        let is_encrypted = headers.iter().any(|header| header.contains("ENCRYPTED"));
        sections.push(Section { label: label.to_owned(), bytes, is_encrypted });
        at = end + end_line.len();
        // "-----END X----------BEGIN Y-----": without a line break the dashes of both lines touch.
    }
    Ok(sections)
}

/// RFC 4648 4; the padding may be missing.
fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() * 3 / 4));
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "-----BEGIN A-----\nZm9v\nYmFy\n-----END A-----\n";

    fn read(text: &str) -> Vec<(String, Vec<u8>)> {
        sections(text.as_bytes())
            .unwrap()
            .into_iter()
            .map(|section| (section.label.clone(), section.into_bytes()))
            .collect()
    }

    fn foobar() -> Vec<(String, Vec<u8>)> {
        vec![("A".to_owned(), b"foobar".to_vec())]
    }

    #[test]
    fn editors_and_tools_leave_it_readable() {
        let indented = format!("  \t{}", PLAIN.replace('\n', "\n  \t"));
        let headed = PLAIN.replace("Zm9v", "Proc-Type: 4,X\nDEK-Info: y\n\nZm9v");
        for text in [
            PLAIN.to_owned(),
            format!("\u{feff}{PLAIN}"),
            PLAIN.replace('\n', "\r\n"),
            PLAIN.replace('\n', "\r"),
            PLAIN.trim_end().to_owned(),
            format!("subject=/CN=x\n{PLAIN}behind it\n"),
            PLAIN.replace("Zm9v\nYmFy", "Zm9v Ym \n Fy"),
            indented,
            headed,
        ] {
            assert_eq!(read(&text), foobar(), "{text:?}");
        }
    }

    #[test]
    fn files_joined_without_a_line_break_keep_both_sections() {
        let joined = format!("{}{}", PLAIN.trim_end(), PLAIN.replace('A', "B"));
        assert_eq!(read(&joined).len(), 2, "{joined}");
        assert!(joined.contains("-----END A----------BEGIN B-----"));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_line() {
        let wrong = |text: &str| sections(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(wrong(&PLAIN.replace("-----END A-----", "")), "line 1: BEGIN A without its END; is the file cut?");
        assert_eq!(wrong(&format!("x\n{}", PLAIN.replace("Zm9v", "Zm*v"))), "line 2: what stands in A is not Base64");
        assert_eq!(wrong("\n\n-----BEGIN A\n"), "line 3: a BEGIN line without its closing dashes");
        let lost_end = format!("{}{PLAIN}", PLAIN.replace("-----END A-----\n", ""));
        assert!(wrong(&lost_end).contains("before the next section"));
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic() {
        for end in 0..PLAIN.len() {
            let _ = sections(&PLAIN.as_bytes()[..end]);
            let mut changed = PLAIN.as_bytes().to_vec();
            changed[end] = 0xff;
            let _ = sections(&changed);
        }
        assert_eq!(read(""), []);
    }

    #[test]
    fn base64_has_whole_bytes_only() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm8", "fo"), ("Zm9v", "foo")] {
            assert_eq!(base64(text).as_deref().map(Vec::as_slice), Some(bytes.as_bytes()));
        }
        for text in ["Z", "Zm9vY", "Z===", "Zm-v"] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
