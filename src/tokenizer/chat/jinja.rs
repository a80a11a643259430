//! Chat templates as they come with checkpoints: Jinja with the methods of Python's strings.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{from_args, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::collections::BTreeMap;

/// Instructions of the template's machine for one rendering; a long template takes a thousand.
const FUEL: u64 = 100_000;
/// Longest template that is read.
pub const MOST_BYTES: usize = 256 << 10;

/// A template with the names of its special tokens.
pub struct Template {
    environment: Environment<'static>,
    source: String,
    tokens: BTreeMap<String, String>,
}

impl Template {
    /// `tokens`: what the template knows as `bos_token`, `eos_token` and so on.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Template, String> {
        if source.len() > MOST_BYTES {
            return Err(format!("it has {} bytes, at most {MOST_BYTES} are read", source.len()));
        }
        let mut environment = Environment::new();
        let lines = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(lines.map_err(|e| said(&e))?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(32);
        environment.set_unknown_method_callback(method);
        environment.add_filter("trim", |text: &str| trimmed(text, true, true).to_string());
        environment.add_function("raise_exception", |what: &str| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, what.to_string()))
        });
        let source = without_generation(source);
        environment.template_from_str(&source).map_err(|e| said(&e))?;
        Ok(Template { environment, source, tokens })
    }

    /// The text of a conversation that ends where the model is to write.
    ///
    /// # Errors
    /// What the template or its machine refuses.
    pub fn render(&self, messages: &[(&str, &str)]) -> Result<String, String> {
        let message = |(role, content): &(&str, &str)| -> Value {
            [("role", Value::from(*role)), ("content", Value::from(*content))]
                .into_iter()
                .collect::<BTreeMap<_, _>>()
                .into()
        };
        let mut context: BTreeMap<&str, Value> =
            self.tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))).collect();
        context.insert("messages", messages.iter().map(message).collect::<Vec<_>>().into());
        context.insert("add_generation_prompt", true.into());
        context.insert("tools", ().into());
        context.insert("documents", ().into());
        let template = self.environment.template_from_str(&self.source).map_err(|e| said(&e))?;
        template.render(context).map_err(|e| said(&e))
    }

    /// Whether the text could depend on the day.
    pub fn asks_for_the_date(&self) -> bool {
        self.source.contains("strftime_now")
    }
}

/// One line of an error.
fn said(e: &Error) -> String {
    let mut text: String = e.detail().map_or_else(|| e.kind().to_string(), str::to_string);
    if let Some(line) = e.line() {
        text += &format!(" (line {line})");
    }
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Without white space, as Python takes it away: U+001C to U+001F are some for it.
fn trimmed(text: &str, start: bool, end: bool) -> &str {
    let white = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let text = if start { text.trim_start_matches(white) } else { text };
    if end {
        text.trim_end_matches(white)
    } else {
        text
    }
}

/// Methods of Python's values.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let (Some(text), Ok(())) = (value.as_str(), from_args::<()>(arguments)) {
        match name {
            "strip" => return Ok(trimmed(text, true, true).into()),
            "lstrip" => return Ok(trimmed(text, true, false).into()),
            "rstrip" => return Ok(trimmed(text, false, true).into()),
            _ => {}
        }
    }
    unknown_method_callback(state, value, name, arguments)
}

/// `{% generation %}` marks what a model is trained on; it changes no text.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let word = tag[..end].trim_matches(['-', '+', ' ', '\t', '\n', '\r']);
        let other = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.push_str(&tag[..end].replacen(word, other, 1));
        rest = &tag[end..];
    }
    out + rest
}
