//! The reference of every option, made from what the command line says of itself.

use std::fmt::{self, Write as _};

use clap::Arg;

use crate::config::{Cli, THEMES, Theme};

/// A file of options as an operator may write it.
pub(super) const EXAMPLE: &str = r#"# Strangers come through a proxy on this machine, which has the certificate.
addr = "127.0.0.1:8080"
allow-origin = ["https://play.example.org"]
trust-proxy = ["127.0.0.1"]

# Operators come through a tunnel.
admin-addr = "127.0.0.1:8081"
admin-token = "replace-this-by-a-secret"

data = "/var/lib/game-server"
archive = "file:/srv/games"

log = "info,game_server=debug"
log-folder = "/var/log/game-server"
log-rotation = "hour"
log-kept = 48

rooms = 2000
timeouts = "60,90,120"
limit-chat = "20/10"
"#;

/// An option as the reference shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its variable.
    pub variable: String,
    /// What it takes.
    pub takes: String,
    /// What it is if nobody sets it, as the help says it; empty for nothing.
    pub default: String,
    /// What it is for.
    pub about: String,
}

impl Entry {
    fn of(argument: &Arg) -> Option<Self> {
        let help = argument.get_long_help().or_else(|| argument.get_help())?.to_string();
        let (about, default) = split_default(&help);
        let values = argument.get_possible_values();
        let takes = if values.is_empty() {
            let names = argument.get_value_names().unwrap_or_default();
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ")
        } else {
            values
                .iter()
                .map(|value| format!("`{}`", value.get_name()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let variable = argument.get_env()?.to_string_lossy().into_owned();
        Some(Self { name: argument.get_long()?.to_owned(), variable, takes, default, about })
    }
}

/// Returns every option of serving, in the order of the help.
pub fn entries() -> Vec<Entry> {
    Cli::grouped().get_arguments().filter_map(Entry::of).collect()
}

/// Takes what stands behind `[default: ` out of a help text.
fn split_default(help: &str) -> (String, String) {
    let text = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = text.split_once(" [default: ").and_then(|(before, rest)| {
        rest.split_once(']').map(|(default, after)| (before, default, after))
    });
    let (about, default) = match parts {
        Some((before, default, after)) => (format!("{before}{after}"), default.to_owned()),
        None => (text, String::new()),
    };
    (format!("{}.", about.trim_end_matches('.')), default)
}

/// Returns the page.
///
/// # Errors
///
/// Never: text takes what is written to it.
pub(super) fn configuration() -> Result<String, fmt::Error> {
    let entries = entries();
    let mut page = String::new();
    write!(
        page,
        "# Configuration\n\n\
         Made by `game-server generate` from the options themselves: change those.\n\n\
         Each option can stand on the command line (`--rooms 7`), in the environment (`GAME_SERVER_ROOMS=7`) or in the TOML\n\
         file of `--config` (`rooms = 7`). The command line wins over the environment, the environment over the file. In the\n\
         file numbers stand bare, everything else between quotes, and what may be repeated is a list; in the environment its\n\
         parts are parted by commas. What cannot be is refused at the start, with the place where it was written:\n\n\
         ```text\n\
         error: /etc/game-server.toml, line 7, column 12: timeouts: `x` is not three numbers of seconds above zero, as in `60,120,300`\n\
         error: variable GAME_SERVER_TIMEOUTS: `x` is not three numbers of seconds above zero, as in `60,120,300`\n\
         error: option --timeouts: `x` is not three numbers of seconds above zero, as in `60,120,300`\n\
         ```\n\n\
         A file:\n\n```toml\n{EXAMPLE}```\n"
    )?;
    for theme in THEMES {
        write_theme(&mut page, theme, &entries)?;
    }
    Ok(page)
}

fn write_theme(page: &mut String, theme: &Theme, entries: &[Entry]) -> fmt::Result {
    write!(page, "\n## {}\n\n{}\n\n", theme.title, theme.about)?;
    page.push_str("| option | variable | takes | default | what it is |\n|---|---|---|---|---|\n");
    for entry in entries.iter().filter(|entry| theme.options.contains(&entry.name.as_str())) {
        let Entry { name, variable, takes, default, about } = entry;
        let default = match default.as_str() {
            text if text.contains(' ') || text.contains('`') || text == "none" => text.to_owned(),
            "" => "none".to_owned(),
            text => format!("`{text}`"),
        };
        writeln!(page, "| `{name}` | `{variable}` | {takes} | {default} | {about} |")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Options, Settings};

    /// Makes a file of options whole.
    fn resolved(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("game.toml");
        std::fs::write(&path, text).unwrap();
        Settings::resolve(Options { config: Some(path), ..Options::default() }).unwrap()
    }

    #[test]
    fn every_option_has_one_theme_and_a_row() {
        let all: BTreeSet<String> = entries().into_iter().map(|entry| entry.name).collect();
        let themed: Vec<&str> = THEMES.iter().flat_map(|theme| theme.options).copied().collect();
        assert_eq!(themed.len(), all.len(), "none twice");
        assert_eq!(themed.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), all);
        let page = configuration().unwrap();
        for name in all {
            assert_eq!(page.matches(&format!("\n| `{name}` | `")).count(), 1, "{name}");
        }
    }

    #[test]
    fn every_variable_is_called_like_its_option() {
        for entry in entries() {
            let expected = format!("GAME_SERVER_{}", entry.name.replace('-', "_").to_uppercase());
            assert_eq!(entry.variable, expected);
        }
    }

    #[test]
    fn the_example_is_a_file_that_is_taken() {
        let settings = resolved(EXAMPLE);
        assert_eq!((settings.rooms, settings.limits.chat.to_string()), (2_000, "20/10".to_owned()));
    }

    #[test]
    fn each_default_is_what_the_help_says() {
        let mut file = String::new();
        let mut n_set = 0;
        for entry in entries() {
            let is_told_in_words = entry.default.contains([' ', '`']) || entry.default == "none";
            if entry.default.is_empty() || is_told_in_words || entry.name.starts_with("log-") {
                continue;
            }
            let is_number = entry.default.parse::<u32>().is_ok() && entry.name != "trace-share";
            let quote = if is_number { "" } else { "\"" };
            writeln!(file, "{} = {quote}{}{quote}", entry.name, entry.default).unwrap();
            n_set += 1;
        }
        assert!(20 < n_set, "{file}");
        assert_eq!(resolved(&file), Settings::resolve(Options::default()).unwrap(), "{file}");
    }
}
