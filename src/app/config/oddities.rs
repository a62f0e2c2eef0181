//! Kinds that only one key has: the list of listeners, the destination of a fallback, Vision's seed, receivers of
//! alerts.

use std::fmt;
use std::net::IpAddr;

use serde::de::{self, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::rules::Check;
use super::section::{Kind, Row};
use super::settings::{FallbackDest, Receiver};
use super::values;

/// Content, padding and header of a Vision block share 8192 bytes, 21 of them the header (VISION-1).
const VISION_PADDING_MAX: i64 = 8171;

/// One IP address or a list of them.
pub(super) struct Listen(pub(super) &'static str);

/// A text, or a list of texts. serde's untagged enums would only say that nothing matched.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub(super) struct OneOrMany(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(vec![text.to_owned()])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(value::SeqAccessDeserializer::new(list))
            }
        }
        deserializer.deserialize_any(Texts).map(Self)
    }
}

impl Kind for Listen {
    type Raw = OneOrMany;
    type Value = Vec<IpAddr>;

    fn default_raw(&self) -> OneOrMany {
        OneOrMany(vec![self.0.to_owned()])
    }

    fn value(&self, key: &str, raw: &OneOrMany, check: &mut Check<'_>) -> Vec<IpAddr> {
        let mut listen = Vec::new();
        for (position, text) in raw.0.iter().enumerate() {
            let key = if raw.0.len() == 1 { key.to_owned() } else { format!("{key}[{position}]") };
            // The IPv4 address that an IPv4-mapped one means is what gets bound.
            let Some(ip) = check.ip(&key, text).map(|ip| ip.to_canonical()) else { continue };
            if listen.contains(&ip) {
                check.problem(&key, format!("{ip} is listed twice; remove one"));
            }
            listen.push(ip);
        }
        if raw.0.is_empty() {
            check.problem(key, "the list is empty; \"0.0.0.0\" listens on all IPv4 addresses, \"::\" on all");
        }
        covered(key, &listen, check);
        listen
    }

    fn rows(&self, key: &str, meaning: &'static str) -> Vec<Row> {
        let (default, range) = (format!("\"{}\"", self.0), String::new());
        vec![Row { key: key.to_owned(), default, range, meaning, example: None, is_secret: false }]
    }
}

/// A wildcard address takes the port of every address it covers: the second bind would fail.
fn covered(key: &str, listen: &[IpAddr], check: &mut Check<'_>) {
    for (position, ip) in listen.iter().enumerate() {
        let covers = |all: &&IpAddr| all.is_unspecified() && *all != ip && (all.is_ipv6() || ip.is_ipv4());
        if let Some(all) = listen.iter().find(covers) {
            check.problem(&format!("{key}[{position}]"), format!("\"{all}\" covers {ip} too; remove one"));
        }
    }
}

/// Where a fallback leads; must be given.
pub(super) struct Dest;

/// A port written as a number, or a text.
#[derive(Clone, Default, Serialize)]
#[serde(transparent)]
pub(super) struct NumberOrText(Option<String>);

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port or a string")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.to_owned())
            }
        }
        deserializer.deserialize_any(Either).map(|text| Self(Some(text)))
    }
}

impl Kind for Dest {
    type Raw = NumberOrText;
    type Value = Option<FallbackDest>;

    fn default_raw(&self) -> NumberOrText {
        NumberOrText::default()
    }

    fn value(&self, key: &str, raw: &NumberOrText, check: &mut Check<'_>) -> Option<FallbackDest> {
        let Some(text) = &raw.0 else {
            let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
            check.problem(path, format!("the key \"{name}\" is missing here"));
            return None;
        };
        let expected = "a port such as 80, \"host:port\", \"/path/of/a/socket\", \"@abstract-socket\" or \"builtin\"";
        check.parsed(key, values::fallback_dest(text), expected)
    }

    fn rows(&self, key: &str, meaning: &'static str) -> Vec<Row> {
        vec![Row::required(key, meaning, "8080".to_owned())]
    }
}

/// Vision's four padding lengths.
pub(super) struct VisionSeed(pub(super) [i64; 4]);

impl Kind for VisionSeed {
    type Raw = Vec<i64>;
    type Value = [u16; 4];

    fn default_raw(&self) -> Vec<i64> {
        self.0.to_vec()
    }

    fn value(&self, key: &str, raw: &Vec<i64>, check: &mut Check<'_>) -> [u16; 4] {
        let Ok(numbers) = <[i64; 4]>::try_from(raw.as_slice()) else {
            let example = "[900, 500, 900, 256]";
            check.problem(key, format!("must be exactly four numbers such as {example}, not {}", raw.len()));
            return [0, 1, 0, 1];
        };
        // The second and the fourth are the number of lengths to choose from, so one at least.
        let least = [0, 1, 0, 1];
        std::array::from_fn(|position| {
            let range = least[position]..=VISION_PADDING_MAX;
            check.number(&format!("{key}[{position}]"), numbers[position], range, "bytes") as u16
        })
    }
}

/// Who is told of an alert.
pub(super) struct Receivers;

impl Kind for Receivers {
    type Raw = Vec<Value>;
    type Value = Vec<Receiver>;

    fn default_raw(&self) -> Vec<Value> {
        vec![Value::from("log")]
    }

    fn value(&self, key: &str, raw: &Vec<Value>, check: &mut Check<'_>) -> Vec<Receiver> {
        let mut receivers = Vec::new();
        for (position, value) in raw.iter().enumerate() {
            match values::receiver(value) {
                Some(receiver) => receivers.push(receiver),
                None => check.problem(
                    &format!("{key}[{position}]"),
                    "must be \"log\", { \"webhook\": \"https://...\" } or { \"command\": [\"program\", \"argument\"] }",
                ),
            }
        }
        receivers
    }
}
