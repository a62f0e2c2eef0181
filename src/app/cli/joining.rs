//! The words of `init` that make the server a node of a cluster.

use std::path::PathBuf;

use super::words::{self, Words};
use crate::app::exit::Failure;

/// How a server becomes a node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// Of the engine, a credential; `-`: the first line of standard input.
    pub url: String,
    /// `None`: the name of the machine.
    pub node: Option<String>,
    /// The only authority that vouches for the engine; `None`: those of the system.
    pub authority: Option<PathBuf>,
}

impl Joining {
    /// `None` without `--join`.
    pub(super) fn read(words: &Words) -> Result<Option<Self>, Failure> {
        let (node, authority) = (words.text_value("--node"), words.value("--engine-ca").map(PathBuf::from));
        match words.text_value("--join") {
            Some(url) => Ok(Some(Self { url, node, authority })),
            None if node.is_some() => Err(words::usage("--node belongs to --join")),
            None if authority.is_some() => Err(words::usage("--engine-ca belongs to --join")),
            None => Ok(None),
        }
    }
}
