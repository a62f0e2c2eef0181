//! Whether this kernel sends several datagrams in one call (Linux UDP_SEGMENT, since 4.18).
//!
//! A kernel that does not know the option passes over the control message without an error, and sends everything as one
//! datagram. So it must be asked before anything is sent that way.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

const UNASKED: u8 = 0;
const OFFERED: u8 = 1;
const MISSING: u8 = 2;

/// The one kernel that there is.
pub(super) static KERNEL: Segmentation = Segmentation::unasked();

/// What is known of this kernel.
#[derive(Debug)]
pub(super) struct Segmentation {
    known: AtomicU8,
}

impl Segmentation {
    pub(super) const fn unasked() -> Self {
        Self { known: AtomicU8::new(UNASKED) }
    }

    /// Whether runs of datagrams may be sent. The first call finds out, for which any UDP `socket` will do.
    pub(super) fn is_offered(&self, socket: &impl AsFd) -> bool {
        match self.known.load(Ordering::Relaxed) {
            UNASKED => self.learn(getsockopt(socket, sockopt::UdpGsoSegment).map(drop)),
            known => known == OFFERED,
        }
    }

    fn learn(&self, asked: Result<(), Errno>) -> bool {
        let is_offered = asked.is_ok();
        self.known.store(if is_offered { OFFERED } else { MISSING }, Ordering::Relaxed);
        if let Err(error) = asked {
            log::info!("datagrams leave one by one, for this kernel has no UDP_SEGMENT: {error}");
        }
        is_offered
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_kernel_is_asked_once() {
        let (udp, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), std::fs::File::open("/dev/null").unwrap());
        let kernel = Segmentation::unasked();
        let is_offered = kernel.is_offered(&udp);
        // This one would say that it is missing.
        assert_eq!(kernel.is_offered(&other), is_offered);
        assert!(!Segmentation::unasked().is_offered(&other));
    }

    #[test]
    fn a_kernel_that_does_not_know_the_option_does_not_offer_it() {
        let kernel = Segmentation::unasked();
        assert!(!kernel.learn(Err(Errno::ENOPROTOOPT)));
        assert!(!kernel.is_offered(&UdpSocket::bind("127.0.0.1:0").unwrap()));
    }
}
