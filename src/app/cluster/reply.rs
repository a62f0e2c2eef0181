//! What the engine answers, as plain data.

use crate::cluster::script;

/// More than anything has to say in a line.
const WORDS_MAX: usize = 300;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Number(i64),
    Text(String),
    List(Vec<Reply>),
}

/// Words that somebody else has put into the engine, for log, screen and page: one line without control characters.
pub fn plain(words: &str) -> String {
    words.chars().map(|letter| if letter.is_control() { '?' } else { letter }).take(WORDS_MAX).collect()
}

impl Reply {
    /// The text; of a number, its digits.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            Self::Nil | Self::List(_) => None,
        }
    }

    /// The number; of a text, the one that it is. `None` above what scripts can count, see [`script::number`].
    pub fn number(&self) -> Option<u64> {
        script::number(&self.text()?)
    }

    /// The elements; none of what is no list.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(elements) => elements,
            _ => &[],
        }
    }

    /// The elements as texts; `None` where one is none.
    pub fn texts(&self) -> Option<Vec<String>> {
        self.list().iter().map(Self::text).collect()
    }

    /// The elements as names and values, as a hash is answered.
    pub fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.list().chunks_exact(2).filter_map(|pair| Some((pair[0].text()?, pair[1].text()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_line_that_moves_no_cursor() {
        assert_eq!(plain("user anna\nroot \u{1b}[2J\u{9b}1m"), "user anna?root ?[2J?1m");
        assert_eq!(plain(&"x".repeat(5000)).len(), WORDS_MAX);
    }

    #[test]
    fn numbers_beyond_what_scripts_count_are_none() {
        let text = |text: &str| Reply::Text(text.to_owned()).number();
        assert_eq!((text("9007199254740992"), text("9007199254740993")), (Some(1 << 53), None));
        assert_eq!((Reply::Number(-1).number(), Reply::Nil.number(), text("x")), (None, None, None));
    }
}
