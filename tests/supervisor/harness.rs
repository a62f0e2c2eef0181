//! The program as its own process, and what it says on stderr.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vless_rust::session::close::CloseReason;

use crate::support::client::request;
use crate::support::ports::free_address;
use crate::support::{bounded, wait_until};

/// The program under test; `SERVER_PROGRAM` names another build of it.
pub(crate) fn program() -> PathBuf {
    env::var_os("SERVER_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_vless-rust").into(), PathBuf::from)
}

/// A configuration as tests write it: `PORT` stands for the server's port.
pub(crate) struct Process {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
    /// Processes that took over, to be ended with the test.
    successors: Mutex<Vec<u32>>,
}

impl Process {
    /// Serves `config` in a folder of its own, into which `prepare` may put more first. Returns when it listens.
    pub(crate) fn start(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_with(config, &[], prepare)
    }

    /// The same with more variables in its environment; `FOLDER` in them stands for the folder.
    pub(crate) fn start_with(config: &str, variables: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        Self::start_program(&program(), config, variables, prepare)
    }

    /// The same with another program; `FOLDER` in its path stands for the folder, too.
    pub(crate) fn start_program(
        program: &Path,
        config: &str,
        variables: &[(&str, &str)],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let address = free_address();
        let file = folder.path().join("config.json");
        fs::write(&file, with_port(config, address)).unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let here = folder.path().to_str().unwrap();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.replace("FOLDER", here))).collect();
        let program = PathBuf::from(program.to_str().unwrap().replace("FOLDER", here));
        let child = spawn(&program, &file, &said, &variables);
        let process = Self { child, folder, address, said, successors: Mutex::default() };
        process.wait_until_it_listens();
        process
    }

    /// A server that the test has started itself, with stderr in a pipe.
    pub(crate) fn adopt(mut child: Child, folder: TempDir, address: SocketAddr) -> Self {
        let said = Arc::<Mutex<Vec<String>>>::default();
        listen_to(child.stderr.take().unwrap(), Arc::clone(&said));
        Self { child, folder, address, said, successors: Mutex::default() }
    }

    fn wait_until_it_listens(&self) {
        wait_until("the server listens", || TcpStream::connect(self.address).is_ok());
    }

    /// As a crash of the machine would do it.
    pub(crate) fn kill_and_start_again(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.child = spawn(&program(), &self.file("config.json"), &self.said, &[]);
        self.wait_until_it_listens();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command about this server; its exit code, and what it says on stdout and stderr.
    pub(crate) fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(program());
        let output = command.args(arguments).arg("-c").arg(self.file("config.json")).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// Has the program take over from itself; the id of the new process.
    #[track_caller]
    pub(crate) fn upgrade(&self) -> u32 {
        let (code, said) = self.command(&["upgrade", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
        self.note_successor(answer["pid"].as_u64().unwrap() as u32)
    }

    pub(crate) fn note_successor(&self, pid: u32) -> u32 {
        self.successors.lock().unwrap().push(pid);
        pid
    }

    /// Waits for its end, and returns the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another configuration in the place of the old one.
    pub(crate) fn write_config(&self, config: &str) {
        fs::write(self.file("config.json"), with_port(config, self.address)).unwrap();
    }

    /// As a signal that is waited for: returns the line that says what came of it.
    #[track_caller]
    pub(crate) fn reload(&self) -> String {
        let before = self.said().len();
        self.signal(Signal::HUP);
        self.wait_for_line(before, "reloaded (")
    }

    /// Waits for a line with `text` behind the first `after` lines, and returns it.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, after: usize, text: &str) -> String {
        let mut found = None;
        wait_until(&format!("it says \"{text}\""), || {
            found = self.said().into_iter().skip(after).find(|line| line.contains(text));
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until the access log has a session of `user` that ended for `reason`.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, user: &str, reason: CloseReason) {
        self.wait_for_line(0, &format!("user={user} "));
        wait_until(&format!("{user} was cut for {}", reason.name()), || {
            let is_it = |line: &String| line.contains(&format!("user={user} ")) && line.ends_with(reason.name());
            self.said().iter().any(is_it)
        });
    }

    /// Descriptors that the process holds.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lines of stderr so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// A plain VLESS session to `origin`; `None` if the server ends it without an answer.
    pub(crate) fn open(&self, id: &[u8; 16], origin: SocketAddr) -> Option<TcpStream> {
        let mut socket = bounded(TcpStream::connect(self.address).unwrap());
        socket.write_all(&request(id, origin)).unwrap();
        socket.write_all(b"ping").unwrap();
        let mut answer = [0; 6];
        socket.read_exact(&mut answer).ok()?;
        assert_eq!(&answer, b"\0\0ping");
        Some(socket)
    }
}

fn spawn(program: &Path, config: &Path, said: &Arc<Mutex<Vec<String>>>, variables: &[(&str, String)]) -> Child {
    let mut child = Command::new(program)
        .arg("run")
        .arg(config)
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    listen_to(child.stderr.take().unwrap(), Arc::clone(said));
    child
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for successor in self.successors.lock().unwrap().iter() {
            let _ = kill_process(Pid::from_raw(successor.cast_signed()).unwrap(), Signal::KILL);
        }
        if thread::panicking() {
            println!("{}", self.said().join("\n"));
        }
    }
}

/// Whether a session still carries bytes both ways.
pub(crate) fn echoes(mut session: &TcpStream) -> bool {
    let mut answer = [0; 4];
    session.write_all(b"more").is_ok() && session.read_exact(&mut answer).is_ok() && &answer == b"more"
}

fn with_port(config: &str, address: SocketAddr) -> String {
    config.replace("PORT", &address.port().to_string())
}

fn listen_to(stderr: ChildStderr, said: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said.lock().unwrap().push(line);
        }
    });
}
