//! The wire in user space does to packets what it was told to: it delays, loses and reorders them, and nothing else.

#[path = "support/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::UdpSocket;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use wire::{FAR, Fate, Manners, Way, Wire};

const MANNERS: Manners = Manners {
    delay: Duration::from_millis(5),
    lost_ppm: 100_000,
    late_ppm: 50_000,
    late_by: Duration::from_millis(20),
    reset_ppm: 0,
    seed: 7,
};

/// Datagrams sent, each with its number.
const DATAGRAMS: u32 = 2000;
const PORT: u16 = 7000;
/// Which end a process of this test is.
const END: &str = "WIRE_TEST_END";

#[test]
fn packets_are_lost_and_late_as_often_as_was_said_and_alike_for_every_run_of_a_seed() {
    let now = Instant::now();
    let run = |seed, way| {
        let mut fate = Fate::new(Manners { seed, ..MANNERS }, way);
        (0..10_000).map(|_| fate.due(now)).collect::<Vec<_>>()
    };
    let fates = run(7, Way::NearToFar);
    let lost = fates.iter().filter(|due| due.is_none()).count();
    let late = fates.iter().flatten().filter(|&&due| due == now + MANNERS.delay + MANNERS.late_by).count();
    let in_time = fates.iter().flatten().filter(|&&due| due == now + MANNERS.delay).count();
    assert_eq!(lost + late + in_time, 10_000);
    assert!((900..1100).contains(&lost) && (400..500).contains(&late), "{lost} lost, {late} late");
    assert!(fates == run(7, Way::NearToFar), "a seed is a run");
    assert!(fates != run(8, Way::NearToFar) && fates != run(7, Way::FarToNear), "another one is another");
}

/// The sum of a segment's words and of its pseudo-header, which is 0xffff where the checksum is right.
fn checksum(packet: &[u8]) -> u16 {
    let (addresses, tcp) = (&packet[12..20], &packet[20..]);
    let words = addresses.chunks(2).chain(tcp.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    let sum = sum + 6 + tcp.len() as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn a_segment_becomes_a_reset_that_a_kernel_believes() {
    let mut packet = vec![0x45, 0, 0, 45, 0, 1, 0, 0, 64, 6, 0, 0, 10, 76, 0, 1, 10, 76, 0, 2];
    packet.extend([0x9c, 0x40, 0x20, 0xfb, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 0xff, 0, 0, 0, 0, 0]);
    packet.extend(b"hello");
    let sum = !checksum(&packet);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(checksum(&packet), 0xffff);
    let opening = [&packet[..33], &[2][..], &packet[34..]].concat();
    wire::make_reset(&mut packet);
    assert_eq!((packet[33], checksum(&packet)), (0x14, 0xffff));
    let mut untouched = opening.clone();
    wire::make_reset(&mut untouched);
    assert!(untouched == opening, "a connection is not reset before it is there");
}

#[test]
fn datagrams_cross_a_bad_wire_late_out_of_order_or_not_at_all_but_never_twice() {
    match env::var(END).as_deref() {
        Ok("near") => return send(),
        Ok(_) => return receive(),
        Err(_) => {}
    }
    let wire = match Wire::lay(MANNERS, |_, _| {}) {
        Err(error)
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
                && env::var_os("CI").is_none() =>
        {
            return eprintln!("not run, for it needs root, `ip` and /dev/net/tun: {error}");
        }
        wire => wire.unwrap(),
    };
    let me = env::current_exe().unwrap();
    let end = |namespace: &str, name| {
        let mut command = Wire::command(namespace, me.to_str().unwrap());
        let test = "datagrams_cross_a_bad_wire_late_out_of_order_or_not_at_all_but_never_twice";
        command.args(["--exact", test, "--nocapture"]).env(END, name);
        command
    };
    let mut receiver = end(&wire.far, "far").stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(receiver.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the receiver ended");
    }
    assert!(end(&wire.near, "near").stdout(Stdio::null()).status().unwrap().success());
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    assert!(receiver.wait().unwrap().success());
    let heard = text.lines().find_map(|line| line.strip_prefix("heard")).expect("what was heard");
    let heard: Vec<u32> = heard.split_whitespace().map(|number| number.parse().unwrap()).collect();

    assert_eq!(heard.iter().collect::<BTreeSet<_>>().len(), heard.len(), "some came twice");
    let arrived = heard.len() as u32 * 100 / DATAGRAMS;
    assert!((86..=94).contains(&arrived), "{arrived} % arrived, 90 should");
    let overtaken = heard.iter().scan(0, |highest, &number| {
        let is_overtaken = number < *highest;
        *highest = number.max(*highest);
        Some(is_overtaken)
    });
    let overtaken = overtaken.filter(|&is_overtaken| is_overtaken).count();
    let overtaken = overtaken as u32 * 100 / DATAGRAMS;
    assert!((2..=8).contains(&overtaken), "{overtaken} % were overtaken, 5 should be");
}

fn send() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for number in 1..=DATAGRAMS {
        socket.send_to(&number.to_be_bytes(), (FAR, PORT)).unwrap();
        // Not a wait for anything: several must fit into the time by which the late ones are late.
        thread::sleep(Duration::from_micros(200));
    }
}

/// Tells what came once nothing more does.
fn receive() {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    println!("\nlistening");
    let mut heard = String::from("\nheard");
    let mut number = [0; 4];
    while socket.recv(&mut number).is_ok() {
        let _ = write!(heard, " {}", u32::from_be_bytes(number));
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    }
    println!("{heard}");
}
