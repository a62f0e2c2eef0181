//! Totals and history survive what happens to processes, disks and files.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use vless_rust::control::settings::Settings;
use vless_rust::control::state::Saved;
use vless_rust::control::state::file::{load, write};

use super::harness::{Plane, settings};
use super::support::{PATIENCE, wait_until};

/// Set for the process that is killed.
const VICTIM: &str = "VLESS_RUST_TEST_STATE_VICTIM";
const ROUNDS: u64 = 200;

fn with_file(path: &Path) -> Settings {
    Settings { state_file: Some(path.to_owned()), state_interval: Duration::from_secs(1), ..settings() }
}

fn restarted(path: &Path) -> Plane {
    Plane::with_state(with_file(path), load(path, 0).saved)
}

fn move_bytes(plane: &Plane, up: u64, down: u64) {
    let mut sample = plane.backend.sample.lock().unwrap();
    (sample.totals.uplink_bytes, sample.totals.downlink_bytes) = (up, down);
    let user = &mut sample.users[0].totals;
    (user.uplink_bytes, user.downlink_bytes) = (up, down);
}

#[test]
fn totals_history_and_events_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for round in 1..=3_u64 {
        let mut plane = restarted(&path);
        move_bytes(&plane, 100, 1000);
        plane.control.stop();
        drop(plane);
        let plane = restarted(&path);
        let stats = plane.get("/api/stats").json();
        assert_eq!(stats["total_upload_bytes"], 100 * round);
        assert_eq!(stats["process"]["upload_bytes"], 0);
        assert_eq!(stats["today"]["download_bytes"], 1000 * round);
        assert_eq!(stats["users"][0]["total_download_bytes"], 1000 * round);
        for query in ["range=1h", "range=1y", "range=1y&user=ann@example.com"] {
            let history = plane.get(&format!("/api/history?{query}")).json();
            let sum: u64 =
                history["points"].as_array().unwrap().iter().map(|p| p["upload_bytes"].as_u64().unwrap()).sum();
            assert_eq!(sum, 100 * round, "{query}");
        }
        let events = plane.get("/api/events").json();
        let ids: Vec<_> =
            events["events"].as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, (1..=2 * round).rev().collect::<Vec<_>>());
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn state_is_written_while_the_server_runs_and_only_when_something_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let plane = restarted(&path);
    move_bytes(&plane, 5, 6);
    wait_until("it is written", || load(&path, 0).saved.download_bytes == 6);
    let writes = |plane: &Plane| plane.get("/api/performance").json()["counters"]["vless_state_writes_total"].clone();
    wait_until("it is not written any more", || {
        let before = writes(&plane);
        thread::sleep(Duration::from_millis(2500));
        writes(&plane) == before
    });
    // A file that needs no writing does not grow old.
    wait_until("the file is up to date", || age(&plane) <= 2);
}

/// Seconds since the file last had everything.
fn age(plane: &Plane) -> u64 {
    plane.get("/api/performance").json()["counters"]["vless_state_age_seconds"].as_u64().unwrap()
}

#[test]
fn a_state_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let mut plane = restarted(&path);
    move_bytes(&plane, 5, 6);
    plane.control.stop();
    let text = fs::read_to_string(&path).unwrap();
    for secret in [super::harness::ID_TEXT, "5783a3e7", super::harness::ADMIN, super::harness::VIEW] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_disk_that_refuses_stops_nothing_and_is_told_about() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let path = missing.join("state.json");
    let plane = restarted(&path);
    move_bytes(&plane, 5, 6);
    plane
        .wait_for("/api/performance", |body| body["counters"]["vless_state_write_errors_total"].as_u64().unwrap() >= 2);
    let events = plane.get("/api/events?kind=state").json();
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events["events"][0]["level"], "error");
    wait_until("the file has become old", || age(&plane) >= 3);
    assert!(plane.get("/metrics").text().lines().any(|line| line.starts_with("vless_state_age_seconds ")));
    fs::create_dir(&missing).unwrap();
    wait_until("it is written", || load(&path, 0).saved.download_bytes == 6);
    plane.wait_for("/api/events?kind=state", |body| body["events"].as_array().unwrap().len() == 2);
    wait_until("the file is new again", || age(&plane) < 3);
}

#[test]
fn a_full_disk_leaves_the_last_state_that_fitted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write(&path, &Saved { upload_bytes: 1, ..Saved::default() }).unwrap();
    // The new file's place is a device that is always full.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("state.json.new")).unwrap();
    assert!(write(&path, &Saved { upload_bytes: 2, ..Saved::default() }).is_err());
    assert_eq!(load(&path, 0).saved.upload_bytes, 1);
    // The way is free again: the failed attempt has removed its file.
    write(&path, &Saved { upload_bytes: 3, ..Saved::default() }).unwrap();
    assert_eq!(load(&path, 0).saved.upload_bytes, 3);
}

#[test]
fn a_torn_file_does_not_keep_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for upload_bytes in [7, 8] {
        write(&path, &Saved { upload_bytes, ..Saved::default() }).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let plane = restarted(&path);
    assert_eq!(plane.get("/api/stats").json()["total_upload_bytes"], 7);
}

/// Writes states with growing totals, one after the other, and says each before and after on its standard output.
fn write_for_ever(path: &Path) -> ! {
    let mut saved = load(path, 0).saved;
    loop {
        saved.upload_bytes += 1;
        saved.download_bytes = saved.upload_bytes * 3;
        // Some hundred kilobytes, so that a kill meets an unfinished write.
        saved.accounts = "x".repeat((saved.upload_bytes * 7919 % 400_000) as usize).into();
        write(path, &saved).unwrap();
        println!("wrote {}", saved.upload_bytes);
    }
}

#[test]
fn a_kill_at_any_moment_loses_at_most_the_write_under_way() {
    if let Some(path) = env::var_os(VICTIM) {
        write_for_ever(&PathBuf::from(path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let start = Instant::now();
    let mut last = 0;
    for round in 0..ROUNDS {
        let output = folder.path().join("said");
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["state::a_kill_at_any_moment_loses_at_most_the_write_under_way", "--exact", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(fs::File::create(&output).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has written once, and dies at some moment after that.
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&output).unwrap().contains("wrote") {
            assert!(Instant::now() < deadline, "round {round}");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(round * 137 % 9000));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = fs::read_to_string(&output).unwrap();
        let complete = said.rsplit_once('\n').map_or("", |(complete, _)| complete);
        let said = complete.lines().rev().find_map(|line| line.strip_prefix("wrote ")?.parse().ok()).unwrap_or(0_u64);
        let loaded = load(&path, 0);
        assert!(loaded.warnings.is_empty(), "round {round}: {:?}", loaded.warnings);
        let saved = loaded.saved;
        assert!(saved.upload_bytes >= said.max(last) && saved.upload_bytes <= said.max(last) + 2, "{said} {saved:?}");
        assert_eq!(saved.download_bytes, saved.upload_bytes * 3);
        last = saved.upload_bytes;
        assert!(start.elapsed() < PATIENCE * 20, "round {round}");
    }
}
