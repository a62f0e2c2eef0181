//! Files that come from elsewhere: certificates, backups, and what the system says of names.

use std::path::{Component, Path};

use vless_rust::app::backup::archive::Backup;
use vless_rust::app::certs::fuzz::{fuzz_certificate, fuzz_pem};
use vless_rust::outbound::resolve::Family;
use vless_rust::outbound::resolve::hosts::Hosts;
use vless_rust::outbound::resolve::resolv_conf::{ResolvConf, SERVERS_MAX};

use crate::input::shape;

/// A certificate in DER, as an authority or an operator may have made it.
pub(super) fn certificate(data: &[u8]) -> u64 {
    shape((fuzz_certificate(data), data.first(), data.len() / 64))
}

/// Text around certificates and keys.
pub(super) fn pem(data: &[u8]) -> u64 {
    shape(fuzz_pem(data))
}

/// A backup is refused in words that quote nothing of it, or holds files that lead nowhere else. The first byte says whether
/// `data` is the archive or one of the files in it.
pub(super) fn backup(data: &[u8]) -> u64 {
    let Some((&mode, data)) = data.split_first() else { return 0 };
    let outcome = if mode & 1 == 0 { Backup::decode(data) } else { Backup::decode(&archive_of(data)) };
    match &outcome {
        Ok(backup) => {
            assert!(backup.files.iter().map(|file| file.contents.len()).sum::<usize>() <= data.len().max(4096));
            for file in &backup.files {
                let parts: Vec<_> = Path::new(&file.path).components().collect();
                assert!(!parts.contains(&Component::ParentDir), "{}", file.path);
            }
            assert_eq!(Backup::decode(&backup.encode().unwrap()).as_ref(), Ok(backup));
        }
        Err(words) => assert!(!words.is_empty()),
    }
    shape(outcome.map(|backup| backup.files.len()).map_err(|words| words.split(' ').take(5).collect::<String>()))
}

/// A list of contents and the file that it promises, as tar has them.
fn archive_of(list: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, contents) in [("vless-rust-backup.json", list), ("folder/config.json", b"{}")] {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000600");
        header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar  \0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend(header);
        archive.extend(contents);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// The system's name servers and names.
pub(super) fn system_names(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    let conf = ResolvConf::parse(&text);
    assert!((1..=SERVERS_MAX).contains(&conf.servers.len()) && (1..=5).contains(&conf.attempts));
    assert!(conf.servers.iter().all(|server| server.port() == 53));
    let hosts = Hosts::parse(&text);
    let mut found = 0;
    for name in text.split_ascii_whitespace().map(str::to_ascii_lowercase) {
        for family in [Family::V4, Family::V6] {
            if let Some(Ok(addresses)) = hosts.find(&name, family) {
                assert!((1..=16).contains(&addresses.len()));
                assert!(addresses.iter().all(|ip| ip.is_ipv4() == (family == Family::V4)));
                found += 1;
            }
        }
    }
    shape((conf.servers.len(), conf.attempts, conf.transport, found))
}
