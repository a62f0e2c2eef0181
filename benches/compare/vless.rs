//! The client's VLESS: request header out, response header off the downlink. Independent of the library's codec, so
//! that an error there cannot cancel itself out here.

use std::io;

/// The user of every scenario, and of every header that names no other.
pub(crate) const USER: [u8; 16] =
    [0x57, 0x83, 0xa3, 0xe7, 0xe3, 0x73, 0x51, 0xcd, 0x86, 0x42, 0xc8, 0x37, 0x82, 0xb8, 0x07, 0xc5];
/// The same in the form configurations want.
pub(crate) const USER_TEXT: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";

/// A protobuf message: field 1, length-delimited, 16 bytes.
const VISION: &[u8] = b"\x0a\x10xtls-rprx-vision";

/// What a connection still has to do about the two headers: send the one before its first payload, in the same write,
/// and take the other off in front of the first payload it receives.
pub(crate) struct Header {
    user: [u8; 16],
    request: Option<Vec<u8>>,
    response_bytes_left: usize,
}

impl Header {
    /// No VLESS at all: the bare relay.
    pub(crate) fn none() -> Self {
        Self { user: USER, request: None, response_bytes_left: 0 }
    }

    /// A TCP request for 127.0.0.1 without flow.
    pub(crate) fn plain(target_port: u16) -> Self {
        Self::new(&[], 1, Some(target_port))
    }

    /// A UDP request for 127.0.0.1 without flow.
    pub(crate) fn udp(target_port: u16) -> Self {
        Self::new(&[], 2, Some(target_port))
    }

    /// A Mux request without flow; its targets follow in the body.
    pub(crate) fn mux() -> Self {
        Self::new(&[], 3, None)
    }

    /// A Mux request with the flow `xtls-rprx-vision`; its targets follow in the body.
    pub(crate) fn vision_mux() -> Self {
        Self::new(VISION, 3, None)
    }

    /// A TCP request for 127.0.0.1 with the flow `xtls-rprx-vision`.
    pub(crate) fn vision(target_port: u16) -> Self {
        Self::new(VISION, 1, Some(target_port))
    }

    fn new(addons: &[u8], command: u8, target_port: Option<u16>) -> Self {
        let mut request = vec![0];
        request.extend(USER);
        request.push(addons.len() as u8);
        request.extend(addons);
        request.push(command);
        if let Some(port) = target_port {
            request.extend(port.to_be_bytes());
            request.extend([1, 127, 0, 0, 1]);
        }
        Self { user: USER, request: Some(request), response_bytes_left: 2 }
    }

    /// The same for another user.
    pub(crate) fn of(mut self, user: [u8; 16]) -> Self {
        self.user = user;
        if let Some(request) = &mut self.request {
            request[1..17].copy_from_slice(&user);
        }
        self
    }

    pub(crate) fn user(&self) -> [u8; 16] {
        self.user
    }

    /// The request header, the first time.
    pub(crate) fn take_request(&mut self) -> Option<Vec<u8>> {
        self.request.take()
    }

    pub(crate) fn awaits_response(&self) -> bool {
        self.response_bytes_left > 0
    }

    /// Takes what is left of the response header off the front of these bytes and returns the rest.
    pub(crate) fn take_response<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let (header, rest) = bytes.split_at(self.response_bytes_left.min(bytes.len()));
        if header.iter().any(|&byte| byte != 0) {
            return Err(io::Error::other("the response header is not 00 00"));
        }
        self.response_bytes_left -= header.len();
        Ok(rest)
    }
}
