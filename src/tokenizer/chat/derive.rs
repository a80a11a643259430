//! The form that a device writes conversations in, found by rendering a template and proven on conversations it was not found with.

use super::jinja::Template;
use super::{Chat, Role};

/// A form, and what a person should know about it.
#[derive(Debug)]
pub struct Derived {
    /// The form.
    pub chat: Chat,
    /// In sentences.
    pub notes: Vec<String>,
}

/// Added tokens that are looked for in the text as it stands.
pub struct Literals {
    /// Their contents.
    pub contents: Vec<String>,
}

/// Contents with what a template might change: spaces, lines, nothing at all, what looks like a template, characters of many bytes.
const CONTENTS: [&str; 14] = [
    "",
    " ",
    "two words",
    "  in front",
    "behind  ",
    "\nlines\n\n",
    "a\n\n\nb",
    "{{ x }} {% y %}",
    "é 漢字 🎉",
    "<b>&amp;'\"</b>",
    "\t\u{a0}tab\u{2003}",
    "\u{1c}\u{85}x\u{1f}",
    "1234 * 5",
    "a\\n\\tb",
];

/// Finds the form.
///
/// # Errors
/// Why a device cannot write these conversations, in a sentence.
pub fn derive(template: &Template, literals: &Literals) -> Result<Derived, String> {
    let mut notes = Vec::new();
    if template.asks_for_the_date() {
        notes.push("the template can ask for the date, a device has none: the text is that without a date or with its fixed one".into());
    }
    let mut chat = Chat::default();
    let found = pieces(template, &talk(false, 2, mark))
        .map_err(|why| format!("a conversation of two questions and an answer is not rendered: {why}"))?;
    let [start_user, user_assistant, assistant_user, prompt] = <[String; 4]>::try_from(found)
        .map_err(|_| "the template does not render each message once and in order".to_string())?;
    chat.start_user = start_user;
    chat.user_assistant = user_assistant;
    chat.assistant_user = assistant_user;
    chat.prompt = prompt;
    chat.strip[Role::User as usize] = strips(template, &chat, Role::User)?;
    chat.strip[Role::Assistant as usize] = strips(template, &chat, Role::Assistant)?;
    prove(template, &chat)?;
    match with_system(template, &chat) {
        Ok(with) => chat = with,
        Err(why) => notes.push(format!("conversations have no system message: {why}")),
    }
    chat.end = end(&chat.assistant_user, &literals.contents);
    if chat.end.is_none() {
        notes.push(
            "no special token stands after an answer: a device writes the whole conversation for each question".into(),
        );
    }
    let thought = [(Role::User, "x"), (Role::Assistant, "<think>y</think>z"), (Role::User, "x")];
    if rendered(template, &thought).ok() != chat.text(&thought).ok() {
        notes.push(
            "the template takes what is between <think> and </think> out of answers before; a device leaves it in"
                .into(),
        );
    }
    Ok(Derived { chat, notes })
}

/// What stands in for a message: nothing a template looks for.
fn mark(i: usize) -> String {
    format!("Qz{i}xMessageX{i}zQ")
}

/// A conversation: a system message if there is one, then questions with an answer after all but the last.
fn talk(system: bool, questions: usize, content: impl Fn(usize) -> String) -> Vec<(Role, String)> {
    let first = system.then_some(Role::System);
    let rest = (0..2 * questions - 1).map(|i| if i % 2 == 0 { Role::User } else { Role::Assistant });
    first.into_iter().chain(rest).enumerate().map(|(i, role)| (role, content(i))).collect()
}

fn rendered(template: &Template, messages: &[(Role, &str)]) -> Result<String, String> {
    let named: Vec<(&str, &str)> = messages.iter().map(|(role, content)| (role.name(), *content)).collect();
    template.render(&named)
}

/// What stands around the messages, each of which must be there once and in order.
fn pieces(template: &Template, messages: &[(Role, String)]) -> Result<Vec<String>, String> {
    let borrowed: Vec<(Role, &str)> = messages.iter().map(|(r, c)| (*r, c.as_str())).collect();
    let text = rendered(template, &borrowed)?;
    let mut rest = text.as_str();
    let mut found = Vec::new();
    for (_, content) in messages {
        if text.matches(content.as_str()).count() != 1 {
            return Err("a message is not there exactly once".into());
        }
        let (before, after) = rest.split_once(content.as_str()).ok_or("the messages are not in order")?;
        found.push(before.to_string());
        rest = after;
    }
    found.push(rest.to_string());
    Ok(found)
}

/// The same form with a system message in front.
fn with_system(template: &Template, plain: &Chat) -> Result<Chat, String> {
    let [start, user, _] = <[String; 3]>::try_from(pieces(template, &talk(true, 1, mark))?)
        .map_err(|_| "it is not rendered as a text of its own".to_string())?;
    let mut chat = Chat { system: Some((start, user)), ..plain.clone() };
    chat.strip[Role::System as usize] = strips(template, &chat, Role::System)?;
    let empty = [(Role::System, ""), (Role::User, "x")];
    chat.system_filled = rendered(template, &empty).ok() != chat.text(&empty).ok();
    prove(template, &chat)?;
    Ok(chat)
}

/// Whether the messages of a role lose white space at their ends.
fn strips(template: &Template, chat: &Chat, role: Role) -> Result<bool, String> {
    const SPACED: &str = " \n x y\u{3000}\n";
    let plain = talk(chat.system.is_some(), 2, mark);
    let messages: Vec<(Role, &str)> =
        plain.iter().map(|(r, c)| (*r, if *r == role { SPACED } else { c.as_str() })).collect();
    let want = rendered(template, &messages)?;
    for strip in [false, true] {
        let mut chat = chat.clone();
        chat.strip[role as usize] = strip;
        if chat.text(&messages).is_ok_and(|t| t == want) {
            return Ok(strip);
        }
    }
    Err(format!("the messages of `{}` are changed", role.name()))
}

/// Every content at every place of conversations of up to three questions, and all contents in turn.
fn prove(template: &Template, chat: &Chat) -> Result<(), String> {
    let check = |messages: &[(Role, &str)]| -> Result<(), String> {
        if chat.system_filled
            && messages.iter().any(|(r, c)| *r == Role::System && super::device::strip(c.as_bytes()).is_empty())
        {
            return Ok(());
        }
        let want = rendered(template, messages)?;
        let got = chat.text(messages).unwrap_or_default();
        if got == want {
            return Ok(());
        }
        let roles: Vec<&str> = messages.iter().map(|(r, _)| r.name()).collect();
        let at = got.bytes().zip(want.bytes()).take_while(|(a, b)| a == b).count();
        Err(format!(
            "the text around a message depends on more than its neighbours (first at byte {at} of {})",
            roles.join(", ")
        ))
    };
    for system in [false, true].into_iter().take(1 + usize::from(chat.system.is_some())) {
        for questions in 1..=4 {
            let roles = talk(system, questions, mark);
            for (i, content) in CONTENTS.iter().enumerate() {
                let turning: Vec<(Role, &str)> =
                    roles.iter().enumerate().map(|(k, (r, _))| (*r, CONTENTS[(i + 5 * k) % CONTENTS.len()])).collect();
                check(&turning)?;
                for place in 0..roles.len() {
                    let one: Vec<(Role, &str)> = roles
                        .iter()
                        .enumerate()
                        .map(|(k, (r, c))| (*r, if k == place { *content } else { c.as_str() }))
                        .collect();
                    check(&one)?;
                }
            }
        }
    }
    Ok(())
}

/// The first token in the text after an answer that is found there whatever stands around it: where, and its length.
fn end(text: &str, literals: &[String]) -> Option<(usize, usize)> {
    let at = |i: usize| -> Option<&String> {
        literals
            .iter()
            .filter(|l| !l.is_empty() && text.as_bytes()[i..].starts_with(l.as_bytes()))
            .max_by_key(|l| l.len())
    };
    let (from, token) = (0..text.len()).find_map(|i| Some((i, at(i)?)))?;
    let t = token.as_bytes();
    // Another token that goes on behind it, holds it, or ends with its beginning could be found in its place.
    let disturbs = |m: &[u8]| {
        let holds = m.len() > t.len() && m.windows(t.len()).any(|w| w == t);
        let overlaps = (1..t.len().min(m.len())).any(|k| m.ends_with(&t[..k]));
        m != t && (holds || overlaps)
    };
    (!literals.iter().any(|m| disturbs(m.as_bytes()))).then_some((from, t.len()))
}
