//! Entry points for fuzzing: ordinary functions that take any bytes and fail loudly if an invariant breaks.
//!
//! Not part of the server. The tests call them, too, so they cannot rot.

use super::link::Link;

/// Reads `text` as a share link: what is understood can be dialled, and what is said of any other is text that repeats no
/// id. Returns whether it was understood.
pub fn fuzz_link(text: &str) -> bool {
    match Link::parse(text) {
        Ok(link) => {
            assert!(!link.host.is_empty() && link.port != 0, "{link:?}");
            assert!(!link.is_vision || link.tls.is_some(), "Vision without TLS");
            let is_shown = |text: &String| !text.contains(char::is_control);
            let tls = link.tls.iter();
            assert!(tls.flat_map(|tls| tls.alpn.iter().chain([&tls.server_name]).chain(&tls.pin)).all(is_shown));
            true
        }
        Err(failure) => {
            assert!(!failure.message.contains(char::is_control), "{}", failure.message);
            let id = text.split("://").nth(1).and_then(|rest| rest.split(['@', '?', '#']).next());
            // No word of a message has so many letters and digits, and what stands elsewhere, too, is no secret.
            let is_word = |id: &str| id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let is_secret = |id: &&str| is_word(id) && text.matches(id).count() == 1;
            assert!(id.filter(is_secret).is_none_or(|id| !failure.message.contains(id)), "{}", failure.message);
            false
        }
    }
}
