//! The wizard: questions on standard input, a configuration at the end.
//!
//! Owns the order of the questions, the summary, and what is said when all is done. Nothing is written before the
//! summary is confirmed; then everything is written by [`init::create`], whole or not at all. Line by line, so that it
//! works over ssh, in a pipe and with a file of answers.

mod answers;
mod closing;
mod dialogue;
pub mod draft;
mod existing;
mod lang;
mod lines;
mod machine;
mod questions;
mod security;
mod users;

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use self::answers::Answers;
pub use self::dialogue::{Dialogue, Echo};
pub use self::lang::Lang;
pub(in crate::app) use self::lang::tr;
pub use self::machine::{Machine, PortProblem, ThisMachine, terminal_size};

use self::draft::Draft;
use crate::app::config::Config;
use crate::app::exit::{self, Failure};
use crate::app::files::folder_of;
use crate::app::init;

/// Asks whoever is at `input`, writes the configuration to `path` and says what comes next.
///
/// # Errors
/// 66 when the input ends or the summary is declined, and those of [`init::create`].
pub fn with_person(
    path: &Path,
    lang: Lang,
    machine: &dyn Machine,
    (input, echo): (&mut dyn BufRead, Echo),
    output: &mut dyn Write,
) -> Result<Config, Failure> {
    conduct(path, machine, &mut Dialogue::with_person(lang, input, echo, output))
}

/// The same with the answers of a file.
///
/// # Errors
/// 78 for an answer that does not do, and those of [`init::create`].
pub fn with_file(
    path: &Path,
    lang: Lang,
    machine: &dyn Machine,
    answers: Answers,
    output: &mut dyn Write,
) -> Result<Config, Failure> {
    conduct(path, machine, &mut Dialogue::with_file(lang, answers, output))
}

fn conduct(path: &Path, machine: &dyn Machine, dialogue: &mut Dialogue<'_>) -> Result<Config, Failure> {
    init::may_create(path)?;
    if !dialogue.is_silent() {
        // A file of answers may name another pair; a person takes this one with Enter.
        init::may_make_certificate(path)?;
    }
    let lang = dialogue.lang;
    dialogue.explain(&tr!(
        lang,
        "VLESS-Rust, a server through which phones and computers reach the internet by\n\
         an encrypted connection. A few questions, then it works. Enter takes what\n\
         stands in brackets, ? explains, Ctrl-C ends without writing anything.\n",
        "VLESS-Rust：让手机和电脑通过加密连接访问互联网的服务器。\n\
         回答几个问题即可使用。回车采用方括号中的值，? 显示说明，\nCtrl-C 退出且不写入任何文件。\n"
    ))?;
    // The first user is asked for.
    let mut draft = Draft { users: Vec::new(), ..Draft::default() };
    loop {
        ask_all(path, machine, dialogue, &mut draft)?;
        if dialogue.is_silent() {
            break;
        }
        dialogue.say(&closing::summary(lang, path, &draft))?;
        let text = tr!(lang, "Write this? yes, no, or again to change answers", "写入？yes 是，no 否，again 修改回答");
        let help = tr!(lang, "Nothing has been written yet.", "目前尚未写入任何文件。");
        let question = dialogue::Question { key: "confirm", text: &text, default: "yes", help: &help };
        match dialogue.ask(&question, |answer| decision(lang, answer))? {
            Decision::Write => break,
            Decision::Again => {}
            Decision::Stop => {
                return Err(Failure::new(exit::NO_INPUT, tr!(lang, "nothing was written", "没有写入任何文件")));
            }
        }
    }
    let created = {
        // From here on it is a matter of milliseconds; a signal must not end it between two files.
        let _uninterrupted = Uninterrupted::begin();
        init::create(path, &draft)?
    };
    dialogue.say(&closing::words(lang, path, &draft, &created, machine))?;
    Ok(created.config)
}

fn ask_all(path: &Path, machine: &dyn Machine, dialogue: &mut Dialogue<'_>, draft: &mut Draft) -> Result<(), Failure> {
    draft.listen = questions::listen(dialogue, machine, &draft.listen)?;
    draft.port = questions::port(dialogue, machine, &draft.listen, draft.port)?;
    draft.public = questions::public(dialogue, machine, &draft.listen, draft.public.as_ref())?;
    draft.users = users::users(dialogue, &draft.users)?;
    draft.tls = security::tls(dialogue, folder_of(path), draft.public.as_ref(), draft.tls.as_ref())?;
    draft.monitoring = questions::monitoring(dialogue, machine, draft.port, draft.monitoring.as_ref())?;
    Ok(())
}

enum Decision {
    Write,
    Again,
    Stop,
}

fn decision(lang: Lang, answer: &str) -> Result<Decision, String> {
    match answer.to_lowercase().as_str() {
        "y" | "yes" | "是" => Ok(Decision::Write),
        "a" | "again" | "修改" => Ok(Decision::Again),
        "n" | "no" | "否" => Ok(Decision::Stop),
        _ => Err(tr!(lang, "Please answer yes, no or again.", "请回答 yes、no 或 again。")),
    }
}

/// While it lives, the signals that would end the process only set a flag.
struct Uninterrupted(Vec<signal_hook::SigId>);

impl Uninterrupted {
    fn begin() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        let signals = [SIGINT, SIGTERM, SIGHUP].into_iter();
        Self(signals.filter_map(|signal| signal_hook::flag::register(signal, Arc::clone(&flag)).ok()).collect())
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        for id in self.0.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests;
