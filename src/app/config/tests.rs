use super::reading::PROBLEMS_MAX;
use super::*;

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

const MINIMAL: &str = r#"{ "server": { "listen": "127.0.0.1", "port": 8443 }, "users": [ { "uuid": "example" } ] }"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/vless/config.json"))
}

fn accepted(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn refused(text: &str) -> String {
    parse(text).expect_err("was accepted").to_string()
}

fn with(section: &str) -> String {
    format!("{{ \"users\": [ {{ \"uuid\": \"example\" }} ], {section} }}")
}

#[test]
fn listen_port_and_users_are_enough() {
    let config = accepted(MINIMAL);
    assert_eq!(config.server.listen, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.server.port, 8443);
    assert!(config.tls.is_none());
    assert_eq!(config.users[0].id_text(), "feb54431-301b-52bb-a6dd-e1e93e81bb9e");
    assert_eq!(config.users[0].email, "user-1");
    assert_eq!(config.users[0].flow, Flow::None);
    assert_eq!(config.timeouts.idle, Duration::from_mins(5));
    assert_eq!(config.connection_pool.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.performance.tcp_recv_buffer, None);
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn the_flow_follows_from_the_user_then_from_tls() {
    let flows = |tls: &str, flow: &str| {
        let text = format!("{{ \"tls\": {tls}, \"users\": [ {{ \"uuid\": \"example\", \"flow\": {flow} }} ] }}");
        accepted(&text).users[0].flow
    };
    let on = "{ \"enabled\": true }";
    assert_eq!(flows(on, "null"), Flow::Vision);
    assert_eq!(flows(on, "\"\""), Flow::None);
    assert_eq!(flows(on, "\"none\""), Flow::None);
    assert_eq!(flows(on, "\"xtls-rprx-vision-udp443\""), Flow::VisionUdp443);
    assert_eq!(flows("{ \"enabled\": true, \"xtls_flow\": \"none\" }", "null"), Flow::None);
    assert_eq!(flows("{}", "null"), Flow::None);
}

#[test]
fn listen_takes_a_list() {
    let config = accepted(&with(r#""server": { "listen": ["127.0.0.1", "::1"] }"#));
    assert_eq!(config.server.listen.len(), 2);
    assert!(
        refused(&with(r#""server": { "listen": ["127.0.0.1", 5] }"#))
            .contains("1:75: server.listen[1]: must be a string, not 5")
    );
    assert!(refused(&with(r#""server": { "listen": 5 }"#)).contains("must be a string or a list of strings, not 5"));
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    let config =
        accepted(&with(r#""tls": { "enabled": true, "key_file": "/abs/key.pem" }, "log": { "file": "a.log" }"#));
    let tls = config.tls.clone().unwrap();
    assert_eq!(tls.main.cert_file, Path::new("/etc/vless/certs/server.crt"));
    assert_eq!(tls.main.key_file, Path::new("/abs/key.pem"));
    assert_eq!(config.log.file.as_deref(), Some(Path::new("/etc/vless/a.log")));
    assert_eq!(config.resolve(Path::new("x")), Path::new("/etc/vless/x"));
}

#[test]
fn all_problems_with_values_are_reported_at_once_in_the_order_of_the_file() {
    let text = "{\n \"timeouts\": { \"idle\": 0 },\n \"server\": { \"port\": 70000 },\n \"users\": []\n}";
    assert_eq!(
        refused(text).lines().map(|line| line.split(" must").next().unwrap().to_owned()).collect::<Vec<_>>()[..2],
        ["/etc/vless/config.json:2:24: timeouts.idle:", "/etc/vless/config.json:3:22: server.port:"]
    );
    assert_eq!(refused(text).lines().count(), 3);
}

#[test]
fn all_misspelt_keys_and_wrong_types_are_reported_at_once() {
    let text = "{\n \"sever\": {},\n \"users\": [ { \"id\": \"x\", \"uuid\": \"example\" } ],\n \"tls\": { \"enabled\": \"yes\" }\n}";
    assert_eq!(
        refused(text),
        "/etc/vless/config.json:2:2: sever: unknown key; did you mean \"server\"?\n\
         /etc/vless/config.json:3:15: users[0].id: unknown key; did you mean \"uuid\"?\n\
         /etc/vless/config.json:4:22: tls.enabled: must be true or false, not the string \"yes\""
    );
}

#[test]
fn a_key_given_twice_is_refused_at_the_second_place() {
    let text = with("\"log\": { \"access\": true,\n\"access\": false }");
    assert_eq!(
        refused(&text),
        "/etc/vless/config.json:2:1: log.access: this key is given twice here; keep one of them"
    );
}

#[test]
fn an_address_that_a_wildcard_covers_is_refused_beside_it() {
    for listen in ["\"::\", \"127.0.0.1\"", "\"::\", \"::1\"", "\"::\", \"0.0.0.0\"", "\"0.0.0.0\", \"127.0.0.1\""] {
        let message = refused(&with(&format!("\"server\": {{ \"listen\": [{listen}] }}")));
        assert!(message.contains("server.listen[1]: \"") && message.contains("too; remove one"), "{message}");
    }
    let twice = refused(&with(r#""server": { "listen": ["127.0.0.1", "::ffff:127.0.0.1"] }"#));
    assert!(twice.contains("server.listen[1]: 127.0.0.1 is listed twice"), "{twice}");
    accepted(&with(r#""server": { "listen": ["0.0.0.0", "::1"] }"#));
}

#[test]
fn a_list_is_not_taken_for_an_object() {
    assert!(
        refused(&with(r#""server": ["127.0.0.1", 8443]"#)).contains("server: must be an object { ... }, not a list")
    );
    assert!(
        refused(r#"{ "users": [["example"]] }"#).contains(":1:13: users[0]: must be an object { ... }, not a list")
    );
    assert!(refused(r#"[{ "port": 1 }, [{ "uuid": "example" }]]"#).contains(":1:1: must be an object"));
    for text in ["[[[[[", "[[[5]]]", "[[5]"] {
        assert_eq!(refused(text), "/etc/vless/config.json:1:1: must be an object { ... }, not a list", "{text}");
    }
    let message = refused(&with(r#""server": [[5]], "tls": { "certificates": [[5]] }"#));
    assert_eq!(
        message.lines().map(|line| line.split_once(':').unwrap().1).collect::<Vec<_>>(),
        [
            "1:49: server: must be an object { ... }, not a list",
            "1:82: tls.certificates[0]: must be an object { ... }, not a list"
        ]
    );
}

#[test]
fn a_missing_uuid_is_named_at_its_user() {
    let message = refused("{ \"users\": [ { \"email\": \"a\" } ] }");
    assert_eq!(message, "/etc/vless/config.json:1:14: users[0]: the key \"uuid\" is missing here");
}

#[test]
fn text_that_is_no_json_is_refused_with_its_place() {
    assert!(refused("").contains(":1:1: not valid JSON (EOF"));
    assert!(refused("{ \"users\": [] \"log\": {} }").contains(":1:15: not valid JSON (expected `,` or `}`)"));
    assert!(refused("{ users: [] }").contains("double quotes"));
    assert!(refused("{} }").contains(":1:4: not valid JSON (trailing characters)"));
    assert!(refused("{ /* \"users\": [] }").contains(":1:3: this /* comment has no closing */"));
    assert!(refused(&"[".repeat(100_000)).contains("config.json:1:"));
}

#[test]
fn comments_and_trailing_commas_do_not_move_positions() {
    let text = "// é\n{ \"users\": [ { \"uuid\": \"example\", }, ], /* 我 */ \"timeouts\": { \"idle\": 0, }, }";
    assert!(refused(text).contains(":2:71: timeouts.idle"), "{}", refused(text));
}

#[test]
fn an_authority_for_an_engine_without_tls_is_warned_about() {
    let warns = |url: &str, more: &str| {
        let config = accepted(&with(&format!("\"cluster\": {{ \"url\": \"{url}\"{more} }}")));
        config.warnings().iter().any(|line| line.starts_with("cluster.ca_file is given"))
    };
    let authority = ", \"ca_file\": \"engine.crt\"";
    assert!(warns("redis://h", authority) && warns("redis+sentinel://h/p", authority));
    assert!(!warns("rediss://h", authority) && !warns("redis://h", "") && !warns("", authority));
}

#[test]
fn plain_vless_on_a_public_address_is_warned_about() {
    let warns = |listen: &str| {
        let config = accepted(&with(&format!("\"server\": {{ \"listen\": \"{listen}\" }}")));
        config.warnings().iter().any(|line| line.starts_with("tls.enabled is false"))
    };
    assert!(warns("0.0.0.0"));
    assert!(warns("::"));
    assert!(warns("8.8.8.8"));
    assert!(!warns("127.0.0.1"));
    assert!(!warns("192.168.1.2"));
}

#[test]
fn tokens_that_can_be_guessed_are_warned_about_and_equal_ones_refused() {
    let tokens = |look: &str, change: &str| {
        with(&format!("\"monitoring\": {{ \"token\": \"{look}\", \"admin_token\": \"{change}\" }}"))
    };
    let (long, other, short) = ("0123456789abcdef", "fedcba9876543210", "0123456789abcde");
    let warned = |look: &str, change: &str| {
        let config = accepted(&tokens(look, change));
        let keys = config.warnings().iter().filter_map(|line| line.split_once(" can be guessed")).map(|(key, _)| key);
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(warned(long, other).is_empty() && warned("", "").is_empty());
    assert_eq!(warned(short, other), ["monitoring.token"]);
    assert_eq!(warned("", "x"), ["monitoring.admin_token"]);
    assert_eq!(warned("y", "x"), ["monitoring.token", "monitoring.admin_token"]);
    let message = refused(&tokens(long, long));
    assert!(message.contains("monitoring.admin_token: is the same as monitoring.token"), "{message}");
    assert!(!message.contains(long), "{message}");
}

#[test]
fn secrets_are_masked_where_the_configuration_is_shown() {
    let config = accepted(&with(r#""monitoring": { "token": "very-secret" }"#));
    let shown = config.effective_json();
    let debug = format!("{config:?}");
    assert!(shown.contains("\"feb54431…\""), "{shown}");
    for text in [&shown, &debug] {
        assert!(!text.contains("very-secret") && !text.contains("301b-52bb"), "{text}");
    }
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["timeouts"]["idle"], 300);
    assert_eq!(value["users"][0]["email"], "user-1");
}

#[test]
fn credentials_in_the_wrong_place_are_not_repeated() {
    const ID: &str = "b831381d-6324-4d53-ad4f-8cda48b30811";
    for text in [
        r#"{ "users": ["ID"] }"#,
        r#"{ "users": "ID" }"#,
        r#"{ "users": { "ID": "anna" } }"#,
        r#"{ "users": [ { "ID": "anna" } ] }"#,
        r#"{ "users": [ { "uuid": "example", "flow": "ID" } ] }"#,
        r#"{ "users": [ { "uuid": ["ID"] } ] }"#,
        r#"{ "users": [ { "uuid": "IDxx" } ] }"#,
        r#"{ "users": [ { "uuid": "ID", "email": "a" }, { "uuid": "ID", "email": "b" } ] }"#,
        r#"{ "ID": {} }"#,
        r#"{ "server": "ID" }"#,
        r#"{ "server": { "listen": "ID" }, "users": [] }"#,
        r#"{ "tls": { "xtls_flow": "ID", "server_name": "-" }, "users": [ { "uuid": "example" } ] }"#,
        r#"{ "outbound": { "allow": ["ID"] }, "users": [ { "uuid": "example" } ] }"#,
    ] {
        let message = refused(&text.replace("ID", ID));
        assert!(!message.contains("6324"), "{text}\n{message}");
    }
    for text in [
        r#""monitoring": "5ecret""#,
        r#""monitoring": { "token": 5123 }"#,
        r#""monitoring": { "port": "5ecret" }"#,
        r#""monitoring": { "listen": "5ecret" }"#,
        r#""monitoring": { "token": "5ecret with blanks" }"#,
    ] {
        let message = refused(&with(text));
        assert!(!message.contains("5ecret") && !message.contains("5123"), "{text}\n{message}");
    }
    let message = refused(r#"{ "users": ["secret"] }"#);
    assert_eq!(message, "/etc/vless/config.json:1:13: users[0]: must be an object { \"uuid\": ... }, not a string");
}

#[test]
fn empty_texts_stand_for_none() {
    let config = accepted(&with(
        r#""server": { "public_ip": "" }, "log": { "file": "" }, "outbound": { "bind": "" }, "monitoring": { "token": "" }"#,
    ));
    assert_eq!(config.server.public_ip, None);
    assert_eq!(config.log.file, None);
    assert_eq!(config.outbound.bind, None);
    assert_eq!(config.monitoring.token, None);
}

#[test]
fn a_later_fallback_for_the_same_request_replaces_the_earlier() {
    let config =
        accepted(&with(r#""fallbacks": [ { "dest": 80 }, { "dest": "/run/x" }, { "dest": 81, "alpn": "h2" } ]"#));
    assert_eq!(config.fallbacks.len(), 2);
    assert_eq!(config.fallbacks[0].dest, FallbackDest::Unix("/run/x".into()));
    assert!(config.warnings().iter().any(|line| line.starts_with("fallbacks[1] replaces")));
}

#[test]
fn balancers_are_networks_and_not_everybody() {
    let from = |list: &str| with(&format!(r#""server": {{ "listen": "127.0.0.1", "proxy_protocol_from": {list} }}"#));
    let config = accepted(&from(r#"["10.0.0.5", "fd00::/8"]"#));
    let networks: Vec<_> = config.server.proxy_protocol_from.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.5/32", "fd00::/8"]);
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    let all = accepted(&from(r#"["::/0"]"#));
    assert!(all.warnings().iter().any(|line| line.contains("proxy_protocol_from holds ::/0")));
    let message = refused(&from(r#"["balancer.test"]"#));
    assert!(message.contains("server.proxy_protocol_from[0]: must be a network"), "{message}");
}

#[test]
fn protocols_that_are_offered_and_fallbacks_for_them_go_together() {
    let warned = |alpn: &str, fallback: &str| {
        let tls = format!(r#""tls": {{ "enabled": true, "alpn": {alpn} }}, "fallbacks": [ {fallback} ]"#);
        accepted(&with(&tls)).warnings().iter().any(|line| line.contains("h2"))
    };
    assert!(warned(r#"["h2", "http/1.1"]"#, r#"{ "dest": 80 }"#));
    assert!(!warned(r#"["h2", "http/1.1"]"#, r#"{ "dest": 80 }, { "dest": 81, "alpn": "h2" }"#));
    assert!(!warned(r#"["http/1.1"]"#, r#"{ "dest": 80 }"#));
    assert!(warned(r#"["http/1.1"]"#, r#"{ "dest": 81, "alpn": "h2" }"#));
}

#[test]
fn a_fallback_that_nobody_can_get_and_strangers_without_one_are_named() {
    let warned = |tls: bool, fallbacks: &str| {
        let text = format!(
            r#""tls": {{ "enabled": {tls}, "alpn": ["http/1.1"] }}, "server": {{ "listen": "127.0.0.1" }},
            "fallbacks": [ {fallbacks} ]"#
        );
        accepted(&with(&text)).warnings().join("\n")
    };
    let all = r#"{ "dest": 80 }"#;
    for fine in ["", all, r#"{ "dest": 80 }, { "dest": 81, "name": "a.test", "alpn": "HTTP/1.1", "path": "/x" }"#] {
        assert_eq!(warned(true, fine), "", "{fine}");
    }
    let long = |bytes: usize| format!(r#""path": "/{}""#, "x".repeat(bytes - 1));
    for (tls, other, said) in [
        (true, r#""name": "*.a.test""#, "fallbacks[1].name holds \"*\", which no client asks for: write \".a.test\""),
        (true, r#""alpn": "h3""#, "fallbacks[1].alpn is \"h3\", which tls.alpn does not offer: nobody gets it"),
        (
            false,
            r#""name": "a.test""#,
            "fallbacks[1] has a name or an alpn, which there are with TLS only: nobody gets it",
        ),
        (false, r#""alpn": "http/1.1""#, "fallbacks[1] has a name or an alpn"),
        (true, r#""path": "/a?b""#, "fallbacks[1].path: a path ends before \"?\" and a space: nobody gets it"),
        (false, r#""path": "/a b""#, "fallbacks[1].path: a path ends"),
        (true, &long(59), ""),
        (true, &long(60), "fallbacks[1].path is longer than 59 bytes: nobody gets it"),
    ] {
        let text = warned(tls, &format!(r#"{all}, {{ "dest": 81, {other} }}"#));
        assert!(text.starts_with(said) && text.is_empty() == said.is_empty(), "{other}: {text}");
    }
    for some in
        [r#"{ "dest": 80, "name": "a.test" }"#, r#"{ "dest": 80, "alpn": "http/1.1" }, { "dest": 81, "path": "/x" }"#]
    {
        let text = warned(true, some);
        assert!(text.starts_with("no fallback is for everybody"), "{some}: {text}");
    }
}

#[test]
fn rules_have_names_of_their_own() {
    let rule = |name: &str| format!(r#"{{ "name": "{name}", "metric": "sessions_percent", "above": 1 }}"#);
    let alerts = |names: [&str; 3]| with(&format!(r#""monitoring": {{ "alerts": [{}] }}"#, names.map(rule).join(", ")));
    accepted(&alerts(["a", "b", "c"]));
    let said = refused(&alerts(["a", "b", "a"]));
    assert!(said.contains(r#"monitoring.alerts[2].name: "a" is the name of monitoring.alerts[0], too"#), "{said}");
}

#[test]
fn a_flood_of_problems_is_cut() {
    let users = vec!["{ \"uuid\": \"\" }"; 2000].join(",");
    assert_eq!(refused(&format!("{{ \"users\": [{users}] }}")).lines().count(), PROBLEMS_MAX);
    let keys = (0..2000).map(|n| format!("\"strange{n}\": 1")).collect::<Vec<_>>().join(",");
    assert_eq!(refused(&format!("{{ {keys} }}")).lines().count(), PROBLEMS_MAX);
}

#[test]
fn any_prefix_of_a_file_is_answered_without_a_panic() {
    for end in 0..MINIMAL.len() {
        assert!(parse(&MINIMAL[..end]).is_err());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Config::load(&folder.path().join("none.json")).unwrap_err();
    assert_eq!(missing.code, exit::NO_INPUT);
    let path = folder.path().join("latin1.json");
    fs::write(&path, b"{\n// \xe9\n}").unwrap();
    let latin1 = Config::load(&path).unwrap_err();
    assert_eq!(latin1.code, exit::CONFIG);
    assert!(latin1.message.contains("latin1.json:2: the file is not UTF-8"));
}

/// Every way to put `planted` in the place of a value, below `value` too.
fn with_planted(value: &Value, planted: &Value, put: &mut dyn FnMut(Value)) {
    put(planted.clone());
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                with_planted(member, planted, &mut |member| {
                    let mut members = members.clone();
                    members.insert(key.clone(), member);
                    put(members.into());
                });
            }
        }
        Value::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                with_planted(element, planted, &mut |element| {
                    let mut elements = elements.clone();
                    elements[at] = element;
                    put(elements.into());
                });
            }
        }
        _ => {}
    }
}

#[test]
fn a_secret_that_stands_in_any_place_is_not_repeated() {
    let json = text::blank_comments(&example()).unwrap();
    let all: Value = serde_json::from_str(&json).unwrap();
    let secrets = ["Hunter2-Hunter2", "topsecretpassphrase", "correct horse battery", "0f".repeat(16).leak(), "s3cret"]
        .map(Value::from);
    let mut refused = 0;
    for secret in &secrets {
        let text = secret.as_str().unwrap();
        let in_key = serde_json::json!({ format!("{text}1"): 1 });
        let in_list = serde_json::json!([text]);
        for planted in [secret, &in_key, &in_list] {
            with_planted(&all, planted, &mut |file| {
                let said = match parse(&file.to_string()) {
                    Ok(config) => config.warnings().join("\n"),
                    Err(errors) => errors.to_string(),
                };
                refused += usize::from(!said.is_empty());
                assert!(!said.contains(text), "{said}");
            });
        }
    }
    assert!(refused > 1000, "{refused} of them were refused");
}

#[test]
fn a_users_file_that_is_gone_is_named_with_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, users) = (folder.path().join("config.json"), folder.path().join("users.json"));
    fs::write(&path, "{ \"users_file\": \"users.json\" }").unwrap();
    let gone = Config::load(&path).unwrap_err();
    assert_eq!(gone.code, exit::CONFIG);
    let missing = format!("users: at least one user is needed: the file {} does not exist", users.display());
    let add = format!("`vless-rust user add NAME -c {}`", path.display());
    assert!(gone.message.contains(&missing) && gone.message.contains(&add), "{gone}");
    // Commands about accounts go on: one of them is the way back.
    assert_eq!(Config::load_without_accounts(&path).unwrap().users, Vec::new());
    fs::write(folder.path().join("users.json.previous"), "{}").unwrap();
    let previous = format!("(`cp {0}.previous {0}`)", users.display());
    assert!(Config::load(&path).unwrap_err().message.contains(&previous));
    // Where others are served, nobody would notice that some are lost.
    fs::write(&path, "{ \"users\": [ { \"uuid\": \"example\" } ] }").unwrap();
    let config = Config::load(&path).unwrap();
    assert!(config.warnings().iter().any(|warning| warning.contains("are accounts lost?")), "{:?}", config.warnings());
}
