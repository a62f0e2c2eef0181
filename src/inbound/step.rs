//! How much one call of the stack may take, and what came of it.

/// What became of the bytes given to [`Inbound::decode`](super::Inbound::decode) or [`Inbound::encode`](super::Inbound::encode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converted {
    /// They are to be passed on as they now stand in the input.
    Unchanged,
    /// They, or the whole records among them, were taken from the input. What became of them is in the output.
    Moved {
        /// The input holds more that can be converted once the output has been sent.
        again: bool,
    },
}

/// How much one call of [`Inbound::decode`](super::Inbound::decode) may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One record, so that the caller can look at its payload before the next is touched.
    OneRecord,
    /// All that is there.
    Everything,
}
