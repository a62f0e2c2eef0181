//! Parts of a file that a client asks for (RFC 9110 14): one range of bytes. Several at once are answered with the whole,
//! which the standard allows and which cannot be made to cost more than the file.

use std::ops::Range;

/// What a `Range` field asks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    Part(Range<usize>),
    /// Nothing of it lies in the file.
    Unsatisfiable,
}

/// Reads the value of a `Range` field for a file of `length` bytes; what is not well formed asks for the whole.
pub(super) fn wanted(field: &[u8], length: usize) -> Wanted {
    let spec = std::str::from_utf8(field).ok().and_then(|text| text.trim().split_once('='));
    // Names of units are the same in any case (RFC 9110 14.1).
    let Some((_, spec)) = spec.filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes")) else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        // The last so many bytes.
        (None, Some(0)) => Wanted::Unsatisfiable,
        (None, Some(count)) if first.trim().is_empty() => part(length.saturating_sub(count)..length),
        (Some(first), Some(last)) if first <= last => part(first..last.saturating_add(1).min(length)),
        (Some(first), None) if last.trim().is_empty() => part(first..length),
        _ => Wanted::Whole,
    }
}

fn part(range: Range<usize>) -> Wanted {
    if range.start < range.end { Wanted::Part(range) } else { Wanted::Unsatisfiable }
}

fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Larger than any file is as good as the largest number.
    is_plain.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_a_part_and_anything_else_the_whole() {
        let of = |field: &str| wanted(field.as_bytes(), 100);
        assert_eq!(of("bytes=0-9"), Wanted::Part(0..10));
        assert_eq!(of("Bytes=90-"), Wanted::Part(90..100));
        assert_eq!(of("bytes=-10"), Wanted::Part(90..100));
        assert_eq!(of("bytes=-1000"), Wanted::Part(0..100));
        assert_eq!(of("bytes=50-99999999999999999999999"), Wanted::Part(50..100));
        for nothing in ["bytes=100-", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(of(nothing), Wanted::Unsatisfiable, "{nothing}");
        }
        for whole in ["", "bytes=", "bytes=-", "bytes=9-1", "lines=1-2", "bytes=0-1,5-6", "bytes=a-b", "bytes=1--2"] {
            assert_eq!(of(whole), Wanted::Whole, "{whole}");
        }
        assert_eq!(wanted(b"bytes=-5", 0), Wanted::Unsatisfiable);
        assert_eq!(wanted(b"\xff", 10), Wanted::Whole);
    }
}
