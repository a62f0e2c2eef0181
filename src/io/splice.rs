//! Kernel pipes, the only way to move bytes between two sockets without copying them through user memory (splice(2)).
//!
//! A transfer holds a pipe only while the pipe holds bytes. Each worker keeps a few empty ones. Without privileges the
//! kernel grants a user 16,384 pipe pages in all (fs.pipe-user-pages-soft), which a pair per session would soon use up.
//! Hence also two sizes: the first pipes in use at a time are large. Further ones, which stalled takers need, are
//! smaller. The last ones of either size are for takers that are known not to stall.

use std::cell::{Cell, RefCell};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

use super::outcome::{Recv, Sent};
use super::taker::Taker;

/// The size of a large pipe, in bytes: what the kernel grants without privileges (fs.pipe-max-size). With 256 KiB the
/// server spends 1.7 times as much CPU time per byte (measured on loopback with four bulk downloads), because each turn
/// of the pipe ends with a small segment of its own and wakes the peer.
const PIPE_BYTES: usize = 1 << 20;

/// The size of pipes beyond [`LARGE_IN_USE_MAX`], or where the kernel grants no more.
const SMALLER_PIPE_BYTES: usize = 256 << 10;

/// So many pipes in use, per worker, are large. With two workers all pages of a user suffice for these, and for as many
/// smaller ones as there may be.
const LARGE_IN_USE_MAX: usize = 16;

/// Of the large pipes and of all pipes, so many are not for unknown takers.
const LARGE_FOR_STEADY: usize = 4;
const PIPES_FOR_STEADY: usize = 16;

/// A smaller pipe is not worth having, because copying moves twice as much per call. Beyond the user's share the kernel
/// grants two pages.
const PIPE_BYTES_MIN: usize = 64 << 10;

/// Pipes in use at the same time, per worker. A stalled taker holds one. Beyond this number it costs a copy instead.
const PIPES_MAX: usize = 64;

/// Empty pipes kept for the next burst, per worker.
const PIPES_KEPT: usize = 8;

/// After the kernel refused a pipe, so many requests are turned down before it is asked again. Asking costs five system
/// calls, and a copy two.
const TURNED_DOWN_AFTER_REFUSAL: u32 = 64;

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// A kernel pipe and the number of bytes in it.
pub struct KernelPipe {
    /// Boxed, because a session has room for two and hardly ever any. Gone only while it is being dropped.
    ends: Option<Box<Ends>>,
    shelf: Rc<Shelf>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    /// What the kernel granted.
    capacity_bytes: u32,
    /// It was made to be a large one, whatever was granted.
    is_large: bool,
    /// Pipes are far smaller than 4 GiB.
    held_bytes: u32,
    /// The last drain took only some, and the next one has not said why.
    drained_partly: bool,
}

/// A worker's pipes. It is cheap to clone.
#[derive(Clone)]
pub struct PipePool {
    shelf: Rc<Shelf>,
}

struct Shelf {
    #[expect(clippy::vec_box, reason = "a pipe is lent in the box that it is kept in")]
    empty: RefCell<Vec<Box<Ends>>>,
    in_use: Cell<usize>,
    /// Of these, the large ones.
    large_in_use: Cell<usize>,
    /// Capacity of the largest pipe so far. Smaller ones are not kept.
    largest_bytes: Cell<u32>,
    /// Requests for a new pipe that are still turned down since the kernel refused one.
    turn_down: Cell<u32>,
}

impl PipePool {
    #[expect(clippy::new_without_default, reason = "a pool is made once per worker, never by default")]
    pub fn new() -> Self {
        let shelf = Shelf {
            empty: RefCell::new(Vec::new()),
            in_use: Cell::new(0),
            large_in_use: Cell::new(0),
            largest_bytes: Cell::new(0),
            turn_down: Cell::new(0),
        };
        Self { shelf: Rc::new(shelf) }
    }

    /// An empty pipe for bytes that this taker gets. `None` when too many are in use or the kernel grants no more. The
    /// caller then copies instead.
    pub fn take(&self, taker: Taker) -> Option<KernelPipe> {
        let shelf = &self.shelf;
        let (in_use_max, large_in_use_max) = match taker {
            Taker::Unknown => (PIPES_MAX - PIPES_FOR_STEADY, LARGE_IN_USE_MAX - LARGE_FOR_STEADY),
            Taker::Steady => (PIPES_MAX, LARGE_IN_USE_MAX),
        };
        if shelf.in_use.get() >= in_use_max {
            return None;
        }
        let is_large = shelf.large_in_use.get() < large_in_use_max;
        // Only large ones are kept, or what the kernel grants instead.
        let kept = is_large.then(|| shelf.empty.borrow_mut().pop()).flatten();
        let ends = kept.or_else(|| shelf.open(is_large))?;
        shelf.in_use.set(shelf.in_use.get() + 1);
        shelf.large_in_use.set(shelf.large_in_use.get() + usize::from(ends.is_large));
        Some(KernelPipe { ends: Some(ends), shelf: Rc::clone(shelf) })
    }

    /// Pipes taken and not yet returned.
    pub fn in_use(&self) -> usize {
        self.shelf.in_use.get()
    }
}

impl Shelf {
    /// A new pipe, unless the kernel refused one a short while ago.
    fn open(&self, is_large: bool) -> Option<Box<Ends>> {
        let turn_down = self.turn_down.get();
        if turn_down > 0 {
            self.turn_down.set(turn_down - 1);
            return None;
        }
        let ends = Ends::open(is_large);
        match &ends {
            Some(ends) => self.largest_bytes.set(self.largest_bytes.get().max(ends.capacity_bytes)),
            None => self.turn_down.set(TURNED_DOWN_AFTER_REFUSAL),
        }
        ends
    }
}

impl Ends {
    fn open(is_large: bool) -> Option<Box<Self>> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Beyond the user's share of pipe pages, or fs.pipe-max-size, the kernel refuses (EPERM), and the pipe stays as
        // it was made.
        if !is_large || fcntl_setpipe_size(&write, PIPE_BYTES).is_err() {
            let _ = fcntl_setpipe_size(&write, SMALLER_PIPE_BYTES);
        }
        let capacity_bytes = fcntl_getpipe_size(&write).ok()?;
        let capacity_bytes = (capacity_bytes >= PIPE_BYTES_MIN).then_some(capacity_bytes as u32)?;
        Some(Box::new(Self { read, write, capacity_bytes, is_large, held_bytes: 0, drained_partly: false }))
    }
}

impl KernelPipe {
    /// Bytes in the pipe.
    pub fn held_bytes(&self) -> usize {
        self.ends.as_ref().map_or(0, |ends| ends.held_bytes as usize)
    }

    /// Moves at most `bytes_max` bytes from a socket into the pipe. The pipe must be empty, so that "would block" is
    /// about the socket and not about the pipe. It may take less than the socket has, because a pipe's room is counted
    /// in pages and not in bytes. It takes nothing that stands behind urgent data. `None`: the kernel does not splice
    /// from this socket, or not now.
    pub fn fill_from(&mut self, socket: &impl AsFd, bytes_max: usize) -> Option<Recv> {
        let bytes = bytes_max.min(PIPE_BYTES);
        self.fill(|write_end| splice(socket, None, write_end, None, bytes, FLAGS))
    }

    /// Moves bytes from the pipe, which must not be empty, to a socket.
    pub fn drain_to(&mut self, socket: &impl AsFd) -> Sent {
        self.drain(|read_end, held_bytes| splice(read_end, None, socket, None, held_bytes, FLAGS))
    }

    /// As [`KernelPipe::fill_from`], from memory: for sockets that are none, in simulation. `bytes` must not be empty.
    pub fn fill_with(&mut self, bytes: &[u8]) -> Option<Recv> {
        self.fill(|write_end| write(write_end, bytes))
    }

    /// As [`KernelPipe::drain_to`], to memory: for sockets that are none, in simulation. `into` must not be empty.
    pub fn drain_into(&mut self, into: &mut [u8]) -> Sent {
        self.drain(|read_end, _| read(read_end, &mut *into))
    }

    fn fill(&mut self, mut call: impl FnMut(&OwnedFd) -> Result<usize, Errno>) -> Option<Recv> {
        debug_assert_eq!(self.held_bytes(), 0);
        let ends = self.ends.as_mut()?;
        loop {
            return match call(&ends.write) {
                Ok(0) => Some(Recv::End),
                Ok(count) => {
                    ends.held_bytes += count as u32;
                    Some(Recv::Bytes(count))
                }
                Err(Errno::AGAIN) => Some(Recv::Blocked),
                Err(Errno::INTR) => continue,
                // This is not about the connection: a sandbox lacks the call, or memory is short.
                Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP | Errno::NOMEM) => None,
                Err(_) => Some(Recv::Failed),
            };
        }
    }

    fn drain(&mut self, mut call: impl FnMut(&OwnedFd, usize) -> Result<usize, Errno>) -> Sent {
        debug_assert_ne!(self.held_bytes(), 0);
        let Some(ends) = &mut self.ends else { return Sent::Failed };
        let was_partial = mem::take(&mut ends.drained_partly);
        loop {
            match call(&ends.read, ends.held_bytes as usize) {
                Ok(0) => return Sent::Failed,
                Ok(count) => {
                    ends.held_bytes -= count as u32;
                    ends.drained_partly = ends.held_bytes > 0;
                    return Sent::Bytes(count);
                }
                Err(Errno::AGAIN) => return Sent::Blocked,
                Err(Errno::INTR) => {}
                // As for sending: the peer had ended its direction, or the break was reported before. A splice that
                // fails half-way reports only what it moved. So after one of those this may be a reset that nobody
                // reported.
                Err(Errno::PIPE) if !was_partial => return Sent::Refused,
                Err(_) => return Sent::Failed,
            }
        }
    }
}

impl Drop for KernelPipe {
    fn drop(&mut self) {
        let is_large = self.ends.as_ref().is_some_and(|ends| ends.is_large);
        self.shelf.in_use.set(self.shelf.in_use.get() - 1);
        self.shelf.large_in_use.set(self.shelf.large_in_use.get() - usize::from(is_large));
        let mut empty = self.shelf.empty.borrow_mut();
        // A pipe that still holds one user's bytes is closed, so that it never serves another.
        if self.held_bytes() == 0 && empty.len() < PIPES_KEPT {
            let largest_bytes = self.shelf.largest_bytes.get();
            empty.extend(self.ends.take().filter(|ends| ends.capacity_bytes >= largest_bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let pool = PipePool::new();
        let mut pipe = pool.take(Taker::Unknown).unwrap();
        assert_eq!(pipe.fill_with(b"payload"), Some(Recv::Bytes(7)));
        let mut out = [0; 16];
        assert_eq!(pipe.drain_into(&mut out[..3]), Sent::Bytes(3));
        assert_eq!(pipe.held_bytes(), 4);
        assert_eq!(pipe.drain_into(&mut out[3..]), Sent::Bytes(4));
        assert_eq!(&out[..7], b"payload");
    }

    #[test]
    fn sockets_are_joined_without_user_memory() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;

        let ((mut near, source), (sink, mut far)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        source.set_nonblocking(true).unwrap();
        let pool = PipePool::new();
        let mut pipe = pool.take(Taker::Unknown).unwrap();
        assert_eq!(pipe.fill_from(&source, usize::MAX), Some(Recv::Blocked));
        near.write_all(b"hello").unwrap();
        for (bytes_max, moved) in [(3, 3), (1000, 2)] {
            assert_eq!(pipe.fill_from(&source, bytes_max), Some(Recv::Bytes(moved)));
            assert_eq!(pipe.drain_to(&sink), Sent::Bytes(moved));
        }
        let mut out = [0; 5];
        far.read_exact(&mut out).unwrap();
        assert_eq!(&out, b"hello");
        drop(near);
        assert_eq!(pipe.fill_from(&source, usize::MAX), Some(Recv::End));
    }

    #[test]
    fn an_empty_pipe_is_used_again_and_a_full_one_is_not() {
        let pool = PipePool::new();
        drop(pool.take(Taker::Unknown).unwrap());
        assert_eq!(pool.shelf.empty.borrow().len(), 1);
        let mut pipe = pool.take(Taker::Unknown).unwrap();
        pipe.fill_with(b"secret");
        drop(pipe);
        assert_eq!((pool.shelf.empty.borrow().len(), pool.in_use()), (0, 0));
    }

    #[test]
    fn after_a_refusal_the_kernel_is_left_alone_for_a_while() {
        let pool = PipePool::new();
        pool.shelf.turn_down.set(2);
        assert!(pool.take(Taker::Unknown).is_none());
        assert!(pool.take(Taker::Unknown).is_none());
        assert!(pool.take(Taker::Unknown).is_some());
    }

    #[test]
    fn the_first_pipes_are_large_and_only_large_ones_are_kept() {
        let pool = PipePool::new();
        let pipes: Vec<_> = (0..=LARGE_IN_USE_MAX).map(|_| pool.take(Taker::Steady).unwrap()).collect();
        let capacities: Vec<_> = pipes.iter().map(|pipe| pipe.ends.as_ref().unwrap().capacity_bytes).collect();
        assert!(capacities[0] as usize > SMALLER_PIPE_BYTES, "the kernel grants none here");
        assert_eq!(capacities[LARGE_IN_USE_MAX] as usize, SMALLER_PIPE_BYTES);
        drop(pipes);
        let kept = pool.shelf.empty.borrow();
        assert_eq!(kept.len(), PIPES_KEPT);
        assert!(kept.iter().all(|ends| ends.capacity_bytes == capacities[0]));
    }

    #[test]
    fn the_number_in_use_is_bounded_and_the_last_ones_are_for_steady_takers() {
        let pool = PipePool::new();
        let unknown: Vec<_> = std::iter::from_fn(|| pool.take(Taker::Unknown)).collect();
        let steady: Vec<_> = std::iter::from_fn(|| pool.take(Taker::Steady)).collect();
        let large = |pipes: &[KernelPipe]| pipes.iter().filter(|pipe| pipe.ends.as_ref().unwrap().is_large).count();
        assert_eq!(
            (unknown.len(), large(&unknown)),
            (PIPES_MAX - PIPES_FOR_STEADY, LARGE_IN_USE_MAX - LARGE_FOR_STEADY)
        );
        assert_eq!((steady.len(), large(&steady)), (PIPES_FOR_STEADY, LARGE_FOR_STEADY));
        drop((unknown, steady));
        assert_eq!((pool.in_use(), pool.shelf.large_in_use.get()), (0, 0));
        assert!(pool.take(Taker::Unknown).is_some());
    }
}
