//! Who listens on a TCP port of this machine, from `/proc`.
//!
//! Owns that look-up. Another user's processes can be named only by root; then the answer is that somebody does.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub name: String,
    pub pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The process that listens on `port`, if this user may know it.
pub fn holder(port: u16) -> Option<Holder> {
    let inodes = ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|table| fs::read_to_string(table).ok());
    let sockets: Vec<_> =
        inodes.flat_map(|table| listening(&table, port)).map(|inode| format!("socket:[{inode}]")).collect();
    if sockets.is_empty() {
        return None;
    }
    processes().find(|process| holds(process, &sockets)).and_then(|process| named(&process))
}

/// The process that listens on `port`, in words for a message.
pub fn who(port: u16) -> String {
    let unknown = "another program (root is told which)";
    holder(port).map_or_else(|| unknown.to_owned(), |holder| holder.to_string())
}

/// The inodes of sockets that listen on `port`, by a table such as `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let wanted = rows.filter(|fields| {
        let local = fields.get(1).and_then(|address| address.rsplit(':').next());
        fields.get(3) == Some(&"0A") && local.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port)
    });
    wanted.filter_map(|fields| fields.get(9).map(ToString::to_string)).collect()
}

/// The folders of all processes.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| pid(path).is_some())
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.into_iter().any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

fn named(process: &Path) -> Option<Holder> {
    let name = fs::read_to_string(process.join("comm")).ok()?;
    Some(Holder { name: name.trim().to_owned(), pid: pid(process)? })
}

fn pid(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse().ok()
}

/// Whether any process of this machine is called `name`.
pub fn is_running(name: &str) -> bool {
    processes().any(|process| fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holder(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(found.pid, std::process::id());
        assert!(!found.name.is_empty());
    }

    #[test]
    fn only_listening_sockets_of_this_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n\
                     1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4343 1\n\
                     2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4444 1\n";
        assert_eq!(listening(table, 8080), ["4242"]);
        assert_eq!(listening(table, 80), Vec::<String>::new());
    }
}
