//! How much processor time a thread of this process has used, by its name.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use super::wait_until;

/// The kernel's unit of process times (USER_HZ), 100 on every Linux we build for.
const TICK: Duration = Duration::from_millis(10);

/// Reads one thread's processor time. The file is opened once, so that this works when descriptors have run out.
pub struct ThreadClock {
    stat: File,
}

impl ThreadClock {
    /// Waits for the thread called `name`, of which there must be only one, to be there.
    pub fn of(name: &str) -> Self {
        let mut found = None;
        wait_until("the thread is there", || {
            found = find(name);
            found.is_some()
        });
        Self { stat: found.unwrap() }
    }

    /// Lets a second pass and says how much of it the thread has used.
    pub fn used_in_a_second(&mut self) -> Duration {
        let before = self.used();
        let end = Instant::now() + Duration::from_secs(1);
        wait_until("a second has passed", || Instant::now() >= end);
        self.used().saturating_sub(before)
    }

    /// User and system time since the thread was started.
    fn used(&mut self) -> Duration {
        let mut text = String::new();
        self.stat.seek(SeekFrom::Start(0)).unwrap();
        self.stat.read_to_string(&mut text).unwrap();
        // The name in parentheses may hold blanks; the state behind it is the third field, utime the fourteenth.
        let fields: Vec<_> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        TICK * (fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap())
    }
}

fn find(name: &str) -> Option<File> {
    fs::read_dir("/proc/self/task").unwrap().find_map(|task| {
        let folder = task.unwrap().path();
        let is_it = fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim() == name);
        if is_it { File::open(folder.join("stat")).ok() } else { None }
    })
}
