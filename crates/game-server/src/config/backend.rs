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
    /// Where limits are counted.
    Limiter,
    /// The queues of the server's own tasks.
    Queues,
    /// What servers have read for each other.
    Cache,
}

impl Role {
    /// Returns the option's name.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Documents => "documents",
            Self::Archive => "archive",
            Self::Bus => "bus",
            Self::Limiter => "limiter",
            Self::Queues => "queues",
            Self::Cache => "cache",
        }
    }

    const fn takes_memory(self) -> bool {
        !matches!(self, Self::Queues)
    }

    const fn takes_files(self) -> bool {
        matches!(self, Self::Events | Self::Documents | Self::Archive)
    }

    const fn takes_postgres(self) -> bool {
        cfg!(feature = "postgres") && matches!(self, Self::Events | Self::Documents | Self::Queues)
    }

    const fn takes_buckets(self) -> bool {
        cfg!(feature = "s3") && matches!(self, Self::Archive)
    }

    const fn takes_nats(self) -> bool {
        cfg!(feature = "nats") && matches!(self, Self::Bus | Self::Queues)
    }

    const fn takes_redis(self) -> bool {
        cfg!(feature = "redis") && matches!(self, Self::Limiter | Self::Cache)
    }

    /// Reads the URL of a server.
    #[cfg(any(feature = "postgres", feature = "nats", feature = "redis"))]
    fn server(self, url: &str) -> Result<ServerUrl, String> {
        match url.split_once("://") {
            Some((_, rest)) if !rest.is_empty() => Ok(ServerUrl(url.to_owned())),
            _ => {
                let scheme = url.split(':').next().unwrap_or_default();
                Err(format!("`{scheme}:` names no server; it takes {}", self.known()))
            }
        }
    }

    /// Returns what it takes, for a message.
    fn known(self) -> String {
        let mut forms = Vec::new();
        if self.takes_files() {
            forms.push("`file:FOLDER`");
        }
        if self.takes_postgres() {
            forms.push("`postgres://USER@HOST/DATABASE`");
        }
        if self.takes_buckets() {
            forms.push("`s3://BUCKET/PREFIX`");
        }
        if self.takes_nats() {
            forms.push("`nats://HOST`");
        }
        if self.takes_redis() {
            forms.push("`redis://HOST`");
        }
        if self.takes_memory() {
            forms.push("`memory:`");
        }
        if forms.is_empty() { "none that is built in".to_owned() } else { forms.join(" or ") }
    }
}

/// The URL of a server; what it shows has no password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// Returns it whole.
    pub fn whole(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str("...") };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // Options behind a question mark may hold a password too.
        let path = path.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{scheme}://{host}{path}")
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A backend that is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In this process; lost at its end.
    Memory,
    /// In files below a folder.
    Files(PathBuf),
    /// In a PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(ServerUrl),
    /// In a bucket of S3, by its whole address; for the archive alone.
    #[cfg(feature = "s3")]
    Bucket(String),
    /// On NATS servers; the bus and queues.
    #[cfg(feature = "nats")]
    Nats(ServerUrl),
    /// In a Redis; limits and what is cached.
    #[cfg(feature = "redis")]
    Redis(ServerUrl),
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
            ("memory", "") if role.takes_memory() => Ok(Self::Memory),
            ("memory", _) if role.takes_memory() => {
                Err(format!("`{url}`: nothing may follow `memory:`"))
            }
            ("file", "") if role.takes_files() => Err(format!("`{url}` names no folder")),
            ("file", folder) if role.takes_files() => Ok(Self::Files(PathBuf::from(folder))),
            #[cfg(feature = "postgres")]
            ("postgres" | "postgresql", _) if role.takes_postgres() => {
                role.server(url).map(Self::Postgres)
            }
            #[cfg(feature = "s3")]
            ("s3", bucket) if role.takes_buckets() && !bucket.is_empty() => {
                Ok(Self::Bucket(url.to_owned()))
            }
            #[cfg(feature = "nats")]
            ("nats", _) if role.takes_nats() => role.server(url).map(Self::Nats),
            #[cfg(feature = "redis")]
            ("redis", _) if role.takes_redis() => role.server(url).map(Self::Redis),
            ("postgres" | "postgresql" | "redis" | "nats" | "s3", _) => {
                Err(format!("`{scheme}` is not built in for it; it takes {}", role.known()))
            }
            _ => Err(format!("`{scheme}` is no scheme for it; it takes {}", role.known())),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            #[cfg(feature = "s3")]
            Self::Bucket(address) => f.write_str(address),
            Self::Files(folder) => write!(f, "file:{}", folder.display()),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => url.fmt(f),
            #[cfg(feature = "nats")]
            Self::Nats(url) => url.fmt(f),
            #[cfg(feature = "redis")]
            Self::Redis(url) => url.fmt(f),
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
        #[cfg(feature = "s3")]
        {
            let bucket = Backend::Bucket("s3://games/eu".to_owned());
            assert_eq!(Backend::parse(Role::Archive, "s3://games/eu"), Ok(bucket));
        }
        let refused = |role, url| Backend::parse(role, url).unwrap_err();
        assert_eq!(
            refused(Role::Archive, "postgres://db/game").replace(" or `s3://BUCKET/PREFIX`", ""),
            "`postgres` is not built in for it; it takes `file:FOLDER` or `memory:`"
        );
        assert!(
            refused(Role::Bus, "file:/x").starts_with("`file` is no scheme for it; it takes `")
        );
        assert!(refused(Role::Events, "nats://bus").contains("`nats` is not built in for it"));
        assert!(refused(Role::Events, "s3://games").contains("`s3` is not built in"));
        assert!(refused(Role::Archive, "s3:").contains("`s3` is not built in"));
        assert!(refused(Role::Documents, "oracle:x").contains("`oracle` is no scheme"));
        assert!(refused(Role::Documents, "somewhere").contains("is not a URL"));
        assert!(refused(Role::Documents, "file:").contains("names no folder"));
        assert!(refused(Role::Documents, "memory:x").contains("nothing may follow"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_database_is_chosen_by_its_url_and_its_password_is_never_shown() {
        let url = "postgres://game:se@cret@db:5432/game?password=secret";
        let backend = Backend::parse(Role::Events, url).unwrap();
        assert_eq!(backend.to_string(), "postgres://db:5432/game");
        assert_eq!(format!("{backend:?}"), "Postgres(\"postgres://db:5432/game\")");
        let Backend::Postgres(kept) = backend else { panic!("another backend") };
        assert_eq!(kept.whole(), url);
        let refused = Backend::parse(Role::Documents, "postgres:").unwrap_err();
        assert!(refused.contains("names no server"), "{refused}");
    }

    #[cfg(feature = "nats")]
    #[test]
    fn the_bus_may_be_nats_whose_password_is_not_shown() {
        let nats = Backend::parse(Role::Bus, "nats://ann:secret@bus:4222").unwrap();
        assert_eq!(nats.to_string(), "nats://bus:4222");
        let refused = Backend::parse(Role::Bus, "nats://").unwrap_err();
        assert_eq!(refused, "`nats:` names no server; it takes `nats://HOST` or `memory:`");
    }

    #[test]
    fn tasks_and_what_is_cached_have_places_of_their_own() {
        assert_eq!(Backend::parse(Role::Cache, "memory:"), Ok(Backend::Memory));
        let refused = Backend::parse(Role::Queues, "memory:").unwrap_err();
        assert!(refused.starts_with("`memory` is no scheme for it; it takes "), "{refused}");
        assert!(Backend::parse(Role::Queues, "file:/x").unwrap_err().contains("no scheme for it"));
        assert!(Backend::parse(Role::Cache, "nats://x").unwrap_err().contains("not built in"));
        #[cfg(feature = "nats")]
        assert!(matches!(Backend::parse(Role::Queues, "nats://bus"), Ok(Backend::Nats(_))));
        #[cfg(feature = "postgres")]
        assert!(matches!(
            Backend::parse(Role::Queues, "postgres://db/x"),
            Ok(Backend::Postgres(_))
        ));
        #[cfg(feature = "redis")]
        assert!(matches!(Backend::parse(Role::Cache, "redis://r"), Ok(Backend::Redis(_))));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn limits_may_be_counted_in_redis_whose_password_is_not_shown() {
        let redis = Backend::parse(Role::Limiter, "redis://ann:secret@shared:6379/3").unwrap();
        assert_eq!(redis.to_string(), "redis://shared:6379/3");
        let refused = |url| Backend::parse(Role::Limiter, url).unwrap_err();
        assert_eq!(
            refused("redis://"),
            "`redis:` names no server; it takes `redis://HOST` or `memory:`"
        );
        assert!(refused("file:/x").starts_with("`file` is no scheme for it"));
        assert!(Backend::parse(Role::Events, "redis://x").unwrap_err().contains("not built in"));
    }
}
