//! The look-up of a webhook's name, which ends in time.
//!
//! The system's look-up cannot be stopped, and may take minutes where no name server answers. So a thread of its own waits
//! for it. There is one such thread for a name, and [`LOOK_UPS_MAX`] at the most: a name that hangs costs one thread,
//! however often its webhook is tried.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use super::left;

/// Look-ups under way at the same time.
const LOOK_UPS_MAX: usize = 8;

/// The names that are being looked up.
#[derive(Clone)]
pub(super) struct LookUps(Arc<Mutex<Vec<String>>>);

/// A name among those that are being looked up, until it is dropped.
struct UnderWay {
    all: LookUps,
    host: String,
}

impl LookUps {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// The addresses of `host`, by `deadline`, as the system knows them.
    ///
    /// # Errors
    /// When there are none, or none by then.
    pub(super) fn addresses(&self, host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        self.ask(host, deadline, move |host| (host, port).to_socket_addrs().map(Iterator::collect))
    }

    fn ask(
        &self,
        host: &str,
        deadline: Instant,
        system: impl FnOnce(&str) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        let under_way = self.begin(host)?;
        let (sender, answer) = mpsc::sync_channel(1);
        thread::Builder::new().name("look-up".to_owned()).spawn(move || {
            let addresses = system(&under_way.host);
            // Whoever has the answer may ask for the same name at once.
            drop(under_way);
            // Nobody waits any more: the answer came too late.
            let _ = sender.try_send(addresses);
        })?;
        match answer.recv_timeout(left(deadline)?) {
            Ok(addresses) => addresses,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the look-up of its name took too long")),
        }
    }

    fn begin(&self, host: &str) -> io::Result<UnderWay> {
        let mut hosts = self.lock();
        if hosts.len() >= LOOK_UPS_MAX || hosts.iter().any(|known| known == host) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "earlier look-ups of names have not ended yet"));
        }
        hosts.push(host.to_owned());
        Ok(UnderWay { all: self.clone(), host: host.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.lock().retain(|host| *host != self.host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::mpsc::Receiver;
    use std::time::Duration;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// As a system whose name servers are silent until the test has ended.
    fn hang(until: Receiver<()>) -> impl FnOnce(&str) -> io::Result<Vec<SocketAddr>> + Send + 'static {
        move |_| {
            let _ = until.recv_timeout(PATIENCE);
            Ok(Vec::new())
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    fn late() -> Instant {
        Instant::now() + PATIENCE
    }

    #[test]
    fn a_name_server_that_is_silent_holds_up_nobody() {
        let look_ups = LookUps::new();
        let (end, until) = mpsc::channel();
        let hung = look_ups.ask("a.example", soon(), hang(until));
        // The system is still at it.
        end.send(()).unwrap();
        assert_eq!(hung.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_name_that_hangs_costs_one_thread_and_all_of_them_a_few() {
        let look_ups = LookUps::new();
        let ends: Vec<_> = (0..LOOK_UPS_MAX)
            .map(|number| {
                let (end, until) = mpsc::channel();
                assert!(look_ups.ask(&format!("{number}.example"), soon(), hang(until)).is_err());
                end
            })
            .collect();
        let not_asked = |_: &str| unreachable!("a look-up too many");
        assert!(look_ups.ask("0.example", late(), not_asked).is_err());
        assert!(look_ups.ask("other.example", late(), not_asked).is_err());
        drop(ends);
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let deadline = late();
        while look_ups.ask("0.example", late(), move |_| Ok(vec![here])).is_err() {
            assert!(Instant::now() < deadline, "the threads have not ended");
            thread::yield_now();
        }
        assert_eq!(look_ups.addresses("::1", 5, soon()).unwrap(), ["[::1]:5".parse().unwrap()]);
    }
}
