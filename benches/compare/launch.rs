//! The wait until a server that was started is up, whichever it is.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until the server accepts connections at `port`, and `is_ready`, too.
///
/// # Errors
/// It has ended, or does neither within its time; with what it wrote into `log`.
pub(crate) fn await_listening(child: &mut Child, port: u16, log: &Path, is_ready: impl Fn() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() || !is_ready() {
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(log).unwrap_or_default();
            let fate = ended.map_or("does not listen".to_owned(), |status| format!("ended, {status}"));
            return Err(io::Error::other(format!("the server {fate}: {}", log.trim_end())));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
