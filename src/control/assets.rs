//! The files of the page, embedded at build time: plain and compressed, with a tag of their content.
//!
//! Under `/static/VERSION/` a file never changes, so browsers may keep it for good; without the version, and for the page
//! itself, they ask each time whether it changed.

use super::http::accept;
use super::http::response::Reply;

/// One file.
pub struct File {
    name: &'static str,
    tag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file with these path segments below `/static`; none means the page.
pub fn reply(segments: &[String], if_none_match: Option<&str>, accepts_gzip: bool) -> Reply {
    let (is_versioned, name) = match segments {
        [] => (false, "index.html".to_owned()),
        [version, rest @ ..] if version == VERSION => (true, rest.join("/")),
        _ => (false, segments.join("/")),
    };
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return Reply::error(404, "not_found", "there is no such file");
    };
    let caching = if is_versioned { "public, max-age=31536000, immutable" } else { "no-cache" };
    let is_known = accept::has_tag(if_none_match, file.tag);
    // A compressed file of a few bytes may be longer.
    let gzip = accepts_gzip && file.gzip.len() < file.plain.len();
    let reply = if is_known {
        Reply::empty(304)
    } else {
        Reply::new(200, content_type(&name), if gzip { file.gzip } else { file.plain })
    };
    let reply = if gzip && !is_known { reply.with("Content-Encoding", "gzip") } else { reply };
    reply.with("ETag", file.tag).with("Cache-Control", caching).with("Vary", "Accept-Encoding")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}
