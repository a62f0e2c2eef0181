//! Listeners that whoever started the server has opened, as systemd's socket units do.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rustix::fs::fstat;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Process, program};
use crate::support::bounded;
use crate::support::client::request;
use crate::support::origin::Origin;
use crate::support::ports::{free_address, free_port};
use crate::support::server::ALICE;

/// `PORT` stands for the port of the first socket, as everywhere.
const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT, "workers": 2 },
    "users": [ { "uuid": "616c6963-6527-7320-7573-65722069642e", "email": "alice" } ],
    "outbound": { "allow": [ "127.0.0.0/8" ] }, "monitoring": { "enabled": false } }"#;

/// What the shell does before it becomes the server: standard input and output become descriptors 3 and 4.
const SHELL: &str =
    "exec 3<&0 4>&1 0</dev/null 1>/dev/null; exec env LISTEN_PID=$$ $VARIABLES \"$PROGRAM\" run config.json";

fn folder(config: &str, port: u16) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.replace("PORT", &port.to_string())).unwrap();
    folder
}

fn command(folder: &TempDir, variables: &str, first: OwnedFd, second: OwnedFd) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", SHELL]).current_dir(folder.path());
    command.env("VARIABLES", variables).env("PROGRAM", program());
    command.stdin(Stdio::from(first)).stdout(Stdio::from(second)).stderr(Stdio::piped());
    command
}

fn fd(socket: &impl AsFd) -> OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

fn start(listener: &TcpListener, folder: TempDir) -> Process {
    let variables = "LISTEN_FDS=1 LISTEN_FDNAMES=clients";
    let child = command(&folder, variables, fd(listener), fd(&fs::File::open("/dev/null").unwrap())).spawn().unwrap();
    Process::adopt(child, folder, listener.local_addr().unwrap())
}

/// What a server says that does not start, and its exit code.
fn refused(variables: &str, first: OwnedFd, port: u16) -> (Option<i32>, String) {
    let folder = folder(CONFIG, port);
    let output = command(&folder, variables, first, fd(&fs::File::open("/dev/null").unwrap())).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Descriptors of the process that are this socket.
fn held(server: &Process, listener: &TcpListener) -> usize {
    let inode = fstat(listener).unwrap().st_ino;
    let entries = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().flatten();
    entries.filter(|entry| fs::metadata(entry.path()).is_ok_and(|file| file.ino() == inode)).count()
}

#[test]
fn clients_wait_in_a_socket_that_outlives_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = Origin::echo();
    let mut first = start(&listener, folder(CONFIG, port));
    assert!(first.open(&ALICE, origin.address).is_some());
    first.wait_for_line(0, "the socket \"clients\" at 127.0.0.1:");
    first.signal(Signal::TERM);
    assert_eq!(first.wait(), Some(0));
    // Nobody is there, and nobody is turned away.
    let mut waiting = bounded(TcpStream::connect(first.address).unwrap());
    waiting.write_all(&request(&ALICE, origin.address)).unwrap();
    waiting.write_all(b"ping").unwrap();
    let second = start(&listener, folder(CONFIG, port));
    let mut answer = [0; 6];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\0\0ping");
    assert!(second.open(&ALICE, origin.address).is_some());
}

#[test]
fn a_successor_and_a_reload_do_with_it_as_with_any_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = CONFIG.replace("\"enabled\": false", "\"port\": MONITORING");
    let free = free_port();
    let config = config.replace("MONITORING", &free.to_string());
    let origin = Origin::echo();
    let mut server = start(&listener, folder(&config, listener.local_addr().unwrap().port()));
    assert!(server.open(&ALICE, origin.address).is_some());
    server.write_config(&config.replace("\"listen\": \"127.0.0.1\"", "\"listen\": \"127.0.0.2\""));
    server.reload();
    crate::support::wait_until("it has let go of the socket", || held(&server, &listener) == 0);
    // The successor is given what the old one has now, and reads none of the variables.
    server.upgrade();
    assert_eq!(server.wait(), Some(0));
    assert!(TcpStream::connect(("127.0.0.2", server.address.port())).is_ok());
}

#[test]
fn what_does_not_fit_keeps_the_server_from_starting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (code, said) = refused("LISTEN_FDS=1 LISTEN_FDNAMES=web", fd(&listener), port - 1);
    let wanted = format!("the socket \"web\" listens on 127.0.0.1:{port}, and server.listen and server.port do not");
    assert!(code == Some(78) && said.contains(&wanted), "{said}");
    let (code, said) = refused("LISTEN_FDS=1", fd(&UdpSocket::bind("127.0.0.1:0").unwrap()), port);
    assert!(code == Some(78) && said.contains("the socket \"3\" does not listen for TCP"), "{said}");
    let (code, said) = refused("LISTEN_FDS=9", fd(&listener), port);
    assert!(code == Some(69) || code == Some(78), "descriptor 5 is not open: {said}");
    let (code, said) = refused("LISTEN_FDS=many", fd(&listener), port);
    assert!(code == Some(78) && said.contains("must be a number"), "{said}");
}

#[test]
fn sockets_for_another_process_are_passed_over() {
    let others = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = free_address();
    let folder = folder(CONFIG, free.port());
    let null = fd(&fs::File::open("/dev/null").unwrap());
    let child = command(&folder, "LISTEN_PID=1 LISTEN_FDS=1", fd(&others), null).spawn().unwrap();
    let server = Process::adopt(child, folder, free);
    crate::support::wait_until("it listens by itself", || TcpStream::connect(free).is_ok());
    assert!(server.open(&ALICE, Origin::echo().address).is_some());
}
