//! Where the control plane listens: on TCP and at a Unix socket, also when descriptors or ports are short.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use vless_rust::control::listeners::Places;
use vless_rust::control::settings::Settings;

use super::harness::{ADMIN, Plane, read_answer, settings};
use super::support::{PATIENCE, alone, bounded, wait_until};

fn at(path: &Path) -> Settings {
    Settings { places: Places { tcp: settings().places.tcp, unix: Some(path.to_owned()) }, ..settings() }
}

fn session(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /api/session HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_unix_socket_is_its_owners_alone_and_gives_the_admin_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let plane = Plane::start(at(&path));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(session(&path).unwrap().contains(r#""right":"admin""#));
    drop(plane);
    assert!(!path.exists(), "it goes with the server");
}

#[test]
fn the_socket_of_a_server_that_died_is_replaced_and_that_of_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    let first = Plane::start(at(&path));
    assert!(session(&path).unwrap().contains("admin"));
    let inode = fs::metadata(&path).unwrap().ino();
    let second = Plane::start(at(&path));
    drop(second);
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the second neither took nor removed it");
    assert!(session(&path).unwrap().contains("admin"));
    drop(first);
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    fs::write(&path, "somebody's").unwrap();
    drop(Plane::start(at(&path)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
}

#[test]
fn a_port_that_is_taken_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let plane = Plane::start(Settings { places: Places { tcp: Some(address), unix: None }, ..settings() });
    assert!(plane.control.address().is_none());
    drop(taken);
    let plane = Plane { address, ..plane };
    wait_until("it listens", || std::net::TcpStream::connect(address).is_ok_and(|stream| stream.peer_addr().is_ok()));
    assert_eq!(plane.get("/healthz").status, 200);
}

#[test]
fn without_descriptors_an_operator_still_gets_an_answer() {
    alone::run("sockets::without_descriptors_an_operator_still_gets_an_answer", || {
        let plane = Plane::start(settings());
        // Made before, as the process that asks has its own descriptors in reality.
        let sockets: Vec<_> = (0..2).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
        alone::leave_descriptors(200);
        let mut hoard = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        // Figures are a second old at the most; nobody can ask for them meanwhile.
        std::thread::sleep(Duration::from_millis(2500));
        for socket in sockets {
            socket.connect(&plane.address.into()).unwrap();
            let mut stream = bounded(socket.into());
            let request = format!(
                "GET /api/stats HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ADMIN}\r\nConnection: close\r\n\r\n",
                plane.address
            );
            stream.write_all(request.as_bytes()).unwrap();
            let stats = read_answer(&mut stream, false).json();
            let descriptors = &stats["descriptors"];
            assert!(
                descriptors["open"].as_u64().unwrap() + 4 >= descriptors["limit"].as_u64().unwrap(),
                "{descriptors}"
            );
        }
        drop(hoard);
        assert_eq!(plane.get("/healthz").status, 200);
    });
}
