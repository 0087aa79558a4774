//! The file of options, and the place of each in it.

use std::{collections::BTreeMap, path::Path};

use toml::{Spanned, Value};

use super::{
    error::ConfigError,
    options::Options,
    origin::{Origin, Origins, Place},
};

/// Reads a file of options.
///
/// An error names the file, or the line and column in it.
pub(super) fn read(path: &Path) -> Result<(Options, Origins), ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::new("config", format!("{file}: {cause}")))?;
    parse(&file, &text)
}

fn parse(file: &str, text: &str) -> Result<(Options, Origins), ConfigError> {
    let refuse = |cause: &toml::de::Error, values: &BTreeMap<String, Spanned<Value>>| {
        let span = cause.span().unwrap_or_default();
        let within = values
            .iter()
            .find(|(_, value)| value.span().start <= span.start && span.end <= value.span().end);
        let option = within.map(|(option, _)| option.clone());
        ConfigError::in_file(Place::of(file, text, span.start), option, cause.message())
    };
    let values: BTreeMap<String, Spanned<Value>> =
        toml::from_str(text).map_err(|cause| refuse(&cause, &BTreeMap::new()))?;
    let options = toml::from_str(text).map_err(|cause| refuse(&cause, &values))?;
    let place = |(option, value): (String, Spanned<Value>)| {
        (option, Origin::File(Place::of(file, text, value.span().start)))
    };
    Ok((options, values.into_iter().map(place).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_has_its_place() {
        let (options, origins) = parse("game.toml", "# a\nrooms = 7\n\n  grace =  9\n").unwrap();
        assert_eq!((options.rooms, options.grace), (Some(7), Some(9)));
        let place = Place { file: "game.toml".to_owned(), line: 4, column: 12 };
        assert_eq!(origins.get("grace"), Some(&Origin::File(place)));
        assert_eq!(origins.get("addr"), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_line() {
        let refused = |text: &str| parse("game.toml", text).unwrap_err().to_string();
        let unknown = refused("rooms = 7\nadr = \"127.0.0.1:9000\"\n");
        assert!(
            unknown.starts_with("game.toml, line 2, column 1: unknown field `adr`"),
            "{unknown}"
        );
        let number = refused("\nrooms = \"seven\"\n");
        assert!(number.starts_with("game.toml, line 2, column 9: rooms: invalid type"), "{number}");
        let address = refused("addr = \"nowhere\"");
        assert!(address.starts_with("game.toml, line 1, column 8: addr: "), "{address}");
        let format = refused("log-format = \"loud\"");
        assert!(format.starts_with("game.toml, line 1, column 14: log-format: "), "{format}");
        let twice = refused("rooms = 1\nrooms = 2\n");
        assert!(twice.starts_with("game.toml, line 2, column 1: "), "{twice}");
        let open = refused("rooms = 1\nlog = \"info\n");
        assert!(open.starts_with("game.toml, line 2, column "), "{open}");
    }
}
