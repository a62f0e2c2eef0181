//! An engine on a port of its own that writes every change to disk, and that may be killed and started again.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use redis::{Client, FromRedisValue, RedisResult};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::ports::free_address;
use crate::support::wait_until;

/// Where in its folder an engine has its data.
const DATA: &str = "appendonlydir";

pub(crate) struct EngineServer {
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    options: Vec<String>,
    /// As the tests log in: they may do everything.
    login: String,
}

impl EngineServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], "")
    }

    /// `options` are those of the command line; `login` is what stands in front of the host in a URL.
    pub(crate) fn start_with(options: &[&str], login: &str) -> Self {
        let address = free_address();
        let folder = tempfile::tempdir().unwrap();
        // As in its own file, where words are apart.
        let options: Vec<String> =
            options.iter().flat_map(|option| option.split_whitespace()).map(str::to_owned).collect();
        let child = spawn(address, &folder, &options);
        let server = Self { child, folder, address, options, login: login.to_owned() };
        server.wait_until_it_answers();
        server
    }

    fn wait_until_it_answers(&self) {
        wait_until("the engine answers", || {
            let connection = Client::open(self.url()).unwrap().get_connection();
            connection.is_ok_and(|mut connection| redis::cmd("PING").query::<String>(&mut connection).is_ok())
        });
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}{}/0", self.login, self.address)
    }

    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_to_ask(words).unwrap()
    }

    /// Like [`EngineServer::ask`], of an engine that may close connections just then.
    pub(crate) fn try_to_ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut Client::open(self.url())?.get_connection()?)
    }

    /// Bytes up and down that the engine has for the account with this email.
    pub(crate) fn used(&self, email: &str) -> (u64, u64) {
        let key: Option<String> = self.ask(&["HGET", "vless:emails", email]);
        let Some(key) = key else { return (0, 0) };
        let used: Vec<Option<u64>> = self.ask(&["HMGET", &format!("vless:use:{key}"), "up", "down"]);
        (used[0].unwrap_or(0), used[1].unwrap_or(0))
    }

    /// The key of the account with this email.
    pub(crate) fn key(&self, email: &str) -> String {
        self.ask(&["HGET", "vless:emails", email])
    }

    /// Has the process neither work nor end, or go on.
    pub(crate) fn stall(&self, is_stalled: bool) {
        let signal = if is_stalled { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What is on disk; while it does not run.
    pub(crate) fn backup(&self) -> TempDir {
        let backup = tempfile::tempdir().unwrap();
        copy_files(&self.folder.path().join(DATA), backup.path());
        backup
    }

    /// Has nothing on disk any more; while it does not run.
    pub(crate) fn empty(&self) {
        fs::remove_dir_all(self.folder.path().join(DATA)).unwrap();
    }

    /// Has on disk what it had then; while it does not run.
    pub(crate) fn restore(&self, backup: &TempDir) {
        self.empty();
        let data = self.folder.path().join(DATA);
        fs::create_dir(&data).unwrap();
        copy_files(backup.path(), &data);
    }

    /// With what is on disk.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.address, &self.folder, &self.options);
        self.wait_until_it_answers();
    }
}

impl Drop for EngineServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the operator has: valkey-server takes the same options.
pub(crate) fn program() -> String {
    std::env::var("VLESS_RUST_TEST_ENGINE").unwrap_or_else(|_| "redis-server".to_owned())
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn spawn(address: SocketAddr, folder: &TempDir, options: &[String]) -> Child {
    wait_until("the port is free again", || TcpStream::connect(address).is_err());
    Command::new(program())
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "yes", "--dir"])
        .arg(folder.path())
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed (Debian package redis-server)")
}
