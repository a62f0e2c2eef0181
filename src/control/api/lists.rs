//! Which part of a list is wanted: the same rules for every list.

use crate::control::http::head::Head;
use crate::control::http::response::Reply;

/// How many entries are wanted: `default` unless the query says how many, and never more than `most`.
///
/// # Errors
/// The answer to a `limit` that is no number from 1 on.
pub fn limit(head: &Head, default: usize, most: usize) -> Result<usize, Reply> {
    match number(head, "limit")? {
        None => Ok(default),
        Some(0) => Err(bad_request("limit is a number from 1 on")),
        Some(limit) => Ok(usize::try_from(limit).unwrap_or(most).min(most)),
    }
}

/// A number in the query.
///
/// # Errors
/// The answer to what is no number.
pub fn number(head: &Head, name: &str) -> Result<Option<u64>, Reply> {
    head.parameter(name).map(str::parse).transpose().map_err(|_| bad_request(&format!("{name} is a whole number")))
}

pub fn bad_request(message: &str) -> Reply {
    Reply::error(400, "bad_request", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limit_text: &str) -> Result<usize, u16> {
        let head = Head { query: vec![("limit".to_owned(), limit_text.to_owned())], ..Head::default() };
        limit(&head, 100, 500).map_err(|refused| refused.status)
    }

    #[test]
    fn a_limit_is_a_number_from_one_on_and_more_than_the_most_is_the_most() {
        assert_eq!(limit(&Head::default(), 100, 500), Ok(100));
        assert_eq!(["", "1", "500", "501", "18446744073709551615"].map(of), [100, 1, 500, 500, 500].map(Ok));
        assert_eq!(["0", "-1", "x", "1.5", "99999999999999999999"].map(of), [Err(400); 5]);
    }
}
