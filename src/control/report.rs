//! The JSON bodies, each a plain description of the view. Every formatted text has an integer beside it.

pub mod overview;
pub mod parts;
pub mod users;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// Pairs as one object, in their order.
pub struct Pairs<'a>(pub &'a [(&'static str, u64)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
