//! Where packets to an address would go, as the kernel says: to this machine, elsewhere, or nowhere.
//!
//! It knows no policy. Answers are remembered until addresses of this machine change, and for [`MEMORY`] at the
//! longest, because routes change too. Asking costs two system calls. It costs no descriptor where the kernel lets this
//! process have a routing socket.

mod netlink;
mod probe;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use self::netlink::RouteSocket;
use crate::io::sockopt::is_shortage;
use crate::io::token::Token;

/// How long an answer is believed.
pub const MEMORY: Duration = Duration::from_secs(5);
/// How many memories are doubted after news. The kernel tells of an address before its routes know it, so an answer
/// right behind the news may be of before. The first memory may end at once, the second lasts.
const DOUBTED_MEMORIES: u8 = 2;
/// Answers remembered at the same time.
const ANSWERS_MAX: usize = 4096;

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They end on this machine, whatever interface has the address.
    Here,
    /// They leave it.
    There,
    /// There is no route.
    Nowhere,
    /// Nobody can say now, for want of a descriptor.
    Unknown,
}

/// What one worker knows of ways.
#[derive(Debug)]
pub struct Routes {
    kernel: Kernel,
    /// What dials and datagrams leave from.
    source: Option<IpAddr>,
    known: HashMap<IpAddr, Way>,
    forgot_at: Option<Instant>,
    /// Questions came upon news that nobody took yet.
    has_overheard: bool,
    /// Memories whose end is to be told, because they may hold answers of before the latest news.
    doubted: u8,
}

/// How the kernel is asked.
#[derive(Debug)]
enum Kernel {
    Asked(RouteSocket),
    /// It lets nobody have a routing socket.
    Probed,
}

impl Routes {
    /// Opens the routing socket, if that is allowed.
    pub fn open(source: Option<IpAddr>) -> Self {
        let kernel = RouteSocket::open().map_or_else(|error| Self::without_socket(&error), Kernel::Asked);
        Self::asking(kernel, source)
    }

    fn asking(kernel: Kernel, source: Option<IpAddr>) -> Self {
        Self { kernel, source, known: HashMap::new(), forgot_at: None, has_overheard: false, doubted: 0 }
    }

    /// Routes of which somebody else than the kernel tells, who is at the other end of `socket`.
    #[cfg(test)]
    pub fn told_by(socket: std::os::fd::OwnedFd) -> Self {
        Self::asking(Kernel::Asked(RouteSocket::over(socket)), None)
    }

    /// Makes events come with `token` when addresses of this machine change.
    ///
    /// # Errors
    /// When the kernel cannot watch one more descriptor.
    pub fn watch(&self, registry: &Registry, token: Token) -> io::Result<()> {
        match &self.kernel {
            Kernel::Asked(socket) => {
                registry.register(&mut SourceFd(&socket.descriptor()), token.into(), Interest::READABLE)
            }
            Kernel::Probed => Ok(()),
        }
    }

    /// The way to `to`. Asking may come upon news: see [`Routes::take_overheard`].
    pub fn way(&mut self, to: IpAddr) -> Way {
        let to = to.to_canonical();
        // The kernel delivers what is sent to the unspecified address to this machine itself.
        if to.is_loopback() || to.is_unspecified() {
            return Way::Here;
        }
        if let Some(&known) = self.known.get(&to) {
            return known;
        }
        let way = self.ask(to);
        if self.overhear() {
            return way;
        }
        if self.known.len() >= ANSWERS_MAX {
            self.known.clear();
        }
        if way != Way::Unknown {
            self.known.insert(to, way);
        }
        way
    }

    /// What leaves from now on has this source address.
    pub fn set_source(&mut self, source: Option<IpAddr>) {
        self.source = source;
        self.known.clear();
    }

    /// Forgets answers that are too old. True if those to whom they were given must ask again: changes of this machine's
    /// addresses are noticed in no other way, or were told so lately that the answers may be of before.
    pub fn grow_old(&mut self, now: Instant) -> bool {
        let is_old = self.forgot_at.is_none_or(|at| now.saturating_duration_since(at) >= MEMORY);
        if is_old {
            self.forgot_at = Some(now);
            self.known.clear();
        }
        let is_doubted = is_old && self.doubted > 0;
        self.doubted -= u8::from(is_doubted);
        is_doubted || (is_old && matches!(self.kernel, Kernel::Probed))
    }

    /// Whether addresses of this machine changed since the last call. If so, every answer is forgotten.
    pub fn take_news(&mut self) -> bool {
        let Kernel::Asked(socket) = &mut self.kernel else { return false };
        if socket.take_news() {
            self.note_news();
        }
        self.take_overheard()
    }

    /// Whether questions since the last call came upon news. If so, every answer is forgotten. Whoever asks looks here
    /// afterwards, because no event tells of such news.
    pub fn take_overheard(&mut self) -> bool {
        std::mem::take(&mut self.has_overheard)
    }

    /// Whether the question just put came upon news. Its own answer may be of before them.
    fn overhear(&mut self) -> bool {
        let is_so = match &mut self.kernel {
            Kernel::Asked(socket) => socket.take_overheard(),
            Kernel::Probed => false,
        };
        if is_so {
            self.note_news();
        }
        is_so
    }

    fn note_news(&mut self) {
        self.known.clear();
        self.has_overheard = true;
        self.doubted = DOUBTED_MEMORIES;
    }

    fn ask(&mut self, to: IpAddr) -> Way {
        let Kernel::Asked(socket) = &mut self.kernel else { return probe::ask(to, self.source) };
        match socket.ask(to, self.source) {
            Ok(way) => way,
            Err(error) if is_shortage(&error) => Way::Unknown,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => probe::ask(to, self.source),
            Err(error) => {
                // What it had to tell is lost with it.
                self.kernel = Self::without_socket(&error);
                self.note_news();
                probe::ask(to, self.source)
            }
        }
    }

    fn without_socket(error: &io::Error) -> Kernel {
        log::info!("routes are probed, because the kernel's routing socket cannot be used: {error}");
        Kernel::Probed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_here_however_the_kernel_is_asked() {
        let mut asked = Routes::open(None);
        let mut probed = Routes::asking(Kernel::Probed, None);
        for ip in ["127.0.0.1", "127.9.8.7", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            let ip = ip.parse().unwrap();
            assert_eq!((asked.way(ip), probed.way(ip)), (Way::Here, Way::Here), "{ip}");
        }
        let elsewhere = "203.0.113.77".parse().unwrap();
        assert_eq!(asked.way(elsewhere), probed.way(elsewhere));
        assert_ne!(asked.way(elsewhere), Way::Here);
    }

    #[test]
    fn answers_are_bounded_in_number_and_age() {
        let (mut routes, start) = (Routes::open(None), Instant::now());
        routes.grow_old(start);
        for n in 0..ANSWERS_MAX as u32 + 10 {
            routes.way(IpAddr::from((0xcb00_7100 + n).to_be_bytes()));
        }
        assert!(routes.known.len() <= ANSWERS_MAX && !routes.known.is_empty());
        routes.grow_old(start + MEMORY / 2);
        assert!(!routes.known.is_empty());
        routes.grow_old(start + MEMORY);
        assert!(routes.known.is_empty());
    }
}
