//! What the site answers, without a socket and with one.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::conversation::{Conversation, HEAD_BYTES_MAX, LINE_BYTES_MAX};
use super::*;

/// A folder with a page, a style and a folder.
fn content() -> Content {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    fs::create_dir_all(folder.path().join("blog/2024")).unwrap();
    fs::create_dir(folder.path().join(".well-known")).unwrap();
    write("index.html", b"<p>home</p>");
    write("style.css", b"p {}");
    write("blog/index.html", b"blog");
    write("blog/2024/a b.txt", b"a text");
    write(".secret", b"hidden");
    write(".well-known/security.txt", b"mail");
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
    Content::load(folder.path()).unwrap()
}

fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// All answers to `bytes`, as they would be sent, and whether the connection ends.
fn said(content: &Content, bytes: &[u8]) -> (String, bool) {
    let mut conversation = Conversation::default();
    let mut all = Vec::new();
    conversation.hear(bytes);
    while let Some(answer) = conversation.answer(content, at()) {
        all.extend_from_slice(&answer.head);
        all.extend_from_slice(&answer.body[answer.part.clone()]);
    }
    (String::from_utf8(all).unwrap(), conversation.is_over())
}

fn get(content: &Content, rest: &str) -> String {
    said(content, format!("GET {rest}\r\nHost: a\r\n\r\n").as_bytes()).0
}

/// The value of a field of an answer.
fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_file_comes_with_all_that_a_browser_wants_to_know() {
    let answer = get(&content(), "/style.css HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\np {}"), "{answer}");
    for (name, value) in [("Content-Type", "text/css"), ("Content-Length", "4"), ("Connection", "keep-alive")] {
        assert_eq!(field(&answer, name), Some(value), "{answer}");
    }
    assert!(field(&answer, "ETag").is_some() && field(&answer, "Last-Modified").is_some());
    assert_eq!(field(&answer, "Server"), None);
}

#[test]
fn paths_lead_to_files_and_never_out_of_the_site() {
    let content = content();
    let body = |path: &str| get(&content, &format!("{path} HTTP/1.1")).split("\r\n\r\n").nth(1).unwrap().to_owned();
    for (path, expected) in [
        ("/", "<p>home</p>"),
        ("/?q=1", "<p>home</p>"),
        ("/index.html", "<p>home</p>"),
        ("//index.html", "<p>home</p>"),
        ("/blog/", "blog"),
        ("/blog/./2024/../", "blog"),
        ("/blog/2024/a%20b.txt", "a text"),
        ("/.well-known/security.txt", "mail"),
        ("http://a.test/blog/", "blog"),
        ("HTTPS://a.test/blog/?q=1", "blog"),
        ("http://a.test", "<p>home</p>"),
        ("http://a.test?to=/style.css", "<p>home</p>"),
        // The form for proxies begins with a scheme; further on it is a value like others.
        ("/?to=http://b.test/style.css", "<p>home</p>"),
        ("/#http://b.test/style.css", "<p>home</p>"),
    ] {
        assert_eq!(body(path), expected, "{path}");
    }
    let status = |path: &str| get(&content, &format!("{path} HTTP/1.1"))[9..12].to_owned();
    for (path, expected) in [
        ("/none", "404"),
        ("/.secret", "404"),
        ("/link", "404"),
        ("/style.css/", "404"),
        ("/blog", "301"),
        ("/..", "400"),
        ("/../etc/passwd", "400"),
        ("/%2e%2e/%2e%2e/etc/passwd", "400"),
        ("/blog/..%2f..%2f..%2fetc", "400"),
        ("/%zz", "400"),
        ("/%", "400"),
        ("/%00", "400"),
        ("/%ff", "404"),
        ("/a://b.test/style.css", "404"),
        ("nothing", "400"),
        ("a/style.css", "400"),
    ] {
        assert_eq!(status(path), expected, "{path}");
    }
}

#[test]
fn a_folder_without_its_slash_leads_to_the_folder_and_never_to_another_host() {
    let content = content();
    for (target, location) in [
        ("/blog", "/blog/"),
        ("/blog?x=1&y", "/blog/?x=1&y"),
        ("/blog#part", "/blog/"),
        // What begins with two slashes is a host to a browser.
        ("//blog", "/blog/"),
        ("///blog?x", "/blog/?x"),
        ("/%62log?a=%2F\\", "/blog/?a=%2F%5C"),
        ("http://b.test/blog?x", "/blog/?x"),
        ("http://b.test//blog", "/blog/"),
    ] {
        let answer = get(&content, &format!("{target} HTTP/1.1"));
        assert_eq!(field(&answer, "Location"), Some(location), "{target}: {answer}");
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_it_says() {
    let content = content();
    let long = "a".repeat(HEAD_BYTES_MAX);
    for (head, status) in [
        ("HEAD / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("HEAD /.. HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n".to_owned(), "400"),
        (format!("HEAD / HTTP/1.1\r\nHost: a\r\nX: {long}"), "431"),
    ] {
        let answer = said(&content, head.as_bytes()).0;
        assert_eq!(answer.get(9..12), Some(status), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    let mut late = Conversation::default();
    late.hear(b"HEAD / HT");
    assert!(late.too_late(at()).unwrap().part.is_empty());
}

#[test]
fn a_redirection_never_leads_to_another_host() {
    let content = content();
    for asked in [
        "//blog",
        "//b.example/../blog",
        "//b.example/%2e%2e/blog",
        "/\\b.example/..//blog",
        "///./blog",
        "http://b.example/blog",
        "/%62log",
    ] {
        let answer = get(&content, &format!("{asked} HTTP/1.1"));
        assert_eq!(field(&answer, "Location"), Some("/blog/"), "{asked}: {answer}");
    }
    assert_eq!(field(&get(&content, "//blog/2024/%0d%0aX:y/.. HTTP/1.1"), "X"), None);
}

#[test]
fn methods_and_versions() {
    let content = content();
    let head = said(&content, b"HEAD /style.css HTTP/1.1\r\nHost: a\r\n\r\n").0;
    assert!(head.ends_with("\r\n\r\n") && field(&head, "Content-Length") == Some("4"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        let answer = said(&content, format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).0;
        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed"), "{method}: {answer}");
        assert_eq!(field(&answer, "Allow"), Some("GET, HEAD"));
    }
    let (old, closes) = said(&content, b"GET / HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200") && closes && field(&old, "Connection") == Some("close"), "{old}");
    let (_, closes) = said(&content, b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(!closes);
    let (preface, closes) = said(&content, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(preface.starts_with("HTTP/1.1 505") && closes, "{preface}");
}

#[test]
fn what_is_no_request_is_told_so_and_ends() {
    let content = content();
    for (bytes, status) in [
        (&b"\0\x01\x02\x03"[..], "400"),
        (b"\x16\x03\x01\x02\0\x01", "400"),
        (b"GET\r\n\r\n", "400"),
        (b"GET /\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: me@a\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", "413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", "413"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501"),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", "505"),
    ] {
        let (answer, closes) = said(&content, bytes);
        assert_eq!(answer.get(9..12), Some(status), "{}: {answer}", String::from_utf8_lossy(bytes));
        assert!(closes && field(&answer, "Connection") == Some("close"), "{answer}");
    }
    let long_line = [b"GET /", &vec![b'a'; LINE_BYTES_MAX][..]].concat();
    assert!(said(&content, &long_line).0.starts_with("HTTP/1.1 414"));
    let long_head = [b"GET / HTTP/1.1\r\nHost: a\r\nCookie: ", &vec![b'a'; HEAD_BYTES_MAX][..]].concat();
    assert!(said(&content, &long_head).0.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert!(said(&content, many.as_bytes()).0.starts_with("HTTP/1.1 431"));
}

#[test]
fn a_copy_that_is_the_same_is_not_sent_again() {
    let content = content();
    let first = get(&content, "/style.css HTTP/1.1");
    let (tag, date) = (field(&first, "ETag").unwrap(), field(&first, "Last-Modified").unwrap());
    let with = |fields: &str| get(&content, &format!("/style.css HTTP/1.1\r\n{fields}"));
    for same in [
        format!("If-None-Match: {tag}"),
        format!("If-None-Match: \"x\", W/{tag}"),
        "If-None-Match: *".to_owned(),
        format!("If-Modified-Since: {date}"),
        // A copy that is newer than the file is as good.
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT".to_owned(),
    ] {
        let answer = with(&same);
        assert!(answer.starts_with("HTTP/1.1 304") && answer.ends_with("\r\n\r\n"), "{same}: {answer}");
        assert_eq!(field(&answer, "ETag"), Some(tag));
    }
    for other in [
        "If-None-Match: \"x\"".to_owned(),
        format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"),
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
        "If-Modified-Since: tomorrow".to_owned(),
    ] {
        assert!(with(&other).starts_with("HTTP/1.1 200"), "{other}");
    }
}

#[test]
fn who_wants_one_copy_only_is_given_no_other() {
    let content = content();
    let first = get(&content, "/style.css HTTP/1.1");
    let (tag, date) = (field(&first, "ETag").unwrap(), field(&first, "Last-Modified").unwrap());
    let status = |fields: &str| get(&content, &format!("/style.css HTTP/1.1\r\n{fields}"))[9..12].to_owned();
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (fields, expected) in [
        (format!("If-Match: {tag}"), "200"),
        (format!("If-Match: \"x\", {tag}"), "200"),
        ("If-Match: *".to_owned(), "200"),
        ("If-Match: \"x\"".to_owned(), "412"),
        // A weak tag promises less than this field asks for (RFC 9110 13.1.1).
        (format!("If-Match: W/{tag}"), "412"),
        (format!("If-Unmodified-Since: {date}"), "200"),
        (format!("If-Unmodified-Since: {old}"), "412"),
        ("If-Unmodified-Since: yesterday".to_owned(), "200"),
        (format!("If-Match: {tag}\r\nIf-Unmodified-Since: {old}"), "200"),
        (format!("If-Match: {tag}\r\nIf-None-Match: {tag}"), "304"),
        (format!("If-Match: \"x\"\r\nIf-None-Match: {tag}"), "412"),
        ("If-Match: \"x\"\r\nRange: bytes=0-1".to_owned(), "412"),
    ] {
        assert_eq!(status(&fields), expected, "{fields}");
    }
}

#[test]
fn a_part_is_sent_where_it_is_asked_for() {
    let content = content();
    let with = |fields: &str| get(&content, &format!("/ HTTP/1.1\r\n{fields}"));
    let part = with("Range: bytes=3-6");
    assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\nhome"), "{part}");
    assert_eq!((field(&part, "Content-Range"), field(&part, "Content-Length")), (Some("bytes 3-6/11"), Some("4")));
    let beyond = with("Range: bytes=11-");
    assert!(beyond.starts_with("HTTP/1.1 416") && field(&beyond, "Content-Range") == Some("bytes */11"), "{beyond}");
    let tag = field(&part, "ETag").unwrap();
    assert!(with(&format!("Range: bytes=3-6\r\nIf-Range: {tag}")).starts_with("HTTP/1.1 206"));
    assert!(with("Range: bytes=3-6\r\nIf-Range: \"x\"").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_request_is_the_same_however_it_is_cut_and_those_behind_it_wait() {
    let content = content();
    let two = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let whole = said(&content, two).0;
    assert_eq!(whole.matches("HTTP/1.1 ").count(), 2, "{whole}");
    for cut in 0..two.len() {
        let mut conversation = Conversation::default();
        let mut all = Vec::new();
        for piece in [&two[..cut], &two[cut..]] {
            conversation.hear(piece);
            while let Some(answer) = conversation.answer(&content, at()) {
                all.extend_from_slice(&answer.head);
                all.extend_from_slice(&answer.body[answer.part.clone()]);
            }
        }
        assert_eq!(String::from_utf8(all).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn a_line_is_as_long_as_it_is_however_it_is_cut() {
    let content = content();
    for bytes in LINE_BYTES_MAX - 20..LINE_BYTES_MAX + 20 {
        let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(bytes - "GET / HTTP/1.1\r\n".len()));
        let request = format!("{line}Host: a\r\n\r\n");
        let expected = if line.len() <= LINE_BYTES_MAX { "404" } else { "414" };
        assert_eq!(said(&content, request.as_bytes()).0[9..12], *expected, "{bytes} bytes at once");
        let mut conversation = Conversation::default();
        let answer = request.as_bytes().chunks(4096).find_map(|piece| {
            conversation.hear(piece);
            conversation.answer(&content, at())
        });
        assert_eq!(answer.unwrap().head[9..12], *expected.as_bytes(), "{bytes} bytes in pieces");
    }
}

#[test]
fn whoever_is_late_is_told_if_a_request_was_begun() {
    let mut conversation = Conversation::default();
    assert!(conversation.too_late(at()).is_none());
    let mut conversation = Conversation::default();
    conversation.hear(b"GET / HT");
    assert!(conversation.answer(&content(), at()).is_none());
    assert!(conversation.too_late(at()).unwrap().head.starts_with(b"HTTP/1.1 408"));
    assert!(conversation.is_over() && conversation.too_late(at()).is_none());
}

#[test]
fn one_page_and_no_page_are_sites_too() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    fs::write(&page, "one page").unwrap();
    let one = Content::load(&page).unwrap();
    assert!(get(&one, "/ HTTP/1.1").ends_with("\r\n\r\none page"));
    let plain = get(&Content::plain(), "/ HTTP/1.1");
    assert!(plain.contains("<h1>It works!</h1>") && !plain.to_lowercase().contains("vless"), "{plain}");
    fs::write(folder.path().join("index.html"), "home").unwrap();
    fs::write(folder.path().join("404.html"), "lost").unwrap();
    let lost = get(&Content::load(folder.path()).unwrap(), "/none HTTP/1.1");
    assert!(lost.starts_with("HTTP/1.1 404") && lost.ends_with("\r\n\r\nlost"), "{lost}");
}

#[test]
fn a_site_beyond_its_bounds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Content::load(folder.path()), Err(ContentError::NoIndex(_))));
    fs::write(folder.path().join("index.html"), "").unwrap();
    let file = fs::File::create(folder.path().join("large.bin")).unwrap();
    file.set_len(content::SITE_BYTES_MAX + 1).unwrap();
    assert!(matches!(Content::load(folder.path()), Err(ContentError::TooLarge)));
    fs::remove_file(folder.path().join("large.bin")).unwrap();
    let mut deep = folder.path().to_owned();
    for _ in 0..20 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    assert!(matches!(Content::load(folder.path()), Err(ContentError::TooLarge)));
    assert!(matches!(Content::load(Path::new("/nowhere/at/all")), Err(ContentError::Unreadable(..))));
}

fn visit(site: &LoadedSite) -> UnixStream {
    let socket = UnixStream::from(site.visit().unwrap());
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

#[test]
fn a_visitor_is_served_and_what_it_goes_on_sending_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.html"), vec![b'x'; 3 << 20]).unwrap();
    let site = LoadedSite::serve(Content::load(folder.path()).unwrap()).unwrap();
    let mut visitor = visit(&site);
    visitor.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    visitor.write_all(&vec![7; 100_000]).unwrap();
    let mut all = Vec::new();
    visitor.read_to_end(&mut all).unwrap();
    assert!(all.len() > 3 << 20 && all.ends_with(b"xxx"));
}

/// A worker passes on whoever came while it was busy, and the site's thread may have to wait for a processor.
#[test]
fn as_many_may_come_at_once_as_there_is_room_for() {
    let (door, _service) = Service::new(Arc::new(Content::plain())).unwrap();
    for number in 0..400 {
        let (_, theirs) = UnixStream::pair().unwrap();
        assert!(door.send_in(theirs).is_ok(), "number {number} is sent away");
    }
}

#[test]
fn a_site_that_is_dropped_serves_who_is_inside_and_ends() {
    let site = LoadedSite::serve(Content::plain()).unwrap();
    let (mut inside, mut leaving) = (visit(&site), visit(&site));
    leaving.shutdown(Shutdown::Write).unwrap();
    assert_eq!(leaving.read(&mut [0]).unwrap(), 0);
    drop(site);
    inside.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut all = String::new();
    inside.read_to_string(&mut all).unwrap();
    assert!(all.contains("It works!"));
}

/// Whoever goes on asking would hold the files of a site that a reload has replaced, and its thread, for a day.
#[test]
fn a_site_that_is_dropped_gives_each_visitor_one_more_answer_at_the_most() {
    let site = LoadedSite::serve(Content::plain()).unwrap();
    let (mut idle, mut asking, mut new) = (visit(&site), visit(&site), visit(&site));
    let ask = |visitor: &mut UnixStream| {
        visitor.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (mut heard, mut chunk) = (Vec::new(), [0; 4096]);
        while !heard.ends_with(b"</html>\n") {
            let count = visitor.read(&mut chunk).unwrap();
            heard.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8(heard).unwrap()
    };
    assert_eq!(field(&ask(&mut idle), "Connection"), Some("keep-alive"));
    assert_eq!(field(&ask(&mut asking), "Connection"), Some("keep-alive"));
    asking.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    // It is heard before the site is dropped.
    assert_eq!(field(&ask(&mut visit(&site)), "Connection"), Some("keep-alive"));
    drop(site);
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    asking.write_all(b"Host: a\r\n\r\n").unwrap();
    new.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    for visitor in [&mut asking, &mut new] {
        let mut all = String::new();
        visitor.read_to_string(&mut all).unwrap();
        assert_eq!((all.matches("HTTP/1.1 ").count(), field(&all, "Connection")), (1, Some("close")), "{all}");
    }
}

/// A reload serves every site anew.
#[test]
fn the_thread_of_a_site_that_nobody_needs_any_more_ends() {
    let content = Arc::new(content());
    for _ in 0..50 {
        drop(Service::start(Arc::clone(&content)).unwrap());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while Arc::strong_count(&content) > 1 {
        assert!(Instant::now() < deadline, "{} threads stay", Arc::strong_count(&content) - 1);
        thread::sleep(Duration::from_millis(1));
    }
}
