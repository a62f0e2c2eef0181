//! What of a private key stays in memory: the key as the TLS library keeps it, and no copy of its file.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::harness::Process;

const CONFIG: &str = r#"{ "server": { "listen": "127.0.0.1", "port": PORT },
    "users": [ { "uuid": "5783a3e7-e373-51cd-8642-c83782b807c5" } ],
    "monitoring": { "enabled": false },
    "tls": { "enabled": true, "cert_file": "server.crt", "key_file": "server.key" } }"#;

/// How often a process has these bytes in memory that it may write to.
fn times_in_memory(pid: u32, needle: &[u8]) -> usize {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        // Some mappings of the kernel cannot be read.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            found += bytes.windows(needle.len()).filter(|window| window == &needle).count();
        }
    }
    found
}

#[test]
fn no_copy_of_a_keys_file_stays_in_memory() {
    // A remark in front of the key is in the encoding of whoever wrote it, here Latin-1.
    for remark in [&b""[..], b"Schl\xfcssel\n"] {
        look_for_copies(remark);
    }
}

fn look_for_copies(remark: &[u8]) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der();
    let pem = made.signing_key.serialize_pem();
    let prepare = |folder: &Path| {
        fs::write(folder.join("server.crt"), made.cert.pem()).unwrap();
        fs::write(folder.join("server.key"), [remark, pem.as_bytes()].concat()).unwrap();
    };
    let process = Process::start(CONFIG, prepare);
    assert!(times_in_memory(process.id(), made.cert.der()) > 0, "what is there would be found");
    // The first line of the text names the algorithm, and the last may be too short to be found once only.
    let secret: Vec<_> = pem.lines().filter(|line| line.len() == 64).skip(1).map(str::as_bytes).collect();
    assert!(!secret.is_empty());
    for when in ["after the start", "after a reload"] {
        for line in &secret {
            assert_eq!(times_in_memory(process.id(), line), 0, "the text of the key {when}");
        }
        assert_eq!(times_in_memory(process.id(), &key), 0, "the key as its file has it {when}");
        process.reload();
    }
}
