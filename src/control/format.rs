//! Numbers as people read them: 1024-based sizes with two decimals, speeds, times.

const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];

/// `1.50 KB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    // What would be rounded to 1024 belongs to the next unit.
    while value >= 1023.995 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

/// `1.50 KB/s`.
pub fn speed(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// `0.50 MB`, whatever the size.
pub fn megabytes(count: u64) -> String {
    format!("{:.2} MB", count as f64 / f64::from(1 << 20))
}

/// `0.50 GB`, whatever the size.
pub fn gigabytes(count: u64) -> String {
    format!("{:.2} GB", count as f64 / f64::from(1 << 30))
}

/// `2d 3h 0m 7s`: from the largest unit that is not 0.
pub fn duration(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    parts[first..].iter().map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)] as char).collect()
}

/// The 16 bytes of an id in hexadecimal groups.
pub fn id(id: &[u8; 16]) -> String {
    uuid::Uuid::from_bytes(*id).hyphenated().to_string()
}

/// The first eight characters of an id: enough to tell users apart, not enough to be one.
pub fn masked_id(bytes: &[u8; 16]) -> String {
    id(bytes).chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_decimals_and_the_fitting_unit() {
        let shown = [0, 1023, 1024, 1536, 1_048_575, 1 << 20, 5 << 30, 3 << 40, u64::MAX].map(bytes);
        let expected =
            ["0.00 B", "1023.00 B", "1.00 KB", "1.50 KB", "1.00 MB", "1.00 MB", "5.00 GB", "3.00 TB", "16777216.00 TB"];
        assert_eq!(shown, expected);
        assert_eq!(
            (speed(0), megabytes(1 << 19), gigabytes(0)),
            ("0.00 B/s".into(), "0.50 MB".into(), "0.00 GB".into())
        );
    }

    #[test]
    fn durations_begin_with_the_largest_unit() {
        let shown = [0, 59, 60, 3600, 90_061].map(duration);
        assert_eq!(shown, ["0s", "59s", "1m 0s", "1h 0m 0s", "1d 1h 1m 1s"]);
    }
}
