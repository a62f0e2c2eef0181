//! How a configuration key is written once: its name, kind, default, range and meaning in one line of `keys.rs`.
//!
//! Owns the two traits behind those lines. A [`Section`] is an object of the file, a [`Kind`] is what one of its keys
//! may hold. From them follow the parser's schema, the defaults, the checks, the types that the program works with, and
//! the operator's reference.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rules::Check;

/// What a key may hold.
pub(super) trait Kind {
    /// As the file may have it: numbers as wide as JSON's, texts unread, so that the check can say what would be right
    /// instead of the parser saying what did not fit.
    type Raw: Clone + Serialize + DeserializeOwned;
    /// As the program wants it.
    type Value;

    fn default_raw(&self) -> Self::Raw;

    /// As the default, with one element in each list of objects.
    fn sample_raw(&self) -> Self::Raw {
        self.default_raw()
    }

    /// The value of `raw`, which stands at `key`. Breaches are noted in `check`; then the value is something harmless.
    fn value(&self, key: &str, raw: &Self::Raw, check: &mut Check<'_>) -> Self::Value;

    /// Numbers that are possible, as the reference says them; empty for what is no number.
    fn range(&self) -> String {
        String::new()
    }

    /// Never shown.
    fn is_secret(&self) -> bool {
        false
    }

    /// What the reference says of this key; of all keys inside where it is an object or a list of objects.
    fn rows(&self, key: &str, meaning: &'static str) -> Vec<Row> {
        let default = serde_json::to_string(&self.default_raw()).unwrap_or_default();
        vec![Row {
            key: key.to_owned(),
            default,
            range: self.range(),
            meaning,
            example: None,
            is_secret: self.is_secret(),
        }]
    }
}

/// An object of the file, in the types that the program works with.
pub(super) trait Section: Sized {
    type Raw: Clone + Default + Serialize + DeserializeOwned;

    /// The section that `raw` means, which stands at `path` (empty for the file itself).
    fn check(raw: &Self::Raw, path: &str, check: &mut Check<'_>) -> Self;

    fn rows(path: &str) -> Vec<Row>;

    /// The defaults, with one element in each list of objects.
    fn sample() -> Self::Raw;
}

/// One line of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// With `[]` for the elements of a list of objects.
    pub(super) key: String,
    /// As JSON; `required` where there is none.
    pub(super) default: String,
    pub(super) range: String,
    pub(super) meaning: &'static str,
    /// As JSON, where there is no default.
    pub(super) example: Option<String>,
    pub(super) is_secret: bool,
}

impl Row {
    /// The row of a key that must be given.
    pub(super) fn required(key: &str, meaning: &'static str, example: String) -> Self {
        let (default, range) = ("required".to_owned(), String::new());
        Self { key: key.to_owned(), default, range, meaning, example: Some(example), is_secret: false }
    }
}

/// The place of `name`, a field of ours, in the section at `path`.
pub(super) fn member(path: &str, name: &str) -> String {
    // A field that is a word of the language has a prefix.
    let name = name.trim_start_matches("r#");
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A section of its own as the value of a key.
pub(super) struct Group<T>(pub(super) std::marker::PhantomData<T>);

impl<T: Section> Kind for Group<T> {
    type Raw = T::Raw;
    type Value = T;

    fn default_raw(&self) -> T::Raw {
        T::Raw::default()
    }

    fn sample_raw(&self) -> T::Raw {
        T::sample()
    }

    fn value(&self, key: &str, raw: &T::Raw, check: &mut Check<'_>) -> T {
        T::check(raw, key, check)
    }

    fn rows(&self, key: &str, _: &'static str) -> Vec<Row> {
        T::rows(key)
    }
}

/// A list of sections, empty by default.
pub(super) struct Entries<T>(pub(super) std::marker::PhantomData<T>);

impl<T: Section> Kind for Entries<T> {
    type Raw = Vec<T::Raw>;
    type Value = Vec<T>;

    fn default_raw(&self) -> Vec<T::Raw> {
        Vec::new()
    }

    fn sample_raw(&self) -> Vec<T::Raw> {
        vec![T::sample()]
    }

    fn value(&self, key: &str, raw: &Vec<T::Raw>, check: &mut Check<'_>) -> Vec<T> {
        raw.iter().enumerate().map(|(position, raw)| T::check(raw, &format!("{key}[{position}]"), check)).collect()
    }

    fn rows(&self, key: &str, _: &'static str) -> Vec<Row> {
        T::rows(&format!("{key}[]"))
    }
}

pub(super) fn group<T>() -> Group<T> {
    Group(std::marker::PhantomData)
}

pub(super) fn entries<T>() -> Entries<T> {
    Entries(std::marker::PhantomData)
}

/// Declares a section: `Name from RawName, "what the parser expects" { key: Kind = kind, "meaning"; ... }`.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident from $raw:ident, $expecting:literal {
        $($key:ident: $kind:ty = $make:expr, $meaning:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(unreachable_pub, reason = "some sections are merged into other types before the program sees them")]
        #[allow(private_interfaces, reason = "the values are plain types; the kinds they come from stay in this folder")]
        #[allow(clippy::struct_field_names, reason = "keys have the names that operators know")]
        pub struct $name {
            $(#[doc = $meaning] pub $key: <$kind as Kind>::Value,)*
        }

        /// The same as it may be written.
        #[derive(Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = $expecting)]
        #[allow(private_interfaces, clippy::struct_field_names, reason = "as above")]
        pub(super) struct $raw {
            $(pub(super) $key: <$kind as Kind>::Raw,)*
        }

        impl std::fmt::Debug for $raw {
            /// It may hold ids and tokens.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($raw)).finish_non_exhaustive()
            }
        }

        impl Default for $raw {
            fn default() -> Self {
                Self { $($key: <$kind as Kind>::default_raw(&$make),)* }
            }
        }

        impl Section for $name {
            type Raw = $raw;

            fn check(raw: &$raw, path: &str, check: &mut Check<'_>) -> Self {
                Self { $($key: <$kind as Kind>::value(&$make, &member(path, stringify!($key)), &raw.$key, check),)* }
            }

            fn sample() -> $raw {
                $raw { $($key: <$kind as Kind>::sample_raw(&$make),)* }
            }

            fn rows(path: &str) -> Vec<Row> {
                [$(<$kind as Kind>::rows(&$make, &member(path, stringify!($key)), $meaning),)*].concat()
            }
        }
    };
}

pub(super) use section;
