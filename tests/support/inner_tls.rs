//! What the stream of an inner TLS connection looks like from outside: records with headers as real ones have them.

use std::sync::OnceLock;

use super::pattern;

/// Change cipher spec, as TLS 1.3 still sends it (RFC 8446 D.4).
pub const CHANGE_CIPHER_SPEC: &[u8] = &[0x14, 3, 3, 0, 1, 1];

/// What Go clients leave behind when they close: an encrypted alert of 24 bytes.
pub const ALERT_BYTES: usize = 24;

/// How the target answers a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// TLS 1.3 with TLS_AES_128_GCM_SHA256.
    Tls13,
    /// TLS 1.3 with TLS_AES_128_CCM_8_SHA256, which must not go direct.
    Ccm8,
    Tls12,
}

/// A ClientHello of the usual length.
pub fn client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend(&body()[..512 - 6]);
    hello
}

/// A ServerHello of 127 bytes, as TLS 1.3 servers send it.
pub fn server_hello(inner: Inner) -> Vec<u8> {
    let mut hello = vec![0x16, 3, 3, 0, 0x7a, 2, 0, 0, 0x76, 3, 3];
    hello.extend(0..32);
    hello.push(32);
    hello.extend([0xee; 32]);
    hello.extend([0x13, if inner == Inner::Ccm8 { 5 } else { 1 }, 0, 0, 0x2e]);
    let version = if inner == Inner::Tls12 { [0, 0x10, 0, 2, 3, 3] } else { [0, 0x2b, 0, 2, 3, 4] };
    hello.extend(version);
    hello.extend([0, 0x33, 0, 0x24, 0, 0x1d, 0, 0x20]);
    hello.extend([0x99; 32]);
    assert_eq!(hello.len(), 127);
    hello
}

/// A record of application data with so many bytes behind its header.
pub fn data(body_bytes: usize) -> Vec<u8> {
    record(0x17, body_bytes)
}

/// A record of this type with so many bytes behind its header.
pub fn record(kind: u8, body_bytes: usize) -> Vec<u8> {
    let [high, low] = u16::try_from(body_bytes).unwrap().to_be_bytes();
    let mut record = vec![kind, 3, 3, high, low];
    record.extend(&body()[..body_bytes]);
    record
}

/// What all records of [`record`] begin with, made once.
fn body() -> &'static [u8] {
    static BODY: OnceLock<Vec<u8>> = OnceLock::new();
    BODY.get_or_init(|| {
        let mut body = vec![0; 1 << 16];
        pattern::fill(0, &mut body);
        body
    })
}

/// Full records of application data, at least so many bytes in all, all different.
pub fn data_stream(bytes: usize) -> Vec<u8> {
    let mut stream = Vec::with_capacity(bytes + (17 << 10));
    while stream.len() < bytes {
        stream.extend([0x17, 3, 3, 0x40, 0x11]);
        let start = stream.len();
        stream.resize(start + 0x4011, 0);
        pattern::fill(start as u64, &mut stream[start..]);
    }
    stream
}
