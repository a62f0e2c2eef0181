//! Tests that need a process to themselves: limits of the process and names of threads are shared by all tests in one.

use std::env;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::PATIENCE;

/// Runs `body`, which is the test called `name`, in a process of its own.
pub fn run(name: &str, body: fn()) {
    const MARK: &str = "VLESS_RUST_TEST_ALONE";
    if env::var_os(MARK).is_some() {
        return body();
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE * 3;
    let status = loop {
        match child.try_wait().unwrap() {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                break None;
            }
            ended => break ended,
        }
    };
    assert!(status.is_some_and(|status| status.success()), "the process ended with {status:?}");
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("1 passed"), "it did not run the test: {said}");
}

/// Leaves this process only so many descriptors to open. Only for a process of its own.
pub fn leave_descriptors(count: u64) {
    let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(next + count), maximum }).unwrap();
}
