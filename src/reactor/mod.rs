//! The only owner of a poll.

pub mod token;
