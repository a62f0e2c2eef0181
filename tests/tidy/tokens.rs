//! Rust source as a list of words and signs: enough to see what a file names, without a compiler.
//!
//! Comments are gone, texts keep their content apart from the code, and items for tests only can be cut out.

use std::mem;

/// A piece of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// `::`
    Separator,
    /// What stands between quotation marks.
    Text(String),
    /// Any other sign, also the apostrophe of a lifetime.
    Sign(char),
}

impl Token {
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    pub(crate) fn is_sign(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }
}

/// Takes source apart.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { rest: source };
    let mut found = Vec::new();
    while let Some(token) = reader.next() {
        found.push(token);
    }
    found
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Token> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("//") {
                self.take_until(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.skip_block_comment();
            } else {
                break;
            }
        }
        let first = self.rest.chars().next()?;
        if let Some(text) = self.text() {
            return Some(Token::Text(text));
        }
        if first == '\'' && self.skip_char() {
            return self.next();
        }
        if is_word(first) {
            let end = self.rest.find(|sign| !is_word(sign)).unwrap_or(self.rest.len());
            return Some(Token::Word(self.take_until(end).to_owned()));
        }
        if self.rest.starts_with("::") {
            self.take_until(2);
            return Some(Token::Separator);
        }
        self.take_until(first.len_utf8());
        Some(Token::Sign(first))
    }

    /// What stands before `end` in the rest, which is then behind it.
    fn take_until(&mut self, end: usize) -> &str {
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Block comments may stand inside each other.
    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.take_until(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take_until(2);
            } else {
                let Some(char) = self.rest.chars().next() else { return };
                self.take_until(char.len_utf8());
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// A text in any spelling: `".."`, `b".."`, `c".."`, `r#".."#`, `br".."`.
    fn text(&mut self) -> Option<String> {
        let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
            let behind = self.rest.strip_prefix(prefix).unwrap_or("'");
            let behind = if prefix.ends_with('r') { behind.trim_start_matches('#') } else { behind };
            behind.starts_with('"')
        })?;
        self.take_until(prefix.len());
        let hashes = self.rest.find('"')?;
        self.take_until(hashes + 1);
        if prefix.ends_with('r') {
            let closing = format!("\"{}", "#".repeat(hashes));
            let end = self.rest.find(&closing).unwrap_or(self.rest.len());
            let text = self.take_until(end).to_owned();
            self.take_until(closing.len().min(self.rest.len()));
            return Some(text);
        }
        let mut text = String::new();
        while let Some(char) = self.rest.chars().next() {
            self.take_until(char.len_utf8());
            match char {
                '"' => break,
                '\\' => {
                    let escaped = self.rest.chars().next().map_or(0, char::len_utf8);
                    self.take_until(escaped);
                }
                _ => text.push(char),
            }
        }
        Some(text)
    }

    /// A character such as `'a'` or `'\n'`; not a lifetime, which has no second apostrophe.
    fn skip_char(&mut self) -> bool {
        let mut chars = self.rest.char_indices().skip(1);
        let end = match (chars.next(), chars.next()) {
            (Some((_, '\\')), Some(_)) => chars.find(|&(_, sign)| sign == '\'').map(|(at, _)| at),
            (Some(_), Some((at, '\''))) => Some(at),
            _ => None,
        };
        end.is_some_and(|end| {
            self.take_until(end + 1);
            true
        })
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Source without the items that only tests have, and these items.
pub(crate) struct Split {
    pub(crate) shipped: Vec<Token>,
    pub(crate) for_tests: Vec<Vec<Token>>,
}

/// Cuts out whatever follows a `#[cfg(test)]` or `#[cfg(all(test, ..))]`, wherever it stands.
pub(crate) fn split(tokens: &[Token]) -> Split {
    let mut split = Split { shipped: Vec::new(), for_tests: Vec::new() };
    let mut rest = tokens;
    while let [first, tail @ ..] = rest {
        let attribute = attribute_len(rest);
        if attribute > 0 && is_for_tests(&rest[..attribute]) {
            let end = attribute + item_len(&rest[attribute..]);
            split.for_tests.push(rest[attribute..end].to_vec());
            rest = &rest[end..];
        } else {
            split.shipped.push(first.clone());
            rest = tail;
        }
    }
    split
}

/// Tokens of the attribute that `tokens` begin with, 0 if they begin with something else.
pub(crate) fn attribute_len(tokens: &[Token]) -> usize {
    let is_attribute = matches!(tokens, [first, second, ..] if first.is_sign('#') && second.is_sign('['));
    if is_attribute { 1 + bracket_len(&tokens[1..]) } else { 0 }
}

/// Tokens from an opening bracket to the one that closes it.
pub(crate) fn bracket_len(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if let Token::Sign('(' | '[' | '{') = token {
            depth += 1;
        } else if let Token::Sign(')' | ']' | '}') = token {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + 1;
            }
        }
    }
    tokens.len()
}

pub(crate) fn is_for_tests(attribute: &[Token]) -> bool {
    let mut words = attribute.iter().filter_map(Token::word);
    match (words.next(), words.next()) {
        (Some("cfg"), Some("test")) => true,
        // What is for all but tests ships.
        (Some("cfg"), Some("all")) => words.clone().any(|word| word == "test") && words.all(|word| word != "not"),
        _ => false,
    }
}

/// Tokens of an item, a statement, a field or a variant with the further attributes in front of it.
pub(crate) fn item_len(tokens: &[Token]) -> usize {
    const ITEMS: [&str; 16] = [
        "pub",
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "const",
        "static",
        "type",
        "trait",
        "async",
        "extern",
        "macro_rules",
        "let",
        "unsafe",
    ];
    let mut at = 0;
    while attribute_len(&tokens[at..]) > 0 {
        at += attribute_len(&tokens[at..]);
    }
    let is_item = tokens.get(at).and_then(Token::word).is_some_and(|word| ITEMS.contains(&word));
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Sign('{') => return at + bracket_len(&tokens[at..]),
            Token::Sign('(' | '[') => at += bracket_len(&tokens[at..]),
            Token::Sign(';') => return at + 1,
            Token::Sign(',') if !is_item => return at + 1,
            // The end of what it stands in.
            Token::Sign('}' | ')' | ']') => return at,
            _ => at += 1,
        }
    }
    at
}

/// A path as it is written, with the module it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Modules inside the file around it.
    pub(crate) inside: Vec<String>,
    pub(crate) segments: Vec<String>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In an expression, a type, a pattern.
    Used,
    /// In a `use`, known under this name afterwards.
    Imported { name: String, is_public: bool },
    /// `mod x;`
    Declared,
}

/// All paths in source, those in braces spelled out.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Written> {
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    let mut is_public = false;
    while let Some(token) = tokens.get(at) {
        let names = || inside.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => {
                depth = depth.saturating_sub(1);
                inside.retain(|&(_, own)| own <= depth);
            }
            Token::Word(word) if word == "pub" => {
                is_public = true;
                // How public does not matter here.
                if tokens.get(at + 1).is_some_and(|next| next.is_sign('(')) {
                    at += bracket_len(&tokens[at + 1..]);
                }
                at += 1;
                continue;
            }
            Token::Word(word) if word == "mod" => {
                if let (Some(Token::Word(name)), Some(next)) = (tokens.get(at + 1), tokens.get(at + 2)) {
                    if next.is_sign('{') {
                        inside.push((name.clone(), depth + 1));
                    } else if next.is_sign(';') {
                        let segments = vec!["self".to_owned(), name.clone()];
                        found.push(Written { inside: names(), segments, kind: Kind::Declared });
                    }
                    at += 1;
                }
            }
            Token::Word(word) if word == "use" => {
                let end = tokens[at..].iter().position(|token| token.is_sign(';')).map_or(tokens.len(), |end| at + end);
                for (segments, name) in spell_out(&mut &tokens[at + 1..end]) {
                    found.push(Written { inside: names(), segments, kind: Kind::Imported { name, is_public } });
                }
                at = end;
            }
            Token::Word(_) => {
                let mut segments = Vec::new();
                while let Some(Token::Word(word)) = tokens.get(at) {
                    segments.push(word.clone());
                    if tokens.get(at + 1) != Some(&Token::Separator) {
                        break;
                    }
                    at += 2;
                }
                found.push(Written { inside: names(), segments, kind: Kind::Used });
            }
            _ => {}
        }
        is_public = false;
        at += 1;
    }
    found
}

/// The paths of a `use`, each with the name it is known by.
fn spell_out(rest: &mut &[Token]) -> Vec<(Vec<String>, String)> {
    let mut segments: Vec<String> = Vec::new();
    let mut name = None;
    let mut found = Vec::new();
    let mut is_list = false;
    while let [first, tail @ ..] = *rest {
        match first {
            Token::Sign(',' | '}') => break,
            Token::Word(word) if word == "as" => name = tail.first().and_then(Token::word).map(str::to_owned),
            Token::Word(_) if name.is_some() => {}
            Token::Word(word) => segments.push(word.clone()),
            Token::Sign('*') => segments.push("*".to_owned()),
            Token::Sign('{') => {
                is_list = true;
                let mut inner = tail;
                while !inner.first().is_none_or(|token| token.is_sign('}')) {
                    for (path, name) in spell_out(&mut inner) {
                        let path = if path == ["self"] { segments.clone() } else { [&segments[..], &path].concat() };
                        let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name };
                        found.push((path, name));
                    }
                    if inner.first().is_some_and(|token| token.is_sign(',')) {
                        inner = &inner[1..];
                    }
                }
                *rest = inner.get(1..).unwrap_or_default();
                continue;
            }
            _ => {}
        }
        *rest = tail;
    }
    if !is_list && !segments.is_empty() {
        let last = segments.last().cloned().unwrap_or_default();
        found.push((mem::take(&mut segments), name.unwrap_or(last)));
    }
    found
}
