use super::*;

use crate::app::exit;

fn parsed(line: &str) -> Result<Command, Failure> {
    parse(line.split_whitespace().map(OsString::from))
}

fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}

fn link_of(config: Option<&str>, email: Option<&str>, format: Format) -> Command {
    Command::Link { config: config.map(path), email: email.map(Into::into), format, qr: false }
}

#[test]
fn nothing_means_run_with_the_default() {
    assert_eq!(parsed(""), Ok(Command::Run { config: None, lang: None }));
    assert_eq!(parsed("run"), Ok(Command::Run { config: None, lang: None }));
}

#[test]
fn a_configuration_may_stand_alone_or_behind_its_command() {
    for line in ["my.json", "run my.json", "-c my.json", "run --config my.json", "--config=my.json run"] {
        assert_eq!(parsed(line), Ok(Command::Run { config: Some(path("my.json")), lang: None }), "{line}");
    }
    let chinese = Ok(Command::Run { config: None, lang: Some(Lang::Zh) });
    assert_eq!(parsed("--lang zh"), chinese);
    assert_eq!(parsed("run --lang=zh"), chinese);
    assert_eq!(parsed("/etc/vless"), Ok(Command::Run { config: Some(path("/etc/vless")), lang: None }));
    assert_eq!(parsed("check a.json"), Ok(Command::Check { config: Some(path("a.json")) }));
}

#[test]
fn a_misspelt_word_is_answered_with_the_one_that_is_meant() {
    for (line, meant) in [
        ("statsu", "\"status\"?"),
        ("doctor --jsn", "\"--json\"?"),
        ("user lst", "\"list\"?"),
        ("help conections", "\"connections\"?"),
    ] {
        let said = parsed(line).unwrap_err().message;
        assert!(said.ends_with(&["; did you mean ", meant].concat()), "{line}: {said}");
    }
    assert_eq!(parsed("frobnicate").unwrap_err().message, "there is no command \"frobnicate\"");
}

#[test]
fn init_takes_its_arguments() {
    let init = |config: Option<&str>, answers| Command::Init { config: config.map(path), answers, lang: None };
    assert_eq!(parsed("init --yes"), Ok(init(None, Answerer::Defaults)));
    assert_eq!(parsed("init a.json"), Ok(init(Some("a.json"), Answerer::Person)));
    assert_eq!(parsed("init --answers a.txt"), Ok(init(None, Answerer::File(path("a.txt")))));
    let chinese = Command::Init { config: None, answers: Answerer::Person, lang: Some(Lang::Zh) };
    assert_eq!(parsed("init --lang zh"), Ok(chinese));
}

#[test]
fn link_takes_its_arguments() {
    assert_eq!(parsed("link"), Ok(link_of(None, None, Format::Vless)));
    assert_eq!(
        parsed("link me@example.com -c a.json"),
        Ok(link_of(Some("a.json"), Some("me@example.com"), Format::Vless))
    );
    assert_eq!(parsed("link --format sing-box"), Ok(link_of(None, None, Format::SingBox)));
    let drawn = Command::Link { config: None, email: None, format: Format::Vless, qr: true };
    assert_eq!(parsed("link --qr"), Ok(drawn));
}

#[test]
fn help_and_version_have_three_spellings_each() {
    for line in ["help", "--help", "-h", "my.json --help"] {
        assert_eq!(parsed(line), Ok(Command::Help(None)), "{line}");
    }
    for line in ["help init", "init --help", "init -h --qr", "help init my.json", "init my.json --help"] {
        assert_eq!(parsed(line), Ok(Command::Help(Some("init"))), "{line}");
    }
    for line in ["help user add", "user add --help", "-h user", "--help user --quota 1GB"] {
        assert_eq!(parsed(line), Ok(Command::Help(Some("user"))), "{line}");
    }
    for line in ["version", "--version", "-V"] {
        assert_eq!(parsed(line), Ok(Command::Version), "{line}");
    }
}

#[test]
fn wrong_command_lines_exit_with_64_and_say_why() {
    for (line, why) in [
        ("help chekc", "no command \"chekc\""),
        ("chekc --help", "no command \"chekc\""),
        ("chekc", "no command \"chekc\""),
        ("--banana", "no option \"--banana\""),
        ("run a.json b.json", "too many"),
        ("version extra", "\"extra\" is not expected here"),
        ("run a.json -c b.json", "two configurations"),
        ("-c a.json -c b.json", "given twice"),
        ("run -c", "needs a value: CONFIG"),
        ("run --yes", "--yes belongs to init"),
        ("run --yes=1", "takes no value"),
        ("init --yes --answers a", "one too many"),
        ("init --lang fr", "must be one of en, zh, not \"fr\""),
        ("link --format clash", "must be one of vless, xray, sing-box, mihomo"),
        ("link --qr --format xray", "leave --format out"),
        ("probe", "probe needs the LINK"),
        ("probe vless://a --dns here", "an address and a port"),
        ("service", "install or uninstall"),
        ("service uninstall --files-only", "belongs to service install"),
        ("backup", "backup needs the FILE"),
        ("restore --force", "restore needs the FILE"),
        ("backup a --force", "--force belongs to restore"),
        ("completions csh", "bash, zsh or fish"),
        ("cut", "cut needs one of"),
        ("cut 1-2-3 --user a", "cut needs one of"),
        ("connections --limit many", "whole number"),
        ("status --limit 5", "--limit belongs to connections"),
    ] {
        let failure = parsed(line).unwrap_err();
        assert_eq!(failure.code, exit::USAGE);
        assert!(failure.message.contains(why), "{line}: {failure}");
    }
}

#[test]
fn whoever_wants_json_is_known_before_the_rest_is_understood() {
    let wants = |line: &str| wants_json(line.split_whitespace().map(OsString::from));
    assert!(wants("status --json") && wants("stauts --json --banana") && !wants("status") && !wants("link -- --json"));
}

#[test]
fn nodes_are_shown_or_one_is_forgotten() {
    let asked = |ask| Command::Ask { config: None, ask, shape: Shape::Words };
    assert_eq!(parsed("nodes"), Ok(asked(Ask::Nodes)));
    assert_eq!(parsed("nodes forget fra-1"), Ok(asked(Ask::ForgetNode("fra-1".to_owned()))));
    for wrong in ["nodes forget", "nodes remove fra-1", "nodes forget a b"] {
        assert_eq!(parsed(wrong).unwrap_err().code, exit::USAGE, "{wrong}");
    }
}
