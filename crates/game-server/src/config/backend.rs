//! The URL that chooses a backend.

use std::{fmt, path::PathBuf};

/// Which part of the server a backend serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The event store.
    Events,
    /// The document store.
    Documents,
    /// The archive of finished games.
    Archive,
    /// The message bus.
    Bus,
}

impl Role {
    /// Returns the option's name.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Documents => "documents",
            Self::Archive => "archive",
            Self::Bus => "bus",
        }
    }

    const fn takes_files(self) -> bool {
        !matches!(self, Self::Bus)
    }

    const fn known(self) -> &'static str {
        if self.takes_files() { "`file:FOLDER` or `memory:`" } else { "`memory:`" }
    }
}

/// A backend that is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In this process; lost at its end.
    Memory,
    /// In files below a folder.
    Files(PathBuf),
}

impl Backend {
    /// Reads the URL of `role`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, naming the scheme and what the option takes.
    pub fn parse(role: Role, url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(format!("`{url}` is not a URL; it takes {}", role.known()));
        };
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match (scheme, path) {
            ("memory", "") => Ok(Self::Memory),
            ("memory", _) => Err(format!("`{url}`: nothing may follow `memory:`")),
            ("file", "") if role.takes_files() => Err(format!("`{url}` names no folder")),
            ("file", folder) if role.takes_files() => Ok(Self::Files(PathBuf::from(folder))),
            ("postgres" | "postgresql" | "redis" | "nats" | "s3", _) => {
                Err(format!("`{scheme}` is not built in; it takes {}", role.known()))
            }
            _ => Err(format!("`{scheme}` is no scheme for it; it takes {}", role.known())),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Files(folder) => write!(f, "file:{}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_chooses_a_backend_or_is_refused_by_name() {
        let folder = Backend::Files(PathBuf::from("/srv/game"));
        assert_eq!(Backend::parse(Role::Events, "file:/srv/game"), Ok(folder.clone()));
        assert_eq!(Backend::parse(Role::Archive, "file:///srv/game"), Ok(folder));
        assert_eq!(Backend::parse(Role::Bus, "memory:"), Ok(Backend::Memory));
        let refused = |role, url| Backend::parse(role, url).unwrap_err();
        assert_eq!(
            refused(Role::Events, "postgres://db/game"),
            "`postgres` is not built in; it takes `file:FOLDER` or `memory:`"
        );
        assert_eq!(refused(Role::Bus, "file:/x"), "`file` is no scheme for it; it takes `memory:`");
        assert!(refused(Role::Documents, "oracle:x").contains("`oracle` is no scheme"));
        assert!(refused(Role::Documents, "somewhere").contains("is not a URL"));
        assert!(refused(Role::Documents, "file:").contains("names no folder"));
        assert!(refused(Role::Documents, "memory:x").contains("nothing may follow"));
    }
}
