use super::*;

use std::fs;
use std::io::Cursor;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::app::certs;
use crate::app::config::Flow;
use crate::app::firewall::Firewall;
use crate::app::port_holder::Holder;

/// So many times Enter is enough for all questions.
const ENTERS: &str = "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n";

/// Enter up to each question.
const LISTEN: &str = "";
const PORT: &str = "\n";
const PUBLIC: &str = "\n\n";
const NAME: &str = "\n\n\n";
const ID: &str = "\n\n\n\n";
const MORE: &str = "\n\n\n\n\n";
const TLS: &str = "\n\n\n\n\n\n";
const CERTIFICATE: &str = "\n\n\n\n\n\n\n";
const SERVER_NAME: &str = "\n\n\n\n\n\n\n\n";
const FLOW: &str = "\n\n\n\n\n\n\n\n\n";
const MONITORING: &str = "\n\n\n\n\n\n\n\n\n\n";
const PAGE: &str = "\n\n\n\n\n\n\n\n\n\n\n";
const PAGE_PORT: &str = "\n\n\n\n\n\n\n\n\n\n\n\n";
const CONFIRM: &str = "\n\n\n\n\n\n\n\n\n\n\n\n\n";

/// A machine at 203.0.113.7 where port 8443 is nginx's, 9090 somebody's, and ports below 1024 need root.
struct Planted {
    source: &'static str,
    firewall: Firewall,
    terminal: Option<(usize, usize)>,
}

impl Default for Planted {
    fn default() -> Self {
        Self { source: "1.2.3.4", firewall: Firewall::Ufw, terminal: Some((80, 24)) }
    }
}

impl Machine for Planted {
    fn try_port(&self, ip: IpAddr, port: u16) -> Result<(), PortProblem> {
        if ip == IpAddr::from([192, 0, 2, 1]) {
            return Err(PortProblem::NotMine);
        }
        match port {
            8443 => Err(PortProblem::Taken(Some(Holder { name: "nginx".into(), pid: 77 }))),
            9090 => Err(PortProblem::Taken(None)),
            1..=1023 => Err(PortProblem::NeedsRoot),
            7777 => Err(PortProblem::Other("out of luck".into())),
            _ => Ok(()),
        }
    }

    fn source_address(&self) -> Option<IpAddr> {
        self.source.parse().ok()
    }

    fn firewall(&self) -> Firewall {
        self.firewall.clone()
    }

    fn is_root(&self) -> bool {
        false
    }

    fn terminal(&self) -> Option<(usize, usize)> {
        self.terminal
    }

    fn program(&self) -> String {
        "vless-rust".to_owned()
    }
}

struct Told {
    result: Result<Config, Failure>,
    said: String,
    folder: tempfile::TempDir,
}

impl Told {
    fn path(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder.path()).unwrap().count()
    }
}

fn typed_in(folder: tempfile::TempDir, machine: &Planted, lang: Lang, input: &[u8]) -> Told {
    let mut output = Vec::new();
    let path = folder.path().join("config.json");
    let result = with_person(&path, lang, machine, (&mut Cursor::new(input), Echo::Ours), &mut output);
    Told { result, said: String::from_utf8(output).unwrap(), folder }
}

fn typed(input: &str) -> Told {
    typed_in(tempfile::tempdir().unwrap(), &Planted::default(), Lang::En, input.as_bytes())
}

fn answered(text: &str) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let mut output = Vec::new();
    let answers = Answers::parse(text, "answers.txt").unwrap();
    let result = with_file(&folder.path().join("config.json"), Lang::En, &Planted::default(), answers, &mut output);
    Told { result, said: String::from_utf8(output).unwrap(), folder }
}

#[test]
fn enter_through_all_gives_a_configuration_that_loads() {
    let told = typed(ENTERS);
    let config = told.result.as_ref().unwrap();
    // 8443 is taken, 443 needs root.
    assert_eq!((config.server.port, config.monitoring.port), (2053, 9091));
    assert_eq!(config.users[0].flow, Flow::Vision);
    assert!(config.tls.is_some() && config.monitoring.admin_token.is_some());
    let loaded = Config::load(&told.path()).unwrap();
    assert_eq!(loaded.users[0].id, config.users[0].id);
    assert_eq!(certs::load_existing(&loaded, std::time::SystemTime::now()).unwrap().len(), 1);
}

#[test]
fn the_last_page_has_all_that_comes_next() {
    let told = typed(ENTERS);
    let config = told.result.as_ref().unwrap();
    let certificate = &certs::load_existing(config, std::time::SystemTime::now()).unwrap()[0];
    let token = config.monitoring.admin_token.as_ref().unwrap().reveal();
    for wanted in [
        "vless://",
        &certs::hex(&certificate.fingerprint),
        &certificate.public_key_sha256,
        &format!("http://127.0.0.1:9091/#token={token}"),
        "ssh -N -L 9091:127.0.0.1:9091 root@",
        "sudo ufw allow 2053/tcp",
        "this terminal has 80 and 24",
        "vless-rust service install",
        "certs/server.crt",
    ] {
        assert!(told.said.contains(wanted), "{wanted}\n{}", told.said);
    }
    assert!(told.said.contains("\nTo serve, from now on:\n  vless-rust run "), "{}", told.said);
}

#[test]
fn a_terminal_that_is_large_enough_gets_the_code() {
    let machine = Planted { terminal: Some((100, 60)), ..Planted::default() };
    let told = typed_in(tempfile::tempdir().unwrap(), &machine, Lang::En, ENTERS.as_bytes());
    assert!(told.said.contains('▀'), "{}", told.said);
}

#[test]
fn no_line_of_the_dialogue_is_wider_than_a_terminal() {
    for lang in [Lang::En, Lang::Zh] {
        let told = typed_in(tempfile::tempdir().unwrap(), &Planted::default(), lang, ENTERS.as_bytes());
        // An ideogram takes two columns.
        let width = |line: &str| line.chars().map(|c| if c > '\u{2e7f}' { 2 } else { 1 }).sum::<usize>();
        // Links, paths and the page's address are as long as they are.
        let wide = told.said.lines().filter(|line| width(line) > 80);
        let wide =
            wide.filter(|line| !line.contains("://") && !line.contains("/config.json") && !line.contains("/tmp"));
        assert_eq!(wide.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
fn what_is_said_about_a_bad_answer_fits_a_terminal_too() {
    for lang in [Lang::En, Lang::Zh] {
        for (before, bad) in [(LISTEN, "192.0.2.1"), (PUBLIC, "http://example.com:8443/"), (PORT, "7777")] {
            let input = format!("{before}{bad}\n");
            let told = typed_in(tempfile::tempdir().unwrap(), &Planted::default(), lang, input.as_bytes());
            let wide: Vec<_> = told.said.lines().filter(|line| lines::columns(line) > 79).collect();
            assert_eq!(wide, Vec::<&str>::new(), "{bad}");
        }
    }
}

#[test]
fn the_dialogue_in_plain_text() {
    let told = typed("?\n\n\n\n\n\n\n\n\n\n\n\n\n\nno\n");
    let folder = told.folder.path().display().to_string();
    let said = told.said.replace(&folder, "FOLDER");
    assert_eq!(said, include_str!("dialogue.txt"), "\n{said}");
    assert_eq!(told.result.unwrap_err().code, exit::NO_INPUT);
}

#[test]
fn the_dialogue_is_chinese_where_that_is_wanted() {
    let told = typed_in(tempfile::tempdir().unwrap(), &Planted::default(), Lang::Zh, ENTERS.as_bytes());
    assert!(told.result.is_ok());
    for wanted in ["监听地址", "TCP 端口", "使用 TLS 加密？", "摘要：", "将此链接导入客户端", "防火墙"]
    {
        assert!(told.said.contains(wanted), "{wanted}\n{}", told.said);
    }
    for english in ["this terminal", "links name", "To serve"] {
        assert!(!told.said.contains(english), "{english}\n{}", told.said);
    }
}

#[test]
fn wherever_the_input_ends_nothing_is_written() {
    let whole = typed(ENTERS);
    assert!(whole.result.is_ok());
    for enters in 0..14 {
        let told = typed(&"\n".repeat(enters));
        assert_eq!(told.result.as_ref().unwrap_err().code, exit::NO_INPUT, "after {enters}: {}", told.said);
        assert_eq!(told.files(), 0, "after {enters}");
    }
}

#[test]
fn again_keeps_the_answers() {
    // Port 2083, then all else by Enter; at the summary back to the start, where all is Enter.
    let told = typed(&format!("\n2083\n\nalice\n\n\n\n\n\n\n\n\n\nagain\n{ENTERS}"));
    let config = told.result.unwrap();
    assert_eq!((config.server.port, config.users[0].email.as_str()), (2083, "alice"));
    assert_eq!(told.said.matches("Summary:").count(), 2);
}

#[test]
fn several_users_have_ids_of_their_own() {
    let told = typed("\n\n\nalice\n\ny\nbob\nbobs-id\nn\n\n\n\n\n\n\n\n\n");
    let config = told.result.unwrap();
    let names: Vec<_> = config.users.iter().map(|user| user.email.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_ne!(config.users[0].id, config.users[1].id);
    assert!(told.said.contains("vless-rust link -c"), "{}", told.said);
}

#[test]
fn bad_input_is_explained_and_asked_again() {
    let long = "x".repeat(5000);
    let long_name = "x".repeat(256);
    let cases: &[(&str, &str, &str)] = &[
        (LISTEN, "localhost", "not an IP address"),
        (LISTEN, "1.2.3", "not an IP address"),
        (LISTEN, "1.2.3.400", "not an IP address"),
        (LISTEN, "0.0.0.0:443", "no name, no port"),
        (LISTEN, "[::]", "not an IP address"),
        (LISTEN, "192.0.2.1", "does not have the address"),
        (LISTEN, "\x1b[A", "arrow key"),
        (LISTEN, &long, "longer than 4096 bytes"),
        (PORT, "0", "1 to 65535"),
        (PORT, "65536", "1 to 65535"),
        (PORT, "-1", "1 to 65535"),
        (PORT, "+443", "1 to 65535"),
        (PORT, "https", "1 to 65535"),
        (PORT, "443.0", "1 to 65535"),
        (PORT, "44 3", "1 to 65535"),
        (PORT, "8443", "taken by nginx (process 77)"),
        (PORT, "9090", "root could say which"),
        (PORT, "7777", "out of luck"),
        (PUBLIC, "http://vpn.example", "leave out http://"),
        (PUBLIC, "vpn.example:443", "the port"),
        (PUBLIC, "1.2.3.400", "neither an IP address"),
        (PUBLIC, "a b", "neither an IP address"),
        (PUBLIC, "-x.example", "neither an IP address"),
        (PUBLIC, "0.0.0.0", "Nobody can connect"),
        (PUBLIC, "例え.jp", "neither an IP address"),
        (NAME, &long_name, "1 to 255 characters"),
        (NAME, "5783a3e7-e373-51cd-8642-c83782b807c5", "is an id, not a name"),
        (ID, "5783a3e7-e373-51cd-8642-c83782b807c5-and-more", "That is no id"),
        (ID, "a text that is far longer than thirty", "That is no id"),
        (MORE, "maybe", "yes or no"),
        (MORE, "2", "yes or no"),
        (TLS, "tls", "yes or no"),
        (TLS, "ja", "yes or no"),
        (CERTIFICATE, "3", "from 1 to 2"),
        (CERTIFICATE, "self", "from 1 to 2"),
        (SERVER_NAME, "*.example.com", "no star"),
        (SERVER_NAME, "https://example.com", "not a name"),
        (SERVER_NAME, "example.com:443", "no port"),
        (SERVER_NAME, "a..b", "not a name"),
        (FLOW, "4", "from 1 to 3"),
        (FLOW, "xtls-rprx-direct", "from 1 to 3"),
        (MONITORING, "9090", "yes or no"),
        (PAGE, "everywhere", "not an IP address"),
        (PAGE, "192.0.2.1", "does not have the address"),
        (PAGE_PORT, "2053", "is the one for clients"),
        (PAGE_PORT, "9090", "taken by another program"),
        (PAGE_PORT, "443", "cannot be listened on"),
        (PAGE_PORT, "1e3", "1 to 65535"),
        (CONFIRM, "perhaps", "yes, no or again"),
    ];
    assert!(cases.len() >= 40);
    for (before, bad, said) in cases {
        let told = typed(&format!("{before}{bad}\n{ENTERS}"));
        let in_one_line = told.said.replace("\n  ", " ");
        assert!(in_one_line.contains(said), "{bad:?} at question {}: no {said:?} in\n{}", before.len(), told.said);
        assert!(told.result.is_ok(), "{bad:?}: Enter does not mend it");
    }
}

#[test]
fn text_that_is_not_utf8_is_asked_again() {
    let mut input = vec![b'\n', 0xff, 0xfe, b'\n'];
    input.extend(ENTERS.as_bytes());
    let told = typed_in(tempfile::tempdir().unwrap(), &Planted::default(), Lang::En, &input);
    assert!(told.said.contains("not UTF-8") && told.result.is_ok());
}

#[test]
fn a_name_or_id_that_is_taken_is_asked_again() {
    let told = typed(&format!("\n\n\nalice\nsame-id\ny\nalice\nbob\nsame-id\n\nn\n{ENTERS}"));
    assert!(
        told.said.contains("There is a user \"alice\" already.") && told.said.contains("alice has this id already.")
    );
    assert_eq!(told.result.unwrap().users.len(), 2);
}

#[test]
fn a_port_that_needs_root_is_taken_only_on_purpose() {
    let told = typed(&format!("\n443\nno\n\n{ENTERS}"));
    assert!(told.said.contains("Port 443 needs root"));
    assert_eq!(told.result.unwrap().server.port, 2053);
    assert_eq!(typed(&format!("\n443\nyes\n{ENTERS}")).result.unwrap().server.port, 443);
}

#[test]
fn a_private_machine_is_asked_for_its_public_address() {
    let machine = Planted { source: "10.0.0.5", ..Planted::default() };
    let input = format!("\n\nvpn.example.com\n{ENTERS}");
    let told = typed_in(tempfile::tempdir().unwrap(), &machine, Lang::En, input.as_bytes());
    assert!(told.said.contains("private address"));
    let config = told.result.unwrap();
    assert_eq!(config.server.public_ip.as_deref(), Some("vpn.example.com"));
    assert_eq!(config.tls.unwrap().server_name, "vpn.example.com");
}

#[test]
fn a_page_beyond_loopback_gets_a_token_to_look() {
    let told = typed(&format!("{PAGE}0.0.0.0\n{ENTERS}"));
    let config = told.result.unwrap();
    let (token, admin) = (config.monitoring.token.unwrap(), config.monitoring.admin_token.unwrap());
    assert!(token != admin && token.reveal().len() >= 32);
}

/// Files of a certificate and its key, and of another key.
fn pair(folder: &Path) {
    let text =
        "{ \"users\": [ { \"uuid\": \"a\" } ], \"tls\": { \"enabled\": true, \"server_name\": \"vpn.example\" } }";
    for name in ["one", "two"] {
        fs::create_dir(folder.join(name)).unwrap();
        let config = Config::parse(text, &folder.join(name).join("config.json")).unwrap();
        certs::load_or_generate(&config, "", std::time::SystemTime::now()).unwrap();
    }
}

#[test]
fn files_that_exist_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path());
    fs::write(folder.path().join("empty"), "").unwrap();
    let (cert, key) = ("one/certs/server.crt", "one/certs/server.key");
    // Each wrong pair, and at last the right one.
    let input = format!(
        "{CERTIFICATE}2\n\n~/x.pem\nmissing.pem\none\nempty\n{key}\n{cert}\ntwo/certs/server.key\n{key}\n{cert}\n\
         {cert}\n{key}\n{ENTERS}"
    );
    let told = typed_in(folder, &Planted::default(), Lang::En, input.as_bytes());
    for wanted in [
        "The path of a file is needed",
        "~ is not understood",
        "There is no file",
        "is a folder",
        "there is no certificate in it",
        "is not the key of any certificate",
        "links will carry its fingerprint",
    ] {
        assert!(told.said.contains(wanted), "{wanted}\n{}", told.said);
    }
    assert_eq!(told.result.unwrap().tls.unwrap().server_name, "vpn.example");
}

#[test]
fn a_file_of_answers_answers_all() {
    let told = answered(
        "# a comment\nport = 2087\npublic_address = vpn.example\nuser = alice\nuser = bob bobs-id\nflow = none\n\
         monitoring = no\n",
    );
    let config = told.result.unwrap();
    assert_eq!((config.server.port, config.users.len()), (2087, 2));
    assert_eq!(config.users[0].flow, Flow::None);
    assert!(!told.said.contains("Summary") && told.said.contains("vless://"), "{}", told.said);
}

#[test]
fn a_wrong_answer_in_a_file_names_its_line() {
    for (text, wanted) in [
        ("port = 2087\nlisten = nowhere\n", "answers.txt:2: listen: "),
        ("port = 8443\n", "answers.txt:1: port: "),
        ("user = a\nuser = a\n", "answers.txt:2: user: "),
        ("tls = maybe\n", "answers.txt:1: tls: "),
        ("port = 443\n", "port needs root"),
    ] {
        let told = answered(text);
        let failure = told.result.as_ref().unwrap_err();
        let found = failure.message.starts_with(wanted) || failure.message.contains("port_needs_root");
        assert!(found, "{text}: {failure}");
        assert_eq!(told.files(), 0);
    }
    for (text, wanted) in [
        ("prot = 1", "answers.txt:1: there is no question \"prot\""),
        ("port 1", "answers.txt:1: a line must be"),
        ("port = 1\nport = 2", "answers.txt:2: port is answered twice"),
    ] {
        let failure = Answers::parse(text, "answers.txt").unwrap_err();
        assert!(failure.message.starts_with(wanted) && failure.code == exit::CONFIG, "{failure}");
    }
}

#[test]
fn a_configuration_that_exists_is_said_before_the_first_question() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "mine").unwrap();
    let told = typed_in(folder, &Planted::default(), Lang::En, ENTERS.as_bytes());
    assert_eq!(told.result.as_ref().unwrap_err().code, exit::CANNOT_CREATE);
    assert_eq!(told.said, "");
    assert_eq!(fs::read_to_string(told.path()).unwrap(), "mine");
}

#[test]
fn what_would_fail_in_the_end_is_told_before_the_first_question() {
    let ask = |path: &Path| {
        let mut output = Vec::new();
        let input = &mut Cursor::new(ENTERS);
        let result = with_person(path, Lang::En, &Planted::default(), (input, Echo::Ours), &mut output);
        assert!(output.is_empty(), "{}", String::from_utf8_lossy(&output));
        result.unwrap_err()
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let no_folder = ask(&at("none/config.json"));
    assert!(
        no_folder.message.contains("there is no folder ") && no_folder.message.contains("mkdir -p "),
        "{no_folder}"
    );
    fs::write(at("file"), "").unwrap();
    let no_place = ask(&at("file/config.json"));
    assert!(no_place.message.contains("there is no folder "), "{no_place}");
    fs::write(at("config.users.json"), "").unwrap();
    fs::write(at("users.json"), "").unwrap();
    assert!(ask(&at("config.json")).message.contains("users.json exists and is not overwritten"));
    fs::remove_file(at("users.json")).unwrap();
    fs::create_dir(at("certs")).unwrap();
    fs::write(at("certs/server.crt"), "").unwrap();
    assert!(ask(&at("config.json")).message.contains("server.key is missing, but "));
    fs::write(at("certs/server.key"), "").unwrap();
    assert!(ask(&at("config.json")).message.contains("there is no certificate in it"));
    fs::remove_dir_all(at("certs")).unwrap();
    fs::write(at("certs"), "").unwrap();
    let no_certificates = ask(&at("config.json"));
    assert!(no_certificates.message.contains("certs is not a folder"), "{no_certificates}");
}
