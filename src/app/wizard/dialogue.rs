//! Asking one question until its answer is good.
//!
//! Owns reading lines, defaults in brackets, and repeating a question after an answer that does not do. Knows no
//! question. Ends at the end of input: nobody is left to ask.

use std::io::{self, BufRead, Read, Write};

use super::answers::Answers;
use super::lang::{Lang, tr};
use super::lines::wrapped;
use crate::app::exit::{self, Failure};

/// An answer longer than this is a file that was pasted by mistake.
const LINE_BYTES_MAX: usize = 4096;

/// Both ends of the dialogue.
pub struct Dialogue<'a> {
    pub lang: Lang,
    source: Source<'a>,
    output: &'a mut dyn Write,
}

/// Who shows what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// The terminal does.
    Terminal,
    /// Nobody else: the input is a pipe or a file.
    Ours,
}

/// Who answers.
enum Source<'a> {
    Person(&'a mut dyn BufRead, Echo),
    File(Answers),
}

/// What is asked.
pub struct Question<'a> {
    /// Its name in a file of answers.
    pub key: &'static str,
    /// Without the brackets and the colon.
    pub text: &'a str,
    /// What Enter means; empty if the answer must be given.
    pub default: &'a str,
    /// What `?` is answered with.
    pub help: &'a str,
}

impl<'a> Dialogue<'a> {
    /// With somebody who types.
    pub fn with_person(lang: Lang, input: &'a mut dyn BufRead, echo: Echo, output: &'a mut dyn Write) -> Self {
        Self { lang, source: Source::Person(input, echo), output }
    }

    /// With a file; nothing is said before the end, and a wrong answer ends the dialogue.
    pub fn with_file(lang: Lang, answers: Answers, output: &'a mut dyn Write) -> Self {
        Self { lang, source: Source::File(answers), output }
    }

    /// Whether a file answers.
    pub fn is_silent(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// Whether a file has a further answer to `key`; a person is asked instead.
    pub fn has_answer(&self, key: &str) -> Option<bool> {
        match &self.source {
            Source::File(answers) => Some(answers.has(key)),
            Source::Person(..) => None,
        }
    }

    /// Says a paragraph that only a person needs.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub fn explain(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_silent() { Ok(()) } else { self.say(text) }
    }

    /// Says a paragraph.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub fn say(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.output, "{text}").and_then(|()| self.output.flush()).map_err(|error| gone(&error))
    }

    /// Asks until `parse` takes the answer. Its error is what is said about an answer that does not do.
    ///
    /// # Errors
    /// 66 at the end of input, 78 for a wrong answer in a file.
    pub fn ask<T>(
        &mut self,
        question: &Question<'_>,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        if let Source::File(answers) = &mut self.source {
            let (answer, place) = answers.take(question.key);
            let answer = answer.unwrap_or_else(|| question.default.to_owned());
            return parse(&answer).map_err(|why| Failure::new(exit::CONFIG, format!("{place}: {why}")));
        }
        loop {
            let default = if question.default.is_empty() { String::new() } else { format!(" [{}]", question.default) };
            write!(self.output, "{}{default}: ", question.text)
                .and_then(|()| self.output.flush())
                .map_err(|error| gone(&error))?;
            let refused = match self.line()? {
                Err(why) => why,
                Ok(line) if line == "?" => question.help.to_owned(),
                Ok(line) => match parse(if line.is_empty() { question.default } else { &line }) {
                    Ok(answer) => return Ok(answer),
                    Err(why) => why,
                },
            };
            self.say(&indented(&refused))?;
        }
    }

    /// A question for yes or no.
    ///
    /// # Errors
    /// As [`Dialogue::ask`].
    pub fn ask_yes_no(&mut self, key: &'static str, text: &str, default: bool, help: &str) -> Result<bool, Failure> {
        let lang = self.lang;
        let default = if default { "yes" } else { "no" };
        self.ask(&Question { key, text, default, help }, |answer| yes_or_no(lang, answer))
    }

    /// One trimmed line, or why it cannot be an answer.
    fn line(&mut self) -> Result<Result<String, String>, Failure> {
        let lang = self.lang;
        let Source::Person(input, echo) = &mut self.source else { return Ok(Ok(String::new())) };
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        input.take(limit).read_until(b'\n', &mut bytes).map_err(|error| gone(&error))?;
        if bytes.is_empty() {
            // The cursor stands behind a question.
            let _ = writeln!(self.output);
            return Err(Failure::new(
                exit::NO_INPUT,
                tr!(lang, "the input has ended; nothing was written", "输入已结束；没有写入任何文件"),
            ));
        }
        if bytes.len() > LINE_BYTES_MAX {
            skip_line(*input).map_err(|error| gone(&error))?;
            let max = LINE_BYTES_MAX;
            return Ok(Err(tr!(
                lang,
                "That is longer than {max} bytes; was a file pasted by mistake?",
                "超过 {max} 字节；是不是误贴了一个文件？"
            )));
        }
        let Ok(text) = String::from_utf8(bytes) else {
            return Ok(Err(tr!(
                lang,
                "That is not UTF-8 text; type it again, or set the terminal to UTF-8.",
                "这不是 UTF-8 文本；请重新输入，或把终端设为 UTF-8。"
            )));
        };
        let text = text.trim();
        if *echo == Echo::Ours {
            let shown: String = text.chars().filter(|c| !c.is_control()).collect();
            writeln!(self.output, "{shown}").map_err(|error| gone(&error))?;
        }
        if text.chars().any(char::is_control) {
            return Ok(Err(tr!(
                lang,
                "There is a control character in it (an arrow key?); type the answer again.",
                "其中有控制字符（按了方向键？）；请重新输入。"
            )));
        }
        Ok(Ok(text.to_owned()))
    }
}

/// Reads to the end of the line and forgets it.
fn skip_line(input: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let count = end.map_or(buffer.len(), |end| end + 1);
        input.consume(count);
        if end.is_some() || count == 0 {
            return Ok(());
        }
    }
}

fn yes_or_no(lang: Lang, answer: &str) -> Result<bool, String> {
    match answer.to_lowercase().as_str() {
        "y" | "yes" | "true" | "是" | "好" => Ok(true),
        "n" | "no" | "false" | "否" | "不" => Ok(false),
        _ => Err(tr!(lang, "Please answer yes or no (y or n).", "请回答 yes 或 no（y 或 n）。")),
    }
}

fn indented(text: &str) -> String {
    wrapped(&text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}

fn gone(error: &io::Error) -> Failure {
    Failure::new(exit::NO_INPUT, format!("the terminal cannot be used any more: {error}; nothing was written"))
}
