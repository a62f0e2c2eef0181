//! The questions for accounts: a name and an id for each.

use uuid::Uuid;

use super::dialogue::{Dialogue, Question};
use super::draft::{NewUser, USER_NAME};
use super::lang::{Lang, tr};
use crate::app::exit::Failure;
use crate::protocol::user_id;

/// Links and logs carry it.
const NAME_CHARS_MAX: usize = 255;
/// Somebody holds Enter on "another user?" if there are more.
const USERS_MAX: usize = 1000;

pub(super) fn users(dialogue: &mut Dialogue<'_>, before: &[NewUser]) -> Result<Vec<NewUser>, Failure> {
    let lang = dialogue.lang;
    let mut users = Vec::<NewUser>::new();
    loop {
        let number = users.len();
        let proposed = before.get(number).map_or_else(|| proposed_name(number, &users), |user| user.name.clone());
        users.push(user(dialogue, &proposed, before.get(number), &users)?);
        let asked = dialogue.has_answer("user");
        let again = users.len() < USERS_MAX
            && if let Some(more) = asked {
                more
            } else {
                let text = tr!(lang, "Another user?", "再添加一个用户？");
                let help = tr!(lang, "One per person; more can be added at any time.", "每人一个；以后随时可以添加。");
                dialogue.ask_yes_no("more", &text, number + 1 < before.len(), &help)?
            };
        if !again {
            return Ok(users);
        }
    }
}

fn proposed_name(number: usize, users: &[NewUser]) -> String {
    let names = (number + 1..).map(|number| USER_NAME.replacen('1', &number.to_string(), 1));
    names.into_iter().find(|name| users.iter().all(|user| user.name != *name)).unwrap_or_default()
}

fn user(
    dialogue: &mut Dialogue<'_>,
    proposed: &str,
    before: Option<&NewUser>,
    users: &[NewUser],
) -> Result<NewUser, Failure> {
    let lang = dialogue.lang;
    let text = tr!(lang, "Name of the user", "用户名");
    let help = tr!(
        lang,
        "Any name, for links, logs and the page; an e-mail address is usual.",
        "任意名称，用于链接、日志和页面；通常是邮箱地址。"
    );
    let question = Question { key: "user", text: &text, default: proposed, help: &help };
    if dialogue.is_silent() {
        // In a file the id stands behind the name.
        return dialogue.ask(&question, |answer| {
            let (name, id) = answer.split_once(char::is_whitespace).unwrap_or((answer, ""));
            Ok(NewUser { name: good_name(lang, name, users)?, id: good_id(lang, id.trim(), users)? })
        });
    }
    let name = dialogue.ask(&question, |answer| good_name(lang, answer, users))?;
    let text = tr!(lang, "Id, the password of this user", "ID（该用户的密码）");
    let help = tr!(
        lang,
        "A UUID, for an account that exists elsewhere already. Enter makes a random one.",
        "UUID，用于别处已有的账户。直接回车会随机生成。"
    );
    let default = if before.is_some_and(|user| user.name == name) { "unchanged" } else { "random" };
    let question = Question { key: "id", text: &text, default, help: &help };
    let id = dialogue.ask(&question, |answer| match (answer, before) {
        ("unchanged", Some(before)) => Ok(before.id.clone()),
        ("random" | "随机", _) => good_id(lang, "", users),
        _ => good_id(lang, answer, users),
    })?;
    Ok(NewUser { name, id })
}

fn good_name(lang: Lang, name: &str, users: &[NewUser]) -> Result<String, String> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        let max = NAME_CHARS_MAX;
        return Err(tr!(lang, "A name has 1 to {max} characters.", "用户名应为 1 到 {max} 个字符。"));
    }
    if users.iter().any(|user| user.name == name) {
        return Err(tr!(lang, "There is a user \"{name}\" already.", "已经有用户“{name}”。"));
    }
    if Uuid::parse_str(name).is_ok() {
        return Err(tr!(
            lang,
            "That is an id, not a name; the id is asked for next.",
            "这是 ID，不是用户名；下一个问题才是 ID。"
        ));
    }
    Ok(name.to_owned())
}

fn good_id(lang: Lang, text: &str, users: &[NewUser]) -> Result<String, String> {
    if text.is_empty() {
        return Ok(Uuid::new_v4().to_string());
    }
    let id = user_id::parse(text).map_err(|error| {
        tr!(
            lang,
            "That is no id ({error}); Enter makes a random one.",
            "这不是有效的 ID（{error}）；直接回车会随机生成。"
        )
    })?;
    let same = |user: &&NewUser| user_id::parse(&user.id).is_ok_and(|known| user_id::mask(known) == user_id::mask(id));
    match users.iter().find(same) {
        Some(user) => {
            let name = &user.name;
            Err(tr!(lang, "{name} has this id already.", "{name} 已经使用这个 ID。"))
        }
        None => Ok(text.to_owned()),
    }
}
