//! What lies on a node's disk: the journal, read as the node reads it when it starts.

use std::fs;
use std::io;

use vless_rust::cluster::journal::{Journal, Store};

use crate::engine_server::EngineServer;
use crate::node::Node;

/// Later than any boot of a node.
const BOOT: u64 = u64::MAX;

/// The journal of a node as it was a moment ago; nothing is written back.
struct Glimpse(Vec<u8>);

impl Store for Glimpse {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn replace(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of the account with this key that the node's disk has and the engine has not.
pub(crate) fn untold(node: &Node, engine: &EngineServer, key: &str) -> u64 {
    let applied: Vec<String> = engine.ask(&["HGETALL", &format!("vless:applied:{}", node.name)]);
    untold_of(node, &applied, key)
}

/// The same where `applied` is what the engine has applied: boots, each with its latest batch.
pub(crate) fn untold_of(node: &Node, applied: &[String], key: &str) -> u64 {
    let mut journal = Journal::open(Glimpse(fs::read(node.file("cluster/journal")).unwrap()), BOOT).unwrap();
    for pair in applied.chunks_exact(2) {
        let [boot, sequence] = pair else { unreachable!() };
        journal.applied(boot.parse().unwrap(), sequence.parse().unwrap()).unwrap();
    }
    journal.counted_after(key, BOOT, 0)
}
