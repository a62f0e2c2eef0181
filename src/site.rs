//! A plain web site for strangers, for operators who have no web server: `"dest": "builtin"`.
//!
//! A [`LoadedSite`] is a folder or one page, held in memory, and a thread that serves it. Strangers reach it as they reach
//! any other fallback, over a socket that has no name (a pair), so that nothing else of the machine can connect to it.
//!
//! - `content` reads the files, within bounds, when the configuration is read. Nothing is read later.
//! - `conversation` is HTTP/1.1 without a socket: bytes in, answers out.
//! - `answer` and `range` make heads and choose bytes.
//! - `service` is the thread: a poll, the visitors, their deadlines.
//!
//! Nothing here says whose server this is: there is no `Server` field, and the page that stands in for a missing folder is
//! the one that millions of fresh web servers show.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(not(test), deny(clippy::string_slice))]

mod answer;
pub mod content;
pub mod conversation;
mod range;
mod service;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

pub use self::content::{Content, ContentError};
use self::service::{Door, Service};
use crate::session::Site;

/// A site that is being served. Dropping it lets its visitors finish and then ends its thread.
#[derive(Debug)]
pub struct LoadedSite {
    door: Door,
}

impl LoadedSite {
    /// Starts to serve `content`.
    ///
    /// # Errors
    /// When the kernel refuses a poll or a thread.
    pub fn serve(content: Content) -> io::Result<Self> {
        Ok(Self { door: Service::start(Arc::new(content))? })
    }
}

impl Site for LoadedSite {
    fn visit(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        self.door.send_in(theirs)?;
        Ok(ours.into())
    }
}

#[cfg(test)]
mod tests;
