//! Templates of keys: text with `{fields}`.

use infra_core::{Error, Result};

use super::signal::Signal;
use crate::Glob;

/// Text in which `{path}` stands for a field of the signal; `{{` and `}}` stand for the braces themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

impl Template {
    pub(super) fn new(text: &str) -> Result<Self> {
        let mut pieces = vec![];
        let mut plain = String::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '{' | '}' if letters.next_if_eq(&letter).is_some() => plain.push(letter),
                '{' => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Field(path(text, &mut letters)?));
                }
                '}' => return Err(refused(text, "a brace is not opened")),
                letter => plain.push(letter),
            }
        }
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self(pieces))
    }

    /// Returns whether it stands for the same text whatever the signal.
    pub(super) fn is_plain(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Fills in the fields.
    pub(super) fn fill(&self, signal: &Signal) -> Result<String> {
        self.join(signal, str::to_owned)
    }

    /// Fills in the fields as what they are: a `*` in a field stands for itself.
    pub(super) fn fill_pattern(&self, signal: &Signal) -> Result<Glob> {
        Glob::new(&self.join(signal, Glob::escape)?)
    }

    fn join(&self, signal: &Signal, write: impl Fn(&str) -> String) -> Result<String> {
        let mut joined = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => joined.push_str(text),
                Piece::Field(path) => joined.push_str(&write(&signal.text(path)?)),
            }
        }
        Ok(joined)
    }
}

fn path(text: &str, letters: &mut impl Iterator<Item = char>) -> Result<String> {
    let mut path = String::new();
    for letter in letters {
        match letter {
            '}' if path.split('.').any(str::is_empty) => {
                return Err(refused(text, "a field without a name"));
            }
            '}' => return Ok(path),
            '{' => return Err(refused(text, "a brace within a field")),
            letter => path.push(letter),
        }
    }
    Err(refused(text, "a brace is not closed"))
}

fn refused(text: &str, why: &str) -> Error {
    Error::invalid("read template", format!("{why}: {text:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(template: &str, expected: Result<&str, ()>) {
        let fields = json!({"id": 7, "user": {"name": "a*", "tags": ["x", "y"]}, "none": null});
        let signal = Signal::new("it", fields);
        let filled = Template::new(template).and_then(|template| template.fill(&signal));
        assert_eq!(filled.as_deref().map_err(|_| ()), expected, "{template}");
    }

    #[test]
    fn fields_are_filled_in_from_any_depth_and_a_missing_one_is_an_error() {
        check("user:{id}", Ok("user:7"));
        check("{user.name}:{user.tags.1}", Ok("a*:y"));
        check("{{{id}}}", Ok("{7}"));
        check("", Ok(""));
        for wrong in [
            "{ids}",
            "{none}",
            "{user}",
            "{user.tags.2}",
            "{id.x}",
            "{",
            "}",
            "{}",
            "{a..b}",
            "{a{b}",
        ] {
            check(wrong, Err(()));
        }
    }

    #[test]
    fn a_field_is_never_read_as_a_wildcard() {
        let signal = Signal::new("it", json!({"name": "a*"}));
        let pattern = Template::new("{name}:*").unwrap().fill_pattern(&signal).unwrap();
        assert!(pattern.matches("a*:1") && !pattern.matches("ab:1"));
        assert!(!Template::new("{name}").unwrap().is_plain());
        assert!(Template::new("x*").unwrap().is_plain());
    }
}
