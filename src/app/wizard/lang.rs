//! The two languages of the dialogue.
//!
//! Owns which one is spoken. Each sentence stands beside its translation where it is said, through [`tr!`].

use std::env;

/// A language of the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    #[default]
    En,
    Zh,
}

impl Lang {
    /// The language of a locale such as `zh_CN.UTF-8`; English for all that are not Chinese.
    pub fn of(locale: &str) -> Self {
        if locale.to_lowercase().starts_with("zh") { Self::Zh } else { Self::En }
    }

    /// The language of this terminal, by the first variable that is set.
    pub fn of_terminal() -> Self {
        let names = ["LC_ALL", "LC_MESSAGES", "LANG"];
        let set = names.iter().filter_map(|name| env::var(name).ok()).find(|value| !value.is_empty());
        Self::of(&set.unwrap_or_default())
    }
}

/// The sentence in the language given first: English, then Chinese, both with captured names in braces.
macro_rules! tr {
    ($lang:expr, $en:literal, $zh:literal) => {
        match $lang {
            $crate::app::wizard::Lang::En => format!($en),
            $crate::app::wizard::Lang::Zh => format!($zh),
        }
    };
}

pub(in crate::app) use tr;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_names_its_language() {
        for (locale, lang) in
            [("zh_CN.UTF-8", Lang::Zh), ("zh", Lang::Zh), ("C", Lang::En), ("", Lang::En), ("de_DE", Lang::En)]
        {
            assert_eq!(Lang::of(locale), lang, "{locale}");
        }
    }
}
