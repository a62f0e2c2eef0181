//! Request heads: bytes in, a [`Head`] out, without a socket.
//!
//! `httparse` reads the grammar. The checks around it refuse whatever two readers could understand differently: bare CR
//! or LF, any Transfer-Encoding, a second Content-Length or Host. A refusal ends the connection.

use httparse::{EMPTY_HEADER, Status};

use super::accept;

/// A head may have so many bytes, the empty line included.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// And so many fields.
pub const FIELDS_MAX: usize = 64;
/// A body may have so many bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// What the name of the cookie that a login sets begins with; see [`Head::session_cookie`].
const SESSION_COOKIE: &str = "vless_session";

/// What a request says before its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub method: Method,
    /// The path, cut at its slashes and percent-decoded. `/` is one empty segment.
    pub segments: Vec<String>,
    /// Decoded pairs of the query.
    pub query: Vec<(String, String)>,
    /// 0 or 1: the version is HTTP/1.x.
    pub minor_version: u8,
    pub keep_alive: bool,
    pub content_length: usize,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub host: Option<String>,
    pub origin: Option<String>,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// The value of the cookie [`Head::session_cookie`].
    pub session: Option<String>,
    pub if_match: Option<String>,
    pub if_none_match: Option<String>,
    pub accept: String,
    pub accepts_gzip: bool,
    /// By the browser's word, a page of another site asks.
    pub fetched_cross_site: bool,
    /// By the browser's word, the answer replaces the page in its window: somebody follows a link or a bookmark.
    pub is_navigation: bool,
    pub upgrade: Upgrade,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Patch,
    Delete,
    Options,
    /// One that HTTP knows and no path here.
    Other,
}

/// Whether the client wants to leave HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    #[default]
    None,
    /// A WebSocket of version 13 with this key.
    WebSocket(String),
    /// A WebSocket that lacks what RFC 6455 4.2.1 asks for.
    BrokenWebSocket,
}

/// Outcome of reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The head, and how many bytes it took.
    Complete(Box<Head>, usize),
    Refused(Refusal),
}

/// Why a request is not served. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP, or HTTP that can be read in two ways.
    Malformed(&'static str),
    HeadTooLarge,
    /// The first line alone is longer than a head may be.
    TargetTooLong,
    BodyTooLarge,
    /// A body without a length we accept.
    LengthRequired,
    MethodUnknown,
    VersionUnsupported,
    ExpectationUnknown,
    /// The head or the body did not come in time.
    TooSlow,
}

impl Refusal {
    pub fn status(self) -> u16 {
        self.answer().0
    }

    /// The word for programs.
    pub fn code(self) -> &'static str {
        self.answer().1
    }

    fn answer(self) -> (u16, &'static str) {
        match self {
            Self::Malformed(_) => (400, "bad_request"),
            Self::TooSlow => (408, "request_timeout"),
            Self::LengthRequired => (411, "length_required"),
            Self::BodyTooLarge => (413, "body_too_large"),
            Self::TargetTooLong => (414, "target_too_long"),
            Self::ExpectationUnknown => (417, "expectation_unknown"),
            Self::HeadTooLarge => (431, "head_too_large"),
            Self::MethodUnknown => (501, "method_unknown"),
            Self::VersionUnsupported => (505, "version_unsupported"),
        }
    }

    pub fn message(self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::TooSlow => "the request was not complete in time",
            Self::LengthRequired => "a body needs one Content-Length and no Transfer-Encoding",
            Self::BodyTooLarge => "the body is longer than 65536 bytes",
            Self::TargetTooLong => "the first line is longer than 16384 bytes",
            Self::ExpectationUnknown => "only the expectation 100-continue is known",
            Self::HeadTooLarge => "the head is longer than 16384 bytes or has more than 64 fields",
            Self::MethodUnknown => "this is no method of HTTP",
            Self::VersionUnsupported => "only HTTP/1.0 and HTTP/1.1 are spoken here",
        }
    }
}

/// Reads the head at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    match try_parse(bytes) {
        Ok(Some((head, length))) => Parsed::Complete(Box::new(head), length),
        Ok(None) if bytes.len() >= HEAD_BYTES_MAX && !bytes[..HEAD_BYTES_MAX].contains(&b'\n') => {
            Parsed::Refused(Refusal::TargetTooLong)
        }
        Ok(None) if bytes.len() >= HEAD_BYTES_MAX => Parsed::Refused(Refusal::HeadTooLarge),
        Ok(None) => Parsed::Partial,
        Err(refusal) => Parsed::Refused(refusal),
    }
}

fn try_parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let head_bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let end = head_bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(head_bytes.len(), |at| at + 4);
    refuse_bare_line_ends(&head_bytes[..end])?;
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(&head_bytes[..end]) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Refusal::VersionUnsupported),
        Err(_) => return Err(Refusal::Malformed("this is not an HTTP/1.1 request")),
    };
    let mut head = request_line(&request)?;
    let mut seen = Seen::default();
    for field in request.headers.iter() {
        head.read_field(field, &mut seen)?;
    }
    head.finish(&seen)?;
    Ok(Some((head, length)))
}

/// The parser takes a bare LF for a line end, as old servers did, while proxies in front may not.
fn refuse_bare_line_ends(head: &[u8]) -> Result<(), Refusal> {
    const BARE: Refusal = Refusal::Malformed("a line must end with CR LF, and neither may stand alone");
    for (at, &byte) in head.iter().enumerate() {
        let is_bare = match byte {
            b'\n' => at == 0 || head[at - 1] != b'\r',
            // The last byte may be half of a line end.
            b'\r' => head.get(at + 1).is_some_and(|&next| next != b'\n'),
            _ => false,
        };
        if is_bare {
            return Err(BARE);
        }
    }
    Ok(())
}

fn request_line(request: &httparse::Request<'_, '_>) -> Result<Head, Refusal> {
    let method = match request.method.unwrap_or_default() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "CONNECT" | "PUT" | "TRACE" => Method::Other,
        _ => return Err(Refusal::MethodUnknown),
    };
    let target = request.path.unwrap_or_default();
    // Of CONNECT and `OPTIONS *` only the method matters.
    let is_method_alone = request.method == Some("CONNECT") || method == Method::Options && target == "*";
    let target = if is_method_alone { "/" } else { target };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(path) = path.strip_prefix('/') else {
        return Err(Refusal::Malformed("the target must be a path that begins with a slash"));
    };
    let minor_version = request.version.unwrap_or(0);
    Ok(Head {
        method,
        segments: path.split('/').map(decode).collect::<Result<_, _>>()?,
        query: pairs(query)?,
        minor_version,
        keep_alive: minor_version == 1,
        ..Head::default()
    })
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

/// Undoes percent-encoding. What does not become text, or becomes a control character, is refused.
fn decode(text: &str) -> Result<String, Refusal> {
    const BROKEN: Refusal = Refusal::Malformed("the target has a broken percent-encoding");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| (byte as char).to_digit(16)).ok_or(BROKEN);
            bytes.push((digit()? * 16 + digit()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    let decoded = String::from_utf8(bytes).map_err(|_| BROKEN)?;
    if decoded.chars().any(char::is_control) { Err(BROKEN) } else { Ok(decoded) }
}

/// Fields that matter together.
#[derive(Default)]
struct Seen {
    content_length: bool,
    transfer_encoding: bool,
    host: bool,
    upgrades_to_web_socket: bool,
    connection_upgrades: bool,
    key: Option<String>,
    version_13: bool,
    navigates: bool,
    replaces_no_page: bool,
    accept_encoding: String,
    cookies: Vec<String>,
}

impl Head {
    fn read_field(&mut self, field: &httparse::Header<'_>, seen: &mut Seen) -> Result<(), Refusal> {
        let Ok(value) = std::str::from_utf8(field.value) else {
            return Err(Refusal::Malformed("a field is not text"));
        };
        let value = value.trim();
        let lists = |word: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
        match field.name.to_ascii_lowercase().as_str() {
            "content-length" => self.content_length = content_length(value, &mut seen.content_length)?,
            "transfer-encoding" => seen.transfer_encoding = true,
            "host" => {
                if std::mem::replace(&mut seen.host, true) {
                    return Err(Refusal::Malformed("the field Host is there twice"));
                }
                self.host = Some(value.to_owned());
            }
            "connection" => {
                seen.connection_upgrades |= lists("upgrade");
                self.keep_alive = (self.keep_alive || lists("keep-alive")) && !lists("close");
            }
            "upgrade" => seen.upgrades_to_web_socket |= lists("websocket"),
            "sec-websocket-key" => seen.key = Some(value.to_owned()),
            "sec-websocket-version" => seen.version_13 = value == "13",
            "expect" => {
                if !value.eq_ignore_ascii_case("100-continue") {
                    return Err(Refusal::ExpectationUnknown);
                }
                self.expects_continue = true;
            }
            "origin" => self.origin = Some(value.to_owned()),
            "authorization" => self.bearer = bearer(value),
            "cookie" => seen.cookies.push(value.to_owned()),
            "if-match" => self.if_match = Some(value.to_owned()),
            "if-none-match" => add_to_list(self.if_none_match.get_or_insert_default(), value),
            "accept" => add_to_list(&mut self.accept, value),
            "accept-encoding" => add_to_list(&mut seen.accept_encoding, value),
            "sec-fetch-site" => self.fetched_cross_site = value.eq_ignore_ascii_case("cross-site"),
            "sec-fetch-mode" => seen.navigates = value.eq_ignore_ascii_case("navigate"),
            // A frame navigates, too, but stays in the other page.
            "sec-fetch-dest" => seen.replaces_no_page = !value.eq_ignore_ascii_case("document"),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, seen: &Seen) -> Result<(), Refusal> {
        if seen.transfer_encoding {
            return Err(Refusal::LengthRequired);
        }
        if self.content_length > BODY_BYTES_MAX {
            return Err(Refusal::BodyTooLarge);
        }
        if self.minor_version == 1 && !seen.host {
            return Err(Refusal::Malformed("the field Host is missing"));
        }
        self.expects_continue &= self.minor_version == 1;
        self.accepts_gzip = accept::takes_gzip(&seen.accept_encoding);
        self.is_navigation = seen.navigates && !seen.replaces_no_page;
        let name = self.session_cookie();
        self.session = seen.cookies.iter().find_map(|pairs| cookie(pairs, &name));
        if seen.upgrades_to_web_socket {
            // 16 bytes in Base64.
            let key = seen.key.as_ref().filter(|key| key.len() == 24 && key.ends_with("=="));
            let is_complete = seen.connection_upgrades && seen.version_13 && self.minor_version == 1;
            self.upgrade = match key {
                Some(key) if is_complete && self.method == Method::Get => Upgrade::WebSocket(key.clone()),
                _ => Upgrade::BrokenWebSocket,
            };
        }
        Ok(())
    }

    /// The name of the cookie that a login sets. Browsers give a cookie to every port of a host, so the port is in its
    /// name: several servers are often reached through tunnels on one machine.
    pub fn session_cookie(&self) -> String {
        let port = self.host.as_deref().and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
        match port.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(port) => format!("{SESSION_COOKIE}_{port}"),
            None => SESSION_COOKIE.to_owned(),
        }
    }

    /// The value of `name` in the query. One that is empty is none.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

fn content_length(value: &str, seen: &mut bool) -> Result<usize, Refusal> {
    if std::mem::replace(seen, true) {
        return Err(Refusal::Malformed("the field Content-Length is there twice"));
    }
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Malformed("Content-Length is not a number"));
    }
    // More digits than a number holds are too large, not malformed.
    value.parse().map_err(|_| Refusal::BodyTooLarge)
}

/// A list may come in several fields of one name (RFC 9110 5.3).
fn add_to_list(list: &mut String, value: &str) {
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(value);
}

fn bearer(value: &str) -> Option<String> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn cookie(pairs: &str, wanted: &str) -> Option<String> {
    let mut pairs = pairs.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests;
