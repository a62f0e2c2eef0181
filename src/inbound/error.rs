//! What a client can break below VLESS.

use std::fmt;

use super::tls::TlsError;

/// The client broke a protocol; the session is over.
#[derive(Clone, Debug, PartialEq)]
pub enum InboundError {
    /// TLS failed; an alert for the client may wait in the output.
    Tls(TlsError),
    /// The client sent what cannot be a TLS record.
    BadRecord,
    /// A Vision block has a command that does not exist.
    BadPadding,
    /// The stream ended inside a TLS record or a Vision block.
    Truncated,
    /// A buffer was smaller than this module's callers promise.
    NoRoom,
}

impl fmt::Display for InboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::BadRecord => f.write_str("not a TLS record"),
            Self::Truncated => f.write_str("the stream ended inside a record or block"),
            Self::BadPadding => f.write_str("a Vision block with an unknown command"),
            Self::NoRoom => f.write_str("no room in a buffer"),
        }
    }
}

impl From<TlsError> for InboundError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}
