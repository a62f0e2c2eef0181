//! The scripts on a real engine: held against the model, and against their own promises.
//!
//! Each test starts a `redis-server` of its own on a Unix socket in a folder of its own, and ends it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection, RedisResult, Script as RedisScript};
use tempfile::TempDir;
use vless_rust::cluster::journal::{Batch, Bytes};
use vless_rust::cluster::report::{Report, ReportAnswer, Wish};
use vless_rust::cluster::script::{self, ReportHead, Script};

use crate::model;
use crate::rng::Rng;

const LEASE_MS: u64 = 30_000;

/// A running engine.
struct Engine {
    process: Child,
    connection: Connection,
    _folder: TempDir,
}

impl Engine {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (Debian package redis-server)");
        let connection = connect(&socket, &mut process);
        Self { process, connection, _folder: folder }
    }

    fn call(&mut self, script: &Script, keys: &[&str], arguments: &[String]) -> Vec<String> {
        self.try_to_call(script, keys, arguments).unwrap()
    }

    fn try_to_call(&mut self, script: &Script, keys: &[&str], arguments: &[String]) -> RedisResult<Vec<String>> {
        let script = RedisScript::new(script.text);
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(format!("test:{key}"));
        }
        for argument in arguments {
            call.arg(argument);
        }
        call.invoke(&mut self.connection)
    }

    fn report(&mut self, node: &str, report: &Report) -> ReportAnswer {
        let words = self.try_report(node, report).unwrap();
        script::report_answer(&words, LEASE_MS).expect("an answer of the script")
    }

    fn try_report(&mut self, node: &str, report: &Report) -> RedisResult<Vec<String>> {
        let head = ReportHead { prefix: "test", node, lease_ms: LEASE_MS };
        let arguments = script::report_arguments(&head, &report.batch, report.skip, &report.wishes);
        let applied = format!("applied:{node}");
        self.try_to_call(&script::REPORT, &[&applied, "quotas"], &arguments)
    }

    fn change(&mut self, arguments: [&str; 8]) -> (String, u64) {
        self.try_to_change(arguments).unwrap()
    }

    fn try_to_change(&mut self, arguments: [&str; 8]) -> RedisResult<(String, u64)> {
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        arguments.insert(0, "test".to_owned());
        arguments.extend(["100", "a history"].map(str::to_owned));
        let keys = ["version", "accounts", "emails", "ids", "quotas", "log", "about"];
        let words = self.try_to_call(&script::CHANGE, &keys, &arguments[..])?;
        Ok((words[0].clone(), words[1].parse().unwrap()))
    }

    /// Gives or takes what the tests' user may do.
    fn allow(&mut self, rule: &str) {
        let _: () = redis::cmd("ACL").arg("SETUSER").arg("default").arg(rule).query(&mut self.connection).unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(socket: &Path, process: &mut Child) -> Connection {
    let client = Client::open(format!("unix://{}", socket.display())).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(connection) = client.get_connection() {
            return connection;
        }
        assert!(process.try_wait().unwrap().is_none() && Instant::now() < deadline, "the engine does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A random report: batches in order, repeated, or behind a gap.
fn random_report(rng: &mut Rng, boot: u64, latest: u64) -> Report {
    let sequence = (latest + 3).saturating_sub(rng.below(4) as u64).max(1);
    let some = |rng: &mut Rng| format!("account-{}", rng.below(4));
    let accounts = (0..rng.below(4)).map(|_| {
        let bytes = Bytes { up: rng.below(1 << 22) as u64, down: rng.below(1 << 22) as u64 };
        (some(rng), bytes)
    });
    let accounts = accounts.collect();
    let mut wishes = Vec::new();
    for number in 0..4 {
        if rng.below(2) == 0 {
            let target_bytes = rng.below(1 << 25) as u64;
            wishes.push((format!("account-{number}"), Wish { target_bytes, period_start: rng.below(3) as u64 }));
        }
    }
    Report { batch: Batch { boot, sequence, accounts }, skip: rng.below(8) == 0, wishes }
}

#[test]
fn the_script_of_reports_does_what_the_model_does() {
    let mut engine = Engine::start();
    for (account, quota) in [("account-0", 100 << 20), ("account-1", 5 << 20), ("account-2", 1_u64 << 52)] {
        let _: () =
            redis::cmd("HSET").arg("test:quotas").arg(account).arg(quota).query(&mut engine.connection).unwrap();
    }
    let mut model = model::Engine { lease_ms: LEASE_MS, ..model::Engine::default() };
    model.quotas.extend([("account-0".to_owned(), 100 << 20), ("account-1".to_owned(), 5 << 20)]);
    model.quotas.insert("account-2".to_owned(), 1 << 52);
    let mut rng = Rng::new(3);
    for _ in 0..3000 {
        let node = format!("node-{}", rng.below(3));
        let boot = 1 + rng.below(2) as u64;
        let latest = model.applied(&node).get(&boot).copied().unwrap_or(0);
        let report = random_report(&mut rng, boot, latest);
        let real = engine.report(&node, &report);
        // No lease ends within the run, so the clocks need not agree.
        model.now_ms = real.at_ms;
        let mut expected = model.report(&node, &report);
        let mut sorted = real.clone();
        for answer in [&mut expected, &mut sorted] {
            answer.leases.sort_by(|one, other| one.0.cmp(&other.0));
        }
        assert_eq!(sorted, expected, "{node}: {report:?}");
    }
}

#[test]
fn a_change_needs_the_version_that_the_caller_has_seen() {
    let mut engine = Engine::start();
    let record = |email: &str, id: &str| format!(r#"{{"email":"{email}","masked_id":"{id}"}}"#);
    let ann = record("ann", "id-1");
    let put = |version: &'static str, account: &'static str, record: String, email: &'static str, id: &'static str| {
        (version, account, record, email, id)
    };
    let mut change = |(version, account, record, email, id): (&str, &str, String, &str, &str)| {
        engine.change([version, "put", account, &record, email, id, "0", "test"])
    };
    assert_eq!(change(put("0", "a", ann.clone(), "ann", "id-1")), ("changed".to_owned(), 1));
    assert_eq!(change(put("0", "a", ann.clone(), "ann", "id-1")), ("stale".to_owned(), 1));
    assert_eq!(change(put("1", "b", record("ann", "id-2"), "ann", "id-2")), ("email_taken".to_owned(), 1));
    assert_eq!(change(put("1", "b", record("bob", "id-1"), "bob", "id-1")), ("id_taken".to_owned(), 1));
    assert_eq!(change(put("1", "a", record("anna", "id-3"), "anna", "id-3")), ("changed".to_owned(), 2));
    assert_eq!(change(put("2", "b", record("ann", "id-1"), "ann", "id-1")), ("changed".to_owned(), 3));
}

#[test]
fn a_change_that_may_not_be_made_whole_is_not_begun() {
    let mut engine = Engine::start();
    for command in ["incr", "xadd", "hset"] {
        engine.allow(&format!("-{command}"));
        let record = r#"{"email":"ann","masked_id":"id-1"}"#;
        assert!(engine.try_to_change(["", "put", command, record, "ann", "id-1", "0", "test"]).is_err());
        engine.allow(&format!("+{command}"));
        for key in ["accounts", "emails", "ids", "quotas"] {
            let fields: u64 = redis::cmd("HLEN").arg(format!("test:{key}")).query(&mut engine.connection).unwrap();
            assert_eq!(fields, 0, "{key} without {command}");
        }
    }
}

#[test]
fn a_removed_account_leaves_nothing_but_what_it_has_used() {
    let mut engine = Engine::start();
    let record = r#"{"email":"ann","masked_id":"id-1"}"#;
    assert_eq!(engine.change(["0", "put", "a", record, "ann", "id-1", "77", "test"]).1, 1);
    assert_eq!(engine.change(["1", "remove", "a", "", "", "", "", "test"]), ("changed".to_owned(), 2));
    assert_eq!(engine.change(["2", "remove", "a", "", "", "", "", "test"]), ("unknown".to_owned(), 2));
    for key in ["accounts", "emails", "ids", "quotas"] {
        let fields: u64 = redis::cmd("HLEN").arg(format!("test:{key}")).query(&mut engine.connection).unwrap();
        assert_eq!(fields, 0, "{key}");
    }
    let changes: u64 = redis::cmd("XLEN").arg("test:log").query(&mut engine.connection).unwrap();
    assert_eq!(changes, 2);
}

#[test]
fn addresses_are_admitted_up_to_the_limit_over_all_nodes() {
    let mut engine = Engine::start();
    let mut admit = |node: &str, address: &str, limit: &str| -> String {
        let arguments = ["test", node, "60000", "a", address, limit].map(str::to_owned);
        engine.call(&script::ADMIT, &[], &arguments).concat()
    };
    assert_eq!(admit("n1", "192.0.2.1", "2"), "1");
    assert_eq!(admit("n2", "192.0.2.2", "2"), "1");
    assert_eq!(admit("n2", "192.0.2.3", "2"), "0");
    assert_eq!(admit("n2", "192.0.2.1", "2"), "1", "it is known from another node");
    assert_eq!(admit("n1", "192.0.2.3", "0"), "1", "without a limit");
    assert_eq!(admit("n1", "192.0.2.9", "3"), "0");
    assert_eq!(admit("n1", "192.0.2.3", "-1"), "0", "it is given back");
    assert_eq!(admit("n1", "192.0.2.9", "3"), "1");
}

#[test]
fn sessions_are_counted_over_all_nodes_and_for_a_while() {
    let mut engine = Engine::start();
    let mut told = |node: &str, holds: &str, sessions: &str| -> String {
        let arguments = ["test", node, holds, "a", sessions].map(str::to_owned);
        engine.call(&script::SESSIONS, &[], &arguments).concat()
    };
    assert_eq!(told("n1", "60000", "3"), "0");
    assert_eq!(told("n2", "1", "2"), "3");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(told("n3", "60000", "1"), "3", "what n2 had has ended");
    assert_eq!(told("n1", "60000", "0"), "1");
    assert_eq!(told("n3", "60000", "1"), "0");
}

#[test]
fn two_live_nodes_of_one_name_are_told_apart() {
    let mut engine = Engine::start();
    let mut beat = |boot: &str| -> Vec<String> {
        let arguments = ["n1", boot, "15000", "version", "1.0"].map(str::to_owned);
        engine.call(&script::BEAT, &["nodes", "node:n1", "version", "about"], &arguments)
    };
    assert_eq!(beat("5")[0], "ok");
    assert_eq!(beat("7")[0], "ok", "a later start takes over");
    assert_eq!(beat("5")[0], "taken");
}

/// A batch of bytes up for accounts, without wishes.
fn batch(sequence: u64, accounts: &[&str]) -> Report {
    let accounts = accounts.iter().map(|account| ((*account).to_owned(), Bytes { up: 5, down: 0 }));
    Report { batch: Batch { boot: 1, sequence, accounts: accounts.collect() }, skip: false, wishes: Vec::new() }
}

#[test]
fn what_is_no_number_or_no_account_of_bytes_harms_no_other_account() {
    let mut engine = Engine::start();
    let mut write = |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query::<redis::Value>(&mut engine.connection).unwrap();
    };
    write(&["SET", "test:use:b", "x"]);
    write(&["HSET", "test:use:c", "up", "many"]);
    write(&["HSET", "test:use:d", "up", &i64::MAX.to_string()]);
    write(&["HSET", "test:quotas", "c", "several", "e", "1000000"]);
    for sequence in [1, 1, 2] {
        assert_eq!(engine.report("n1", &batch(sequence, &["a", "b", "c", "d", "e"])).sequence, sequence);
    }
    for account in ["a", "e"] {
        let up: u64 =
            redis::cmd("HGET").arg(format!("test:use:{account}")).arg("up").query(&mut engine.connection).unwrap();
        assert_eq!(up, 10, "{account}");
    }
}

#[test]
fn a_report_of_which_something_fails_is_counted_once_or_not_at_all() {
    let mut engine = Engine::start();
    let _: () = redis::cmd("HSET").arg("test:quotas").arg("a").arg(1000).query(&mut engine.connection).unwrap();
    let used = |engine: &mut Engine| -> Option<u64> {
        redis::cmd("HGET").arg("test:use:a").arg("up").query(&mut engine.connection).unwrap()
    };
    let wish = Wish { target_bytes: 10, period_start: 0 };
    let report = |sequence| Report { wishes: vec![("a".to_owned(), wish)], ..batch(sequence, &["a", "b"]) };
    for (sequence, command) in (1..).zip(["hincrby", "hdel", "hgetall", "hset"]) {
        let before = used(&mut engine).unwrap_or(0);
        // The lease of another node, which has ended, is to be removed.
        let _: () = redis::cmd("HSET")
            .arg("test:use:a")
            .arg(&["lease:n2", "7", "ends:n2", "1"])
            .query(&mut engine.connection)
            .unwrap();
        engine.allow(&format!("-{command}"));
        let trials = [(); 3].map(|()| engine.try_report("n1", &report(sequence)));
        engine.allow(&format!("+{command}"));
        let is_told = |trial: &Result<Vec<String>, _>| {
            trial
                .as_ref()
                .map_or(true, |words| script::report_trouble(words).is_some_and(|words| words.contains("run")))
        };
        assert!(is_told(&trials[0]), "{command}: {trials:?}");
        engine.report("n1", &report(sequence));
        assert_eq!(used(&mut engine), Some(before + 5), "{command}");
    }
}

#[test]
fn a_list_of_quotas_that_is_none_counts_nothing_twice() {
    let mut engine = Engine::start();
    let _: () = redis::cmd("SET").arg("test:quotas").arg("x").query(&mut engine.connection).unwrap();
    for _ in 0..3 {
        let _ = engine.try_report("n1", &batch(1, &["a", "b"]));
    }
    let up: u64 = redis::cmd("HGET").arg("test:use:a").arg("up").query(&mut engine.connection).unwrap();
    assert_eq!(up, 5);
}

#[test]
fn a_period_that_the_engines_clock_has_not_reached_begins_for_nobody() {
    let mut engine = Engine::start();
    let _: () = redis::cmd("HSET").arg("test:quotas").arg("a").arg(1000).query(&mut engine.connection).unwrap();
    let used = |engine: &mut Engine, sequence: u64, period_start: u64| {
        let wishes = vec![("a".to_owned(), Wish { target_bytes: 10, period_start })];
        engine.report("n1", &Report { wishes, ..batch(sequence, &["a"]) }).leases[0].1.used_bytes
    };
    assert_eq!(used(&mut engine, 1, 1000), 5, "what comes with the first report of a period is of that period");
    let now = engine.report("n1", &batch(2, &["a"])).at_ms / 1000;
    assert_eq!(used(&mut engine, 3, now + 3600), 15, "of a node whose clock is ahead");
    assert_eq!(used(&mut engine, 4, now - 1), 5);
}

#[test]
fn one_node_tells_a_warning_and_with_another_quota_or_period_it_is_told_again() {
    let mut engine = Engine::start();
    let is_first = |engine: &mut Engine, of: &str| -> u8 {
        let script = RedisScript::new(script::WARN.text);
        script.key("test:use:a").arg("quota_low").arg(of).invoke(&mut engine.connection).unwrap()
    };
    assert_eq!([is_first(&mut engine, "1000"), is_first(&mut engine, "1000")], [1, 0]);
    assert_eq!([is_first(&mut engine, "2000"), is_first(&mut engine, "2000")], [1, 0]);
    let _: () = redis::cmd("HSET").arg("test:use:a").arg("base").arg(7).query(&mut engine.connection).unwrap();
    assert_eq!([is_first(&mut engine, "2000"), is_first(&mut engine, "2000")], [1, 0]);
}

#[test]
fn the_first_account_gives_the_list_a_history_that_stays() {
    let mut engine = Engine::start();
    let history = |engine: &mut Engine| -> String {
        let arguments = ["n1", "1", "15000", "version", "1.0"].map(str::to_owned);
        let answer = engine.call(&script::BEAT, &["nodes", "node:n1", "version", "about"], &arguments);
        answer[4].clone()
    };
    assert_eq!(history(&mut engine), "");
    let record = r#"{"email":"ann","masked_id":"id-1"}"#;
    engine.change(["0", "put", "a", record, "ann", "id-1", "0", "test"]);
    assert_eq!(history(&mut engine), "a history");
    let _: () = redis::cmd("HSET").arg("test:about").arg("history").arg("older").query(&mut engine.connection).unwrap();
    engine.change(["1", "remove", "a", "", "", "", "", "test"]);
    assert_eq!(history(&mut engine), "older");
}
