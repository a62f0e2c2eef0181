//! What a cluster costs its engine: the load of twenty nodes on a real one, with the calls that nodes make.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vless_rust::app::cluster::engine::{Access, Engine};
use vless_rust::app::cluster::online::{Online, Present};
use vless_rust::app::cluster::reply::Reply;
use vless_rust::app::config::EngineUrl;
use vless_rust::cluster::journal::{BATCH_ACCOUNTS_MAX, Batch, Bytes};
use vless_rust::cluster::report::Wish;
use vless_rust::cluster::script::{self, ReportHead};

use crate::engine_server::EngineServer;
use crate::support::PATIENCE;

/// Users unless `VLESS_RUST_CLUSTER_USERS` says otherwise.
const USERS: usize = 10_000;
/// Users with traffic, and a quota, in each interval, each on one node; unless `VLESS_RUST_CLUSTER_ACTIVE` says otherwise.
const ACTIVE: usize = 1000;
/// Unless `VLESS_RUST_CLUSTER_NODES` says otherwise.
const NODES: usize = 20;
/// What accounts have used is looked up for so many at once.
const LOOKED_UP: usize = 250;
const INTERVAL: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_millis(100);
const MEASURED: Duration = Duration::from_secs(20);
const CHANGES: usize = 60;

/// How large the cluster is.
#[derive(Clone, Copy)]
struct Size {
    users: usize,
    active: usize,
    nodes: usize,
}

impl Size {
    fn wanted() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let of = |name: &str, default| number(&format!("VLESS_RUST_CLUSTER_{name}")).unwrap_or(default);
        Self { users: of("USERS", USERS), active: of("ACTIVE", ACTIVE), nodes: of("NODES", NODES) }
    }
}

fn key(name: &str) -> String {
    format!("vless:{name}")
}

fn put(engine: &mut Engine, number: usize, note: &str) {
    let (account, email) = (format!("{number:032x}"), format!("user-{number}@example.com"));
    let id = uuid::Uuid::from_u128(number as u128);
    let record = json!({ "format": 1, "uuid": id.to_string(), "masked_id": id.simple().to_string(), "email": email,
        "flow": "xtls-rprx-vision", "enabled": true, "note": note, "created_at": "2026-01-31T12:00:00Z",
        "limits": { "quota_bytes": 1_u64 << 40, "quota_period": "month", "quota_day": 1, "expires_at": null,
            "expires_after_days": 0, "addresses_max": 0, "sessions_max": 0, "up_bytes_per_second_max": 0,
            "down_bytes_per_second_max": 0 } });
    let masked = id.simple().to_string();
    let quota = (1_u64 << 40).to_string();
    let arguments =
        ["vless", "", "put", &account, &record.to_string(), &email, &masked, &quota, "changed", "10000", "h"]
            .map(str::to_owned);
    let keys = ["version", "accounts", "emails", "ids", "quotas", "log", "about"].map(key);
    let answer = engine.run(&script::CHANGE, &keys, &arguments).unwrap();
    assert_eq!(answer.list()[0].text().unwrap(), "changed");
}

/// One node for [`MEASURED`], and until it has heard of all changes behind `from` in the log: signs of life, reports with
/// renewed leases, and changes as they come.
fn node(access: &Access, size: Size, number: usize, from: &str, heard_at: &Mutex<Vec<(u64, Instant)>>) {
    let mut engine = Engine::connect(access).unwrap();
    let (name, start) = (format!("node-{number:02}"), Instant::now());
    let facts =
        json!({ "version": "0.1.0", "sessions": 500, "reach": { "host": "n.example", "port": 443 } }).to_string();
    let head = ReportHead { prefix: "vless", node: &name, lease_ms: 30_000 };
    let (mut sequence, mut heard, mut last, mut due) =
        (0, 0, from.to_owned(), start + INTERVAL.mul_f64(number as f64 / size.nodes as f64));
    while start.elapsed() < MEASURED || (heard < CHANGES && start.elapsed() < MEASURED + PATIENCE) {
        if Instant::now() >= due {
            due += INTERVAL;
            let mine: Vec<_> =
                (0..size.active / size.nodes).map(|place| format!("{:032x}", place * size.nodes + number)).collect();
            let present = Present { sessions: 3, addresses: vec!["192.0.2.1".to_owned()] };
            let online: Online = mine.iter().map(|account| (account.clone(), present.clone())).collect();
            let online = json!(online).to_string();
            let beat = [name.as_str(), "1", "30000", "facts", &facts, "online", &online].map(str::to_owned);
            engine.run(&script::BEAT, &["nodes", &format!("node:{name}"), "version", "about"].map(key), &beat).unwrap();
            engine.call(&["HGETALL", &key(&format!("applied:{name}"))]).unwrap();
            let nodes = engine.call(&["ZRANGE", &key("nodes"), "0", "-1", "WITHSCORES"]).unwrap();
            let facts = nodes
                .pairs()
                .map(|(name, _)| vec!["HGET".to_owned(), key(&format!("node:{name}")), "facts".to_owned()]);
            engine.call_all(&facts.collect::<Vec<_>>()).unwrap();
            let looked_up =
                (0..LOOKED_UP).map(|place| (number * LOOKED_UP + sequence as usize * 7 + place) % size.users);
            let looked_up: Vec<_> =
                looked_up.map(|place| vec!["HGETALL".to_owned(), key(&format!("use:{place:032x}"))]).collect();
            engine.call_all(&looked_up).unwrap();
            let bytes = Bytes { up: 1_000_000, down: 9_000_000 };
            let mut rest: BTreeMap<_, _> = mine.into_iter().map(|account| (account, bytes)).collect();
            let wish = Wish { target_bytes: 64 << 20, period_start: 1 };
            while !rest.is_empty() {
                let accounts: BTreeMap<_, _> =
                    std::iter::from_fn(|| rest.pop_first()).take(BATCH_ACCOUNTS_MAX).collect();
                let wishes: Vec<_> = accounts.keys().map(|account| (account.clone(), wish)).collect();
                sequence += 1;
                let batch = Batch { boot: 1, sequence, accounts };
                let arguments = script::report_arguments(&head, &batch, false, &wishes);
                let keys = [key(&format!("applied:{name}")), key("quotas")];
                let words = engine.run(&script::REPORT, &keys, &arguments).unwrap().texts().unwrap();
                assert_eq!(script::report_answer(&words, 30_000).unwrap().sequence, sequence);
            }
        }
        let block = ROUND.as_millis().to_string();
        let words = ["XREAD", "COUNT", "500", "BLOCK", &block, "STREAMS", &key("log"), &last];
        let answer = engine.call_waiting(&words, ROUND).unwrap();
        let Some(stream) = answer.list().first() else { continue };
        for entry in stream.list()[1].list() {
            last = entry.list()[0].text().unwrap();
            heard += 1;
            let fields: BTreeMap<_, _> = entry.list()[1].pairs().collect();
            heard_at.lock().unwrap().push((fields["version"].parse().unwrap(), Instant::now()));
        }
    }
}

fn figure(engine: &mut Engine, section: &str, name: &str) -> f64 {
    let text = engine.call(&["INFO", section]).unwrap().text().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().parse().unwrap()
}

#[test]
#[ignore = "loads an engine for half a minute; its figures are in conf/cluster.md"]
fn what_twenty_nodes_cost_an_engine() {
    let (server, size) = (EngineServer::start(), Size::wanted());
    let access = Access { url: EngineUrl::parse(&server.url()).unwrap(), ca_file: None };
    let mut engine = Engine::connect(&access).unwrap();
    let empty = figure(&mut engine, "memory", "used_memory");
    (0..size.users).for_each(|number| put(&mut engine, number, ""));
    let start = Instant::now();
    let (mut cursor, mut bytes) = ("0".to_owned(), 0);
    loop {
        let page = engine.call(&["HSCAN", &key("accounts"), &cursor, "COUNT", "1000"]).unwrap();
        bytes += page.list()[1].pairs().map(|(key, record)| key.len() + record.len()).sum::<usize>();
        cursor = page.list()[0].text().unwrap();
        if cursor == "0" {
            break;
        }
    }
    println!("the whole list: {bytes} bytes in {:?}", start.elapsed());
    let names = [
        ("stats", "total_commands_processed"),
        ("stats", "total_net_input_bytes"),
        ("stats", "total_net_output_bytes"),
        ("cpu", "used_cpu_user"),
        ("cpu", "used_cpu_sys"),
    ];
    let before = names.map(|(section, name)| figure(&mut engine, section, name));
    let newest = engine.call(&["XREVRANGE", &key("log"), "+", "-", "COUNT", "1"]).unwrap();
    let from = newest.list()[0].list()[0].text().unwrap();
    let (heard_at, mut made_at) = (Mutex::new(Vec::new()), BTreeMap::new());
    let begun = Instant::now();
    thread::scope(|scope| {
        for number in 0..size.nodes {
            let (access, from, heard_at) = (&access, &from, &heard_at);
            scope.spawn(move || node(access, size, number, from, heard_at));
        }
        thread::sleep(Duration::from_secs(1));
        for change in 0..CHANGES {
            let version = engine.call(&["GET", &key("version")]).unwrap().number().unwrap() + 1;
            made_at.insert(version, Instant::now());
            put(&mut engine, change * 7, "changed");
            thread::sleep(Duration::from_millis(250));
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let after = names.map(|(section, name)| figure(&mut engine, section, name));
    for (at, (_, name)) in names.iter().enumerate() {
        println!("{name}: {:.4} a second", (after[at] - before[at]) / seconds);
    }
    println!("used_memory: {:.1} MB", (figure(&mut engine, "memory", "used_memory") - empty) / 1e6);
    let heard = heard_at.into_inner().unwrap();
    let mut delays: Vec<_> = heard.iter().filter_map(|(version, at)| Some(*at - *made_at.get(version)?)).collect();
    delays.sort();
    let of = |part: usize| delays[(delays.len() * part / 100).min(delays.len() - 1)];
    println!("a change is heard after: median {:?}, p99 {:?}, most {:?}, of {}", of(50), of(99), of(100), delays.len());
    assert_eq!(delays.len(), size.nodes * CHANGES, "every node heard of every change");
    let Reply::Number(keys) = engine.call(&["DBSIZE"]).unwrap() else { panic!() };
    println!("{keys} keys");
}
