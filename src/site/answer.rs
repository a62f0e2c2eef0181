//! Heads and bodies of answers.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use super::content::File;
use super::range::{self, Wanted};
use crate::protocol::http_date;

/// An answer, ready to be sent: first the head, then the part of the body.
#[derive(Debug)]
pub struct Answer {
    pub head: Vec<u8>,
    pub body: Arc<[u8]>,
    pub part: Range<usize>,
    /// The connection ends behind it.
    pub closes: bool,
}

/// How an answer is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) now: SystemTime,
    /// The head alone: the method was HEAD.
    pub(super) head_only: bool,
    pub(super) closes: bool,
}

/// What a request says about which copy it has and which part it wants; empty where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conditions<'a> {
    pub(super) if_match: Option<&'a [u8]>,
    pub(super) if_unmodified_since: Option<&'a [u8]>,
    pub(super) if_none_match: Option<&'a [u8]>,
    pub(super) if_modified_since: Option<&'a [u8]>,
    pub(super) range: Option<&'a [u8]>,
    pub(super) if_range: Option<&'a [u8]>,
}

/// The answer that gives `file`.
pub(super) fn file(file: &File, conditions: &Conditions<'_>, manner: Manner) -> Answer {
    if is_another(file, conditions) {
        return page("412 Precondition Failed", "", manner);
    }
    if is_unchanged(file, conditions) {
        let fields = format!("Last-Modified: {}\r\nETag: {}\r\n", file.modified, file.etag);
        return answer("304 Not Modified", &fields, &Arc::default(), 0..0, manner);
    }
    let length = file.bytes.len();
    let has_same = conditions.if_range.is_none_or(|field| same(field, &file.etag) || same(field, &file.modified));
    let wanted = match conditions.range {
        Some(field) if has_same => range::wanted(field, length),
        _ => Wanted::Whole,
    };
    let (status, part, more) = match wanted {
        Wanted::Whole => ("200 OK", 0..length, "Accept-Ranges: bytes\r\n".to_owned()),
        Wanted::Part(part) => {
            let field = format!("Content-Range: bytes {}-{}/{length}\r\n", part.start, part.end - 1);
            ("206 Partial Content", part, field)
        }
        Wanted::Unsatisfiable => {
            return page(
                "416 Requested Range Not Satisfiable",
                &format!("Content-Range: bytes */{length}\r\n"),
                manner,
            );
        }
    };
    let fields = format!(
        "Content-Type: {}\r\nContent-Length: {}\r\nLast-Modified: {}\r\nETag: {}\r\n{more}",
        file.kind,
        part.len(),
        file.modified,
        file.etag
    );
    answer(status, &fields, &file.bytes, part, manner)
}

/// The answer that says with a page of the site that there is nothing.
pub(super) fn not_found(file: &File, manner: Manner) -> Answer {
    let fields = format!("Content-Type: {}\r\nContent-Length: {}\r\n", file.kind, file.bytes.len());
    answer("404 Not Found", &fields, &file.bytes, 0..file.bytes.len(), manner)
}

/// A short page that says `status`; `fields` are further lines of its head.
pub(super) fn page(status: &str, fields: &str, manner: Manner) -> Answer {
    let body = format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n</body>\r\n\
         </html>\r\n"
    );
    let fields = format!("Content-Type: text/html\r\nContent-Length: {}\r\n{fields}", body.len());
    let body: Arc<[u8]> = body.into_bytes().into();
    let part = 0..body.len();
    answer(status, &fields, &body, part, manner)
}

fn answer(status: &str, fields: &str, body: &Arc<[u8]>, part: Range<usize>, manner: Manner) -> Answer {
    let connection = if manner.closes { "close" } else { "keep-alive" };
    let now = manner.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let date = http_date::text(now.as_secs());
    let head = format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}Connection: {connection}\r\n\r\n");
    let part = if manner.head_only { 0..0 } else { part };
    Answer { head: head.into_bytes(), body: Arc::clone(body), part, closes: manner.closes }
}

/// The client wants a copy that this is not. Tags go before dates (RFC 9110 13.2.2), and a date that is none says nothing.
fn is_another(file: &File, conditions: &Conditions<'_>) -> bool {
    match (conditions.if_match, conditions.if_unmodified_since) {
        (Some(tags), _) => !has_tag(tags, |tag| same(tag, &file.etag)),
        (None, Some(since)) => http_date::read(since.trim_ascii()).is_some_and(|since| file.modified_at > since),
        (None, None) => false,
    }
}

/// The client has this very file, or a newer one.
fn is_unchanged(file: &File, conditions: &Conditions<'_>) -> bool {
    match (conditions.if_none_match, conditions.if_modified_since) {
        (Some(tags), _) => has_tag(tags, |tag| same(tag.strip_prefix(b"W/").unwrap_or(tag), &file.etag)),
        (None, Some(since)) => http_date::read(since.trim_ascii()).is_some_and(|since| file.modified_at <= since),
        (None, None) => false,
    }
}

/// One of a list of tags is meant, or any.
fn has_tag(tags: &[u8], is_meant: impl Fn(&[u8]) -> bool) -> bool {
    tags.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || is_meant(tag))
}

fn same(field: &[u8], text: &str) -> bool {
    field.trim_ascii() == text.as_bytes()
}
