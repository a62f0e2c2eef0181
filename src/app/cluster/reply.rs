//! What the engine answers, as plain data.

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Number(i64),
    Text(String),
    List(Vec<Reply>),
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

    /// The number; of a text, the one that it is.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => u64::try_from(*number).ok(),
            Self::Text(text) => text.parse().ok(),
            Self::Nil | Self::List(_) => None,
        }
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
