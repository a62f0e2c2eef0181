//! The exposition formats: Prometheus text 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write;

use super::{Kind, Number, Row, Source, rows};
use crate::control::http::accept::{Wish, wishes};
use crate::control::view::View;
use crate::stats::histogram::{BOUNDS_US, Durations};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What the client likes better, by its field `Accept`; the older format where it does not say. A client that takes
    /// neither gets that, too: it may know more than it says.
    pub fn wanted(accept: &str) -> Self {
        let liking = |format: Self| {
            let fitting = wishes(accept).filter_map(|wish| Some((format.precision(&wish)?, wish.weight)));
            // What was said about this format counts, not what was said about all.
            fitting.max_by_key(|(precision, _)| *precision).map_or((0.0, 0), |(precision, weight)| (weight, precision))
        };
        let (open, plain) = (liking(Self::OpenMetrics), liking(Self::Prometheus));
        // Of two that it likes as much, whoever names OpenMetrics knows the newer one.
        let is_open = open.0 > 0.0 && (open > plain || open == plain && open.1 == Self::NAMED);
        if is_open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The precision of a wish that names a format itself.
    const NAMED: u8 = 2;

    /// How precisely `wish` means this format; `None`: not at all.
    fn precision(self, wish: &Wish<'_>) -> Option<u8> {
        let (kind, name, version) = match self {
            Self::Prometheus => ("text/*", "text/plain", "0.0.4"),
            Self::OpenMetrics => ("application/*", "application/openmetrics-text", "1.0.0"),
        };
        let is_other_version = wish.parameter("version").is_some_and(|wanted| wanted != version);
        match wish.name.to_ascii_lowercase() {
            wished if wished == name => (!is_other_version).then_some(Self::NAMED),
            wished if wished == kind => Some(1),
            wished if wished == "*/*" => Some(0),
            _ => None,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All families. Writing into a string does not fail.
pub fn exposition(view: &View, format: Format) -> String {
    let mut text = String::with_capacity(32 << 10);
    for row in rows() {
        let _ = describe(&mut text, row, format);
        let _ = match row.source {
            Source::One(value) => sample(&mut text, row.name, &[], value(view)),
            Source::Many(values) => {
                values(view).iter().try_for_each(|(labels, value)| sample(&mut text, row.name, labels, *value))
            }
            Source::Times(label, times) => times(view).iter().try_for_each(|(value, times)| {
                let labels = if label.is_empty() { Vec::new() } else { vec![(label, (*value).to_owned())] };
                distribution(&mut text, row.name, &labels, times)
            }),
        };
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn describe(text: &mut String, row: &Row, format: Format) -> std::fmt::Result {
    let (name, kind) = match (format, row.kind) {
        (Format::Prometheus, Kind::Info) => (row.name, "gauge"),
        (Format::OpenMetrics, Kind::Counter) => (row.name.trim_end_matches("_total"), "counter"),
        (Format::OpenMetrics, Kind::Info) => (row.name.trim_end_matches("_info"), "info"),
        (_, kind) => (row.name, kind.name()),
    };
    writeln!(text, "# HELP {name} {}", row.help)?;
    writeln!(text, "# TYPE {name} {kind}")?;
    if format == Format::OpenMetrics && !row.unit.is_empty() {
        writeln!(text, "# UNIT {name} {}", row.unit)?;
    }
    Ok(())
}

fn sample(text: &mut String, name: &str, labels: &[(&'static str, String)], value: Number) -> std::fmt::Result {
    text.push_str(name);
    if !labels.is_empty() {
        text.push('{');
        for (number, (label, value)) in labels.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(text, "{comma}{label}=\"{}\"", escaped(value))?;
        }
        text.push('}');
    }
    match value {
        Number::Whole(number) => writeln!(text, " {number}"),
        Number::Real(number) => writeln!(text, " {number:?}"),
    }
}

fn distribution(
    text: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    times: &Durations,
) -> std::fmt::Result {
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    for (bound_us, count) in BOUNDS_US.iter().zip(&times.buckets) {
        below += count;
        let labels = [labels, &[("le", seconds(*bound_us))]].concat();
        sample(text, &bucket, &labels, Number::Whole(below))?;
    }
    let count = times.count();
    sample(text, &bucket, &[labels, &[("le", "+Inf".to_owned())]].concat(), Number::Whole(count))?;
    sample(text, &format!("{name}_sum"), labels, Number::Real(times.sum_us as f64 / 1e6))?;
    sample(text, &format!("{name}_count"), labels, Number::Whole(count))
}

/// Microseconds in seconds, as OpenMetrics wants bounds: `0.001`, `1.0`, `1e-05`.
fn seconds(microseconds: u64) -> String {
    let seconds = microseconds as f64 / 1e6;
    if seconds >= 1e-4 || microseconds == 0 {
        return format!("{seconds:?}");
    }
    let text = format!("{seconds:e}");
    match text.split_once("e-") {
        Some((digits, exponent)) => format!("{digits}e-{exponent:0>2}"),
        None => text,
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_canonical() {
        assert_eq!([0, 1, 20, 100, 2500, 1_000_000].map(seconds), ["0.0", "1e-06", "2e-05", "0.0001", "0.0025", "1.0"]);
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = String::new();
        sample(&mut text, "x", &[("user", "a\"b\\c\nd".to_owned())], Number::Whole(1)).unwrap();
        assert_eq!(text, "x{user=\"a\\\"b\\\\c\\nd\"} 1\n");
    }

    #[test]
    fn a_distribution_is_cumulative() {
        let mut times = Durations { sum_us: 5_000_000, max_us: 9, ..Durations::default() };
        (times.buckets[0], times.buckets[3], times.buckets[BOUNDS_US.len()]) = (2, 3, 1);
        let mut text = String::new();
        distribution(&mut text, "x", &[("source", "pool".to_owned())], &times).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [r#"x_bucket{source="pool",le="1.6e-05"} 2"#, r#"x_bucket{source="pool",le="3.2e-05"} 2"#]
        );
        assert_eq!(lines[3], r#"x_bucket{source="pool",le="0.000128"} 5"#);
        let end = [
            r#"x_bucket{source="pool",le="16.777216"} 5"#,
            r#"x_bucket{source="pool",le="+Inf"} 6"#,
            r#"x_sum{source="pool"} 5.0"#,
            r#"x_count{source="pool"} 6"#,
        ];
        assert_eq!(lines[lines.len() - 4..], end);
    }

    #[test]
    fn the_format_is_the_one_that_the_client_likes_better() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for open in [
            prometheus,
            "application/openmetrics-text",
            "text/plain;q=0.2, application/openmetrics-text;q=0.9",
            "application/openmetrics-text; version=1.0.0; charset=utf-8, text/plain;version=0.0.4",
            "text/html, application/openmetrics-text;q=0.5, */*;q=0.1",
            "application/*",
            "text/plain;q=0, */*",
        ] {
            assert_eq!(Format::wanted(open), Format::OpenMetrics, "{open}");
        }
        for plain in [
            "",
            "*/*",
            "text/plain",
            "text/*, application/openmetrics-text;q=0.9",
            "application/openmetrics-text;q=0.2, text/plain;q=0.9",
            "application/openmetrics-text;q=0, */*",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=0.0.1",
            "application/json",
        ] {
            assert_eq!(Format::wanted(plain), Format::Prometheus, "{plain}");
        }
    }

    /// What `promtool check metrics` complains about, too.
    #[test]
    fn names_say_their_unit_and_kind() {
        const UNITS: [&str; 2] = ["bytes", "seconds"];
        const NOT_BASE: [&str; 9] =
            ["milliseconds", "ms", "minutes", "hours", "days", "kilobytes", "megabytes", "bits", "percent"];
        for row in rows() {
            let name = row.name.trim_end_matches("_total");
            assert!(name.ends_with(row.unit), "{name}");
            let words: Vec<_> = name.split('_').collect();
            assert!(row.unit.is_empty() || UNITS.contains(&row.unit), "{name}");
            assert_eq!(words.last().is_some_and(|last| UNITS.contains(last)), !row.unit.is_empty(), "{name}");
            assert!(!words.iter().any(|word| NOT_BASE.contains(word)), "{name}");
            assert!(!words.iter().any(|word| ["gauge", "counter", "histogram"].contains(word)), "{name}");
            assert!(["vless", "process"].contains(&words[0]), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            let says_unit = ["Seconds since", "seconds since"].iter().any(|words| row.help.contains(words));
            assert!(!says_unit || row.unit == "seconds", "{name}");
            assert_eq!(row.kind == Kind::Counter, row.name.ends_with("_total"), "{name}");
            assert!(row.help.ends_with('.') && !row.help.contains('\n'), "{name}");
            assert_eq!(rows().filter(|other| other.name == row.name).count(), 1, "{name}");
        }
    }
}
