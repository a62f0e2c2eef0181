//! The socket between an old and a new process: messages of JSON, with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use serde::{Deserialize, Serialize};

/// Descriptors in one message; the kernel takes 253 at the most.
pub(super) const DESCRIPTORS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What the two tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Message {
    /// Listeners at this address come with it.
    Sockets {
        address: SocketAddr,
    },
    AllSockets,
    Prepared,
    StateIsYours,
    Serving,
    ServiceIsYours,
    /// The new process ends, and why.
    Failed {
        why: String,
    },
    /// Payload that the user of this ledger (in hexadecimal digits) has moved since `StateIsYours`.
    Counted {
        ledger: String,
        uplink_bytes: u64,
        downlink_bytes: u64,
    },
    /// Payload of all since `StateIsYours`, and sessions that the old process still has.
    Moved {
        uplink_bytes: u64,
        downlink_bytes: u64,
        sessions: usize,
    },
    /// Sessions of this ledger end, for this reason.
    Cut {
        ledger: String,
        reason: String,
    },
    /// Of another version.
    #[serde(other)]
    Unknown,
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Two ends.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that this process was started with as its standard input, if that is one.
    pub(super) fn from_stdin() -> Option<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let is_ours = sockopt::socket_domain(&socket).ok()? == AddressFamily::UNIX
            && sockopt::socket_type(&socket).ok()? == SocketType::SEQPACKET;
        is_ours.then_some(Self(socket))
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Says `message`; waits for room no longer than `timeout`.
    pub(super) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
        self.wait(PollFlags::OUT, Some(Instant::now() + timeout))?;
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut beside, flags)?;
        Ok(())
    }

    /// The next message with its descriptors; `None` when the other end is closed. Waits no longer than until
    /// `deadline`.
    pub(super) fn receive(&self, deadline: Option<Instant>) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        self.wait(PollFlags::IN, deadline)?;
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut receive = || recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC);
        let received = match receive() {
            // It ended with words of ours unread, which is told once; what it had said itself comes behind that.
            Err(rustix::io::Errno::CONNRESET) => receive()?,
            other => other?,
        };
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                descriptors.extend(sent);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        let message = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())?;
        Ok(Some((message, descriptors)))
    }

    fn wait(&self, what: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut polled = [PollFd::new(&self.0, what)];
            match poll(&mut polled, left.as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(10);

    fn next(channel: &Channel) -> Option<(Message, Vec<OwnedFd>)> {
        channel.receive(Some(Instant::now() + SOON)).unwrap()
    }

    #[test]
    fn listeners_come_with_their_message_and_stay_the_same_sockets() {
        let (ours, theirs) = Channel::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let message = Message::Sockets { address };
        ours.send(&message, &vec![listener.as_fd(); DESCRIPTORS_MAX], SOON).unwrap();
        ours.send(&Message::AllSockets, &[], SOON).unwrap();
        let (received, sockets) = next(&theirs).unwrap();
        assert_eq!((received, sockets.len()), (message, DESCRIPTORS_MAX));
        assert_eq!(next(&theirs).unwrap().0, Message::AllSockets);
        drop(listener);
        let listener = TcpListener::from(sockets.into_iter().next().unwrap());
        assert_eq!(listener.local_addr().unwrap(), address);
        drop(ours);
        assert!(next(&theirs).is_none());
    }

    #[test]
    fn what_was_said_before_the_end_is_heard_though_our_words_were_not() {
        let (ours, theirs) = Channel::pair().unwrap();
        let failed = Message::Failed { why: "no file".to_owned() };
        theirs.send(&failed, &[], SOON).unwrap();
        ours.send(&Message::AllSockets, &[], SOON).unwrap();
        drop(theirs);
        assert_eq!(next(&ours).unwrap().0, failed);
        assert!(next(&ours).is_none());
    }

    #[test]
    fn words_of_another_version_are_passed_over_and_silence_ends() {
        let (ours, theirs) = Channel::pair().unwrap();
        sendmsg(
            &ours.0,
            &[IoSlice::new(br#"{ "is": "something_new", "with": [1] }"#)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::empty(),
        )
        .unwrap();
        assert_eq!(next(&theirs).unwrap().0, Message::Unknown);
        let error = theirs.receive(Some(Instant::now() + Duration::from_millis(20))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
