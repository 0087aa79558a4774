//! The options of a command.

/// What a command was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To explain itself.
    Help,
    /// To run, with these flags and options.
    Run(Vec<(String, Option<String>)>),
}

/// Reads options: `flags` stand alone, `options` take a value.
pub(crate) fn parse(words: &[String], flags: &[&str], options: &[&str]) -> Result<Asked, String> {
    use lexopt::Arg::{Long, Short, Value};
    let mut parser = lexopt::Parser::from_args(words);
    let mut found = Vec::new();
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        match arg {
            Long("help") | Short('h') => return Ok(Asked::Help),
            Long(name) if flags.contains(&name) => found.push((name.to_owned(), None)),
            Long(name) if options.contains(&name) => {
                let name = name.to_owned();
                let value = parser.value().map_err(|error| error.to_string())?;
                let value = value
                    .into_string()
                    .map_err(|value| format!("{} is no text", value.display()))?;
                found.push((name, Some(value)));
            }
            Value(word) if options.is_empty() && flags.contains(&"") => {
                found.push((word.to_string_lossy().into_owned(), None));
            }
            Long(_) | Short(_) | Value(_) => return Err(arg.unexpected().to_string()),
        }
    }
    Ok(Asked::Run(found))
}

/// Returns the value of an option, the last one if it stands more than once.
pub(crate) fn value<'a>(found: &'a [(String, Option<String>)], name: &str) -> Option<&'a str> {
    found.iter().rev().find(|(key, _)| key == name)?.1.as_deref()
}

/// Returns whether a flag is set.
pub(crate) fn has(found: &[(String, Option<String>)], name: &str) -> bool {
    found.iter().any(|(key, _)| key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let read = |list: &[&str]| parse(&words(list), &["no-run"], &["only"]);
        let Ok(Asked::Run(found)) = read(&["--only", "fmt", "--no-run"]) else { panic!() };
        assert_eq!(value(&found, "only"), Some("fmt"));
        assert!(has(&found, "no-run"));
        assert_eq!(read(&["--help"]), Ok(Asked::Help));
        assert!(read(&["--fast"]).unwrap_err().contains("--fast"));
        assert!(read(&["word"]).unwrap_err().contains("word"));
        assert!(read(&["--only"]).is_err());
    }
}
