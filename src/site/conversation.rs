//! HTTP/1.1 with one visitor, without a socket: [`Conversation::hear`] takes bytes, [`Conversation::answer`] gives what to
//! say. One request at a time; those that were sent ahead wait as bytes.
//!
//! What a visitor may make us keep is [`HEAD_BYTES_MAX`] and a read. Bodies are counted and thrown away.

use std::time::SystemTime;

use httparse::{EMPTY_HEADER, Error, Request, Status};

pub use super::answer::Answer;
use super::answer::{self, Conditions, Manner};
use super::content::{Content, Found};

/// The longest first line.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// The longest head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 100;
/// A longer body ends the connection behind the answer.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Requests on one connection, as many servers have it.
const REQUESTS_MAX: u32 = 1000;

/// One visitor's side of the conversation.
#[derive(Debug, Default)]
pub struct Conversation {
    /// Heard and not understood yet.
    heard: Vec<u8>,
    /// What is left of the body of the last request.
    body_bytes_left: u64,
    requests: u32,
    /// The next answer is the last one.
    is_ending: bool,
    is_over: bool,
}

/// What a head asks for.
struct Asked<'a> {
    method: &'a str,
    path: Option<String>,
    /// With its question mark and as it was written, for a redirection.
    query: &'a str,
    closes: bool,
    body: Body,
    conditions: Conditions<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Bytes(u64),
    /// Its end cannot be told without reading it.
    Chunks,
}

/// Why a head is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    BadRequest,
    LineTooLong,
    HeadTooLong,
    BadVersion,
    BodyTooLong,
    UnknownCoding,
}

impl Conversation {
    /// Takes what the visitor has sent. Nothing is to be heard before the last answer has been sent.
    pub fn hear(&mut self, bytes: &[u8]) {
        if !self.is_over {
            self.heard.extend_from_slice(bytes);
            self.skip_body();
        }
    }

    /// The beginning of a request is there.
    pub fn is_begun(&self) -> bool {
        !self.heard.is_empty()
    }

    /// The next answer; `None`: more must be heard, or the last one has been given.
    pub fn answer(&mut self, content: &Content, now: SystemTime) -> Option<Answer> {
        if self.is_over || self.heard.is_empty() {
            return None;
        }
        let heard = std::mem::take(&mut self.heard);
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut request = Request::new(&mut fields);
        let read = request.parse(&heard);
        let manner = Manner { now, head_only: request.method == Some("HEAD"), closes: true };
        let (answer, length) = match read {
            Ok(Status::Complete(_)) if !has_line(&heard) => (Fault::LineTooLong.answer(manner), 0),
            Ok(Status::Complete(length)) if length <= HEAD_BYTES_MAX => match asked(&request) {
                Ok(asked) => (self.give(&asked, content, now), length),
                Err(fault) => (fault.answer(manner), length),
            },
            Ok(Status::Complete(_)) => (Fault::HeadTooLong.answer(manner), 0),
            Ok(Status::Partial) => match too_long(&heard) {
                None => {
                    self.heard = heard;
                    return None;
                }
                Some(fault) => (fault.answer(manner), 0),
            },
            Err(error) => (fault_of(error, &heard).answer(manner), 0),
        };
        self.is_over = answer.closes;
        if !self.is_over {
            self.heard = heard.get(length..).unwrap_or_default().to_vec();
            self.skip_body();
        }
        Some(answer)
    }

    /// The answer to a request that did not come in time; `None` where none was begun.
    pub fn too_late(&mut self, now: SystemTime) -> Option<Answer> {
        let is_due = self.is_begun() && !self.is_over;
        self.is_over = true;
        let head_only = self.heard.starts_with(b"HEAD ");
        is_due.then(|| answer::page("408 Request Timeout", "", Manner { now, head_only, closes: true }))
    }

    /// The next answer is the last one. Whoever has had one and has begun no other request gets none.
    pub fn end_soon(&mut self) {
        self.is_ending = true;
        self.is_over |= self.requests > 0 && self.heard.is_empty();
    }

    /// The last answer has been given.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn give(&mut self, asked: &Asked<'_>, content: &Content, now: SystemTime) -> Answer {
        self.requests += 1;
        let body_bytes = match asked.body {
            Body::Bytes(bytes) if bytes <= BODY_BYTES_MAX => Some(bytes),
            _ => None,
        };
        self.body_bytes_left = body_bytes.unwrap_or_default();
        let closes = asked.closes || body_bytes.is_none() || self.is_ending || self.requests >= REQUESTS_MAX;
        let manner = Manner { now, head_only: asked.method == "HEAD", closes };
        if matches!(asked.body, Body::Bytes(bytes) if bytes > BODY_BYTES_MAX) {
            return Fault::BodyTooLong.answer(manner);
        }
        if !matches!(asked.method, "GET" | "HEAD") {
            return answer::page("405 Method Not Allowed", "Allow: GET, HEAD\r\n", manner);
        }
        let Some(path) = &asked.path else { return Fault::BadRequest.answer(manner) };
        match content.find(path) {
            Found::File(file) => answer::file(&file, &asked.conditions, manner),
            Found::Folder => {
                let location = format!("{}/{}", encode(path, b""), encode(asked.query, b"?%"));
                answer::page("301 Moved Permanently", &format!("Location: {location}\r\n"), manner)
            }
            Found::Nothing => match content.not_found() {
                Some(page) => answer::not_found(&page, manner),
                None => answer::page("404 Not Found", "", manner),
            },
        }
    }

    fn skip_body(&mut self) {
        let skipped = self.heard.len().min(usize::try_from(self.body_bytes_left).unwrap_or(usize::MAX));
        self.heard.drain(..skipped);
        self.body_bytes_left -= skipped as u64;
    }
}

impl Fault {
    fn answer(self, manner: Manner) -> Answer {
        let status = match self {
            Self::BadRequest => "400 Bad Request",
            Self::LineTooLong => "414 URI Too Long",
            Self::HeadTooLong => "431 Request Header Fields Too Large",
            Self::BadVersion => "505 HTTP Version Not Supported",
            Self::BodyTooLong => "413 Content Too Large",
            Self::UnknownCoding => "501 Not Implemented",
        };
        answer::page(status, "", Manner { closes: true, ..manner })
    }
}

/// A head that is not whole and cannot become one that is answered.
fn too_long(heard: &[u8]) -> Option<Fault> {
    match heard.len() {
        LINE_BYTES_MAX.. if !has_line(heard) => Some(Fault::LineTooLong),
        HEAD_BYTES_MAX.. => Some(Fault::HeadTooLong),
        _ => None,
    }
}

/// The first line ends within its bounds.
fn has_line(heard: &[u8]) -> bool {
    heard.iter().take(LINE_BYTES_MAX).any(|&byte| byte == b'\n')
}

fn fault_of(error: Error, heard: &[u8]) -> Fault {
    let line = heard.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let names_version = line.windows(5).any(|part| part == b"HTTP/");
    match error {
        Error::TooManyHeaders => Fault::HeadTooLong,
        Error::Version if names_version => Fault::BadVersion,
        _ if line.len() >= LINE_BYTES_MAX => Fault::LineTooLong,
        _ => Fault::BadRequest,
    }
}

/// What a whole head asks for.
fn asked<'a>(request: &Request<'_, 'a>) -> Result<Asked<'a>, Fault> {
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Fault::BadRequest);
    };
    let fields = |name: &str| {
        let same = |field: &&httparse::Header<'a>| field.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(same).map(|field| field.value).collect::<Vec<_>>()
    };
    let field = |name: &str| fields(name).first().copied();
    let hosts = fields("host");
    let has_hosts = hosts.len() <= 1 && hosts.iter().all(|host| is_host(host)) && (version == 0 || !hosts.is_empty());
    if !has_hosts || target.len() > LINE_BYTES_MAX {
        return Err(Fault::BadRequest);
    }
    let says = |word: &str| {
        let mut words = fields("connection").into_iter().flat_map(|value| value.split(|&byte| byte == b','));
        words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    // Whoever asks before it sends a body does not send it after an answer.
    let asks_first = !fields("expect").is_empty();
    let closes = asks_first || if version == 1 { says("close") } else { !says("keep-alive") };
    let local = local_part(target);
    Ok(Asked {
        method,
        path: local.and_then(path_of),
        query: local.map_or("", query_of),
        closes,
        body: body_of(&fields("content-length"), &fields("transfer-encoding"))?,
        conditions: Conditions {
            if_match: field("if-match"),
            if_unmodified_since: field("if-unmodified-since"),
            if_none_match: field("if-none-match"),
            if_modified_since: field("if-modified-since"),
            range: field("range"),
            if_range: field("if-range"),
        },
    })
}

/// How long the body is. Two answers to that are none: whoever stands between us may have chosen the other one.
fn body_of(lengths: &[&[u8]], encodings: &[&[u8]]) -> Result<Body, Fault> {
    match (lengths, encodings) {
        ([], []) => Ok(Body::Bytes(0)),
        ([], [encoding]) if encoding.trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunks),
        ([length], []) => {
            let text = std::str::from_utf8(length.trim_ascii()).map_err(|_| Fault::BadRequest)?;
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !is_plain {
                return Err(Fault::BadRequest);
            }
            text.parse().map(Body::Bytes).map_err(|_| Fault::BodyTooLong)
        }
        ([], _) => Err(Fault::UnknownCoding),
        _ => Err(Fault::BadRequest),
    }
}

/// A host with or without a port, or nothing (RFC 9110 7.2).
fn is_host(field: &[u8]) -> bool {
    field.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%[]:".contains(byte))
}

/// Path and query of a target. `None`: it is no path.
fn local_part(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    // The form for proxies; what is asked for is the same.
    let (_, rest) = target.split_once("://")?;
    match rest.find(['/', '?']) {
        Some(at) => rest.get(at..),
        None => Some("/"),
    }
}

/// The query with its question mark; nothing without one.
fn query_of(local: &str) -> &str {
    let (local, _) = local.split_once('#').unwrap_or((local, ""));
    local.find('?').map_or("", |at| local.split_at(at).1)
}

/// The path that the local part of a target names, decoded and without its query. `None`: it leads out of the site or is
/// not well formed.
fn path_of(local: &str) -> Option<String> {
    let path = local.split(['?', '#']).next()?;
    let path = if path.is_empty() { "/" } else { path };
    // A name that is no text is nobody's.
    let decoded = String::from_utf8_lossy(&decode(path.as_bytes())?).into_owned();
    if !decoded.starts_with('/') || decoded.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for part in decoded.split('/').skip(1) {
        ends_in_slash = matches!(part, "" | "." | "..");
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let slash = if ends_in_slash && !parts.is_empty() { "/" } else { "" };
    Some(format!("/{}{slash}", parts.join("/")))
}

/// `%2F` and the like as the bytes they stand for.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'%' => (digit(rest.next())? * 16 + digit(rest.next())?) as u8,
            byte => byte,
        });
    }
    Some(decoded)
}

/// A path, or a query with what is `kept` of it, as it may stand in a head. A path comes from the decoded one and not from
/// what was asked for: `//name/` there would send the visitor to another host.
fn encode(text: &str, kept: &[u8]) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || [b"/-._~!$&'()*+,;=:@", kept].iter().any(|bytes| bytes.contains(&byte))
    };
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
