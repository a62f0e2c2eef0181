//! History as comma-separated values, for spreadsheets (RFC 4180).

use std::fmt::Write;

use super::series::Extract;

/// A line of names, and a line for each bucket.
pub fn csv(extract: &Extract) -> String {
    let mut text = String::from("at,upload_bytes,download_bytes,upload_peak_bps,download_peak_bps\r\n");
    for point in &extract.points {
        // Writing into a string does not fail.
        let _ = write!(
            text,
            "{},{},{},{},{}\r\n",
            point.at, point.upload_bytes, point.download_bytes, point.upload_peak_bps, point.download_peak_bps
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::history::clock::Moment;
    use crate::control::history::ring::Moved;
    use crate::control::history::series::{Range, Series, Subject};

    #[test]
    fn each_bucket_is_a_line() {
        let mut series = Series::new(Subject::Overall);
        series.add(Moment::first(600), Moved { up_bytes: 1, down_bytes: 2 }, (3, 4));
        assert_eq!(
            csv(&series.extract(Range::Hour, 600)),
            "at,upload_bytes,download_bytes,upload_peak_bps,download_peak_bps\r\n600,1,2,3,4\r\n"
        );
    }
}
