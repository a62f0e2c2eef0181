//! How much memory this process may use, as the machine and its control groups say.
//!
//! Reads `/proc/meminfo` and the limits of the process's control groups, version 2 and version 1, up to the root. What
//! cannot be read does not limit anything.

use std::fs;
use std::path::{Path, PathBuf};

/// What the default limit of buffer memory is at the least.
const BUFFER_MEMORY_MIN: usize = 16 << 20;

/// The part of the memory that buffers may take when the configuration does not say.
const BUFFER_SHARE: u64 = 4;

/// Taken where not even the machine's memory can be read.
const UNKNOWN_MEMORY: u64 = 512 << 20;

/// The default of `performance.buffer_memory_max` in bytes: a quarter of what this process may use.
pub(super) fn default_buffer_memory() -> usize {
    usize::try_from(usable() / BUFFER_SHARE).unwrap_or(usize::MAX).max(BUFFER_MEMORY_MIN)
}

/// Bytes that this process may use, as far as that can be found out.
pub(super) fn usable() -> u64 {
    available(Path::new("/")).unwrap_or(UNKNOWN_MEMORY)
}

/// Bytes that this process may use: the machine's memory or the lowest limit of its control groups. `root` is the root
/// of the file system.
fn available(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| total_memory(&text));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        // "max" is no number and no limit.
        fs::read_to_string(root.join(file)).ok()?.trim().parse::<u64>().ok()
    });
    limits.chain(machine).min()
}

/// The bytes in the line `MemTotal:  24689652 kB`.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The files that may hold a limit, for the lines `0::/a/b` (version 2) and `4:memory:/a/b` (version 1) of a process:
/// those of its group, of every group around it, and of the root, which is what a container sees as its own.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (mount, file) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|ancestor| Path::new(mount).join(ancestor).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(groups: &str, limits: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let files = [("proc/meminfo", "MemTotal:       1024000 kB\nMemFree:  1 kB\n"), ("proc/self/cgroup", groups)];
        for (file, text) in files.iter().chain(limits) {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn without_a_limit_it_is_the_machines_memory() {
        let root = machine("0::/\n", &[("sys/fs/cgroup/memory.max", "max\n")]);
        assert_eq!(available(root.path()), Some(1_024_000 << 10));
    }

    #[test]
    fn the_lowest_limit_of_the_groups_around_counts() {
        let limits = [("sys/fs/cgroup/a/b/memory.max", "max\n"), ("sys/fs/cgroup/a/memory.max", "268435456\n")];
        let root = machine("0::/a/b\n", &limits);
        assert_eq!(available(root.path()), Some(256 << 20));
    }

    #[test]
    fn version_1_is_understood_and_its_no_limit_too() {
        let file = "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes";
        let groups = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n";
        assert_eq!(available(machine(groups, &[(file, "104857600\n")]).path()), Some(100 << 20));
        assert_eq!(available(machine(groups, &[(file, "9223372036854771712\n")]).path()), Some(1_024_000 << 10));
    }

    #[test]
    fn a_machine_that_says_nothing_limits_nothing() {
        assert_eq!(available(tempfile::tempdir().unwrap().path()), None);
        assert!(default_buffer_memory() >= BUFFER_MEMORY_MIN);
    }
}
