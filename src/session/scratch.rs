//! A worker's memory for bytes on their way through, shared by all its sessions.
//!
//! Whoever needs a buffer takes it, hands it on as an argument or a result, and gives it back when its bytes have left
//! or were kept elsewhere. A buffer that is not given back is made anew when the next one is taken.

use std::mem;

use crate::inbound::HEADROOM_BYTES;
use crate::io::buf::Buf;
use crate::io::buffer_pool::BUFFER_BYTES_MAX;

/// Two buffers that hold whatever a session may keep, and room for one datagram.
pub struct Scratch {
    input: Buf,
    output: Buf,
    /// There is none before the first datagram is received.
    datagram: Box<[u8]>,
}

impl Scratch {
    #[expect(clippy::new_without_default, reason = "made once per worker, never by default")]
    pub fn new() -> Self {
        Self {
            input: Buf::new(HEADROOM_BYTES + BUFFER_BYTES_MAX),
            output: Buf::new(BUFFER_BYTES_MAX),
            datagram: Box::default(),
        }
    }

    /// The buffer for what is to be converted: empty, with headroom in front.
    pub(super) fn take_input(&mut self) -> Buf {
        let mut input = mem::replace(&mut self.input, Buf::empty());
        if input.capacity() == 0 {
            input = Buf::new(HEADROOM_BYTES + BUFFER_BYTES_MAX);
        }
        input.reset(HEADROOM_BYTES);
        input
    }

    pub(super) fn give_input(&mut self, input: Buf) {
        self.input = input;
    }

    /// The buffer for what conversion makes: empty.
    pub(super) fn take_output(&mut self) -> Buf {
        let mut output = mem::replace(&mut self.output, Buf::empty());
        if output.capacity() == 0 {
            output = Buf::new(BUFFER_BYTES_MAX);
        }
        output.reset(0);
        output
    }

    pub(super) fn give_output(&mut self, output: Buf) {
        self.output = output;
    }

    /// Room for a datagram of up to `bytes`.
    pub(super) fn datagram(&mut self, bytes: usize) -> &mut [u8] {
        if self.datagram.len() < bytes {
            self.datagram = vec![0; bytes].into_boxed_slice();
        }
        &mut self.datagram
    }
}
