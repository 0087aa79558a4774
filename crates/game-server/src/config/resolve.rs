//! The options made whole: the file read, defaults filled in, every value checked.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    backend::{Backend, Role},
    error::ConfigError,
    file, game,
    limits::Limits,
    log::{self, LogFiles, LogFormat},
    options::{Options, Recovery},
    origin::Origins,
    tuning::Tuning,
};
use crate::domain;

/// Everything that serving needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where players connect.
    pub addr: SocketAddr,
    /// Where operators connect.
    pub admin_addr: SocketAddr,
    /// What the admin listener asks for.
    pub admin_token: Option<String>,
    /// The folder of keys, and of the backends that were not named.
    pub data: PathBuf,
    /// The event store.
    pub events: Backend,
    /// What to do about a damaged event log.
    pub recovery: Recovery,
    /// The document store.
    pub documents: Backend,
    /// The archive.
    pub archive: Backend,
    /// How it is told which rooms change.
    pub bus: Backend,
    /// Where tasks wait; none for the document store.
    pub queues: Option<Backend>,
    /// Where servers keep what they have read for each other.
    pub cache: Backend,
    /// What is logged.
    pub log: String,
    /// How an entry of the log is written.
    pub log_format: LogFormat,
    /// The files of the log; none for standard error.
    pub log_files: Option<LogFiles>,
    /// The collector of spans.
    pub otlp: Option<String>,
    /// The collector of log records.
    pub otlp_logs: Option<String>,
    /// The share of the traces that are recorded, between 0 and 1.
    pub trace_share: f64,
    /// Origins that may connect; empty for the server's own on loopback.
    pub allow_origin: Vec<String>,
    /// The times of a room whose host names none, and the bounds of every room.
    pub room: domain::Settings,
    /// The most connections from one address.
    pub connections_per_address: u32,
    /// The most connections.
    pub connections: u32,
    /// The most rooms.
    pub rooms: u32,
    /// The most missed events that are sent again.
    pub resume_events: u32,
    /// How long the end may take.
    pub grace: Duration,
    /// How much is admitted.
    pub limits: Limits,
    /// The times and sizes of components.
    pub tuning: Tuning,
}

impl Settings {
    /// Makes `options` whole; reads the file that they name.
    ///
    /// # Errors
    ///
    /// The first option whose value cannot be, with what it takes.
    pub fn resolve(options: Options) -> Result<Self, ConfigError> {
        Self::resolve_from(options, Origins::default())
    }

    /// Makes `options` whole whose origins are known, so that an error names them.
    ///
    /// # Errors
    ///
    /// The first option whose value cannot be, with what it takes and where it was written.
    pub fn resolve_from(options: Options, origins: Origins) -> Result<Self, ConfigError> {
        let (from_file, places) = match &options.config {
            Some(path) => file::read(path)?,
            None => (Options::default(), Origins::default()),
        };
        Self::check(options.or(from_file)).map_err(|error| error.found_by(&origins.or(places)))
    }

    fn check(options: Options) -> Result<Self, ConfigError> {
        let room = game::settings(&options)?;
        let tuning = Tuning::of(&options)?;
        let connections_per_address =
            at_least_one("connections-per-address", options.connections_per_address.unwrap_or(64))?;
        let limits = Limits::of(&options, connections_per_address)?;
        let log_files = log::files(&options)?;
        let data = options.data.unwrap_or_else(|| PathBuf::from("data"));
        let parsed = |role: Role, url: &str| {
            Backend::parse(role, url).map_err(|why| ConfigError::new(role.option(), why))
        };
        let stored = |role: Role, url: Option<&String>| match url {
            Some(url) => parsed(role, url),
            None => Ok(Backend::Files(data.join(role.option()))),
        };
        let events = stored(Role::Events, options.events.as_ref())?;
        let documents = stored(Role::Documents, options.documents.as_ref())?;
        let archive = stored(Role::Archive, options.archive.as_ref())?;
        let bus = parsed(Role::Bus, options.bus.as_deref().unwrap_or("memory:"))?;
        let queues = options.queues.as_deref().map(|url| parsed(Role::Queues, url)).transpose()?;
        let cache = parsed(Role::Cache, options.cache.as_deref().unwrap_or("memory:"))?;
        let settings = Self {
            limits,
            tuning,
            addr: options.addr.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            admin_addr: options.admin_addr.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8081))),
            admin_token: options.admin_token,
            events,
            recovery: options.recovery.unwrap_or_default(),
            documents,
            archive,
            bus,
            queues,
            cache,
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.unwrap_or_default(),
            log_files,
            trace_share: trace_share(options.trace_share.as_deref())?,
            otlp: options.otlp,
            otlp_logs: options.otlp_logs,
            allow_origin: options.allow_origin.unwrap_or_default(),
            room,
            connections_per_address,
            connections: at_least_one("connections", options.connections.unwrap_or(10_000))?,
            rooms: at_least_one("rooms", options.rooms.unwrap_or(5_000))?,
            resume_events: at_least_one("resume-events", options.resume_events.unwrap_or(500))?,
            grace: Duration::from_secs(u64::from(options.grace.unwrap_or(10))),
            data,
        };
        settings.check_exposure()?;
        Ok(settings)
    }

    /// Refuses what would open the server to strangers without a decision of the operator.
    fn check_exposure(&self) -> Result<(), ConfigError> {
        if !self.admin_addr.ip().is_loopback() && self.admin_token.is_none() {
            let why = format!("required, since {} is not on loopback", self.admin_addr);
            return Err(ConfigError::new("admin-token", why));
        }
        if self.admin_token.as_ref().is_some_and(|token| token.len() < 16) {
            return Err(ConfigError::new("admin-token", "it takes 16 characters or more"));
        }
        if !self.addr.ip().is_loopback() && self.allow_origin.is_empty() {
            let why = format!("required, since {} is not on loopback", self.addr);
            return Err(ConfigError::new("allow-origin", why));
        }
        for origin in &self.allow_origin {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['/', ' '])) {
                let why = format!("`{origin}` is not like `https://play.example.org`");
                return Err(ConfigError::new("allow-origin", why));
            }
        }
        Ok(())
    }
}

pub(super) fn at_least_one(option: &str, value: u32) -> Result<u32, ConfigError> {
    if value == 0 { Err(ConfigError::new(option, "it takes 1 or more")) } else { Ok(value) }
}

fn trace_share(text: Option<&str>) -> Result<f64, ConfigError> {
    let Some(text) = text else { return Ok(1.0) };
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    let refuse = || ConfigError::new("trace-share", format!("`{text}` is not between 0 and 1"));
    share.ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::{super::origin::Origin, *};

    fn resolved(change: impl FnOnce(&mut Options)) -> Result<Settings, String> {
        let mut options = Options::default();
        change(&mut options);
        Settings::resolve(options).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let settings = resolved(|_| {}).unwrap();
        assert_eq!(settings.addr.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.admin_addr.to_string(), "127.0.0.1:8081");
        assert_eq!(settings.events.to_string(), "file:data/events");
        let bounds = settings.room.bounds;
        assert_eq!(
            (bounds.minutes, bounds.rounds, bounds.events),
            (Some(1_440), None, Some(20_000))
        );
        let times = domain::Settings { bounds: domain::Bounds::default(), ..settings.room };
        assert_eq!(times, domain::Settings::default());
    }

    #[test]
    fn a_bad_value_is_refused_with_its_option_and_what_it_takes() {
        let refused = |change: fn(&mut Options)| resolved(change).unwrap_err();
        let archive = refused(|o| o.archive = Some("postgres://x".to_owned()));
        assert!(archive.starts_with(
            "option --archive: `postgres` is not built in for it; it takes `file:FOLDER` or "
        ));
        assert_eq!(
            refused(|o| o.bus = Some("redis://x".to_owned())).split(';').next(),
            Some("option --bus: `redis` is not built in for it")
        );
        let half = resolved(|o| o.trace_share = Some("0.5".to_owned())).unwrap();
        assert!((half.trace_share - 0.5).abs() < 1e-9);
        let much = refused(|o| o.trace_share = Some("2".to_owned()));
        assert_eq!(much, "option --trace-share: `2` is not between 0 and 1");
        assert!(refused(|o| o.rooms = Some(0)).starts_with("option --rooms: it takes 1"));
        assert!(refused(|o| o.timeouts = Some("1,0,2".to_owned())).contains("--timeouts: `1,0,2`"));
        assert!(refused(|o| o.timeouts = Some("x".to_owned())).contains("three numbers"));
        assert!(
            refused(|o| o.bot_delay = Some("9..1".to_owned())).contains("--bot-delay: `9..1` is")
        );
        assert!(
            refused(|o| o.allow_origin = Some(vec!["example.org".to_owned()]))
                .contains("`example.org` is not like")
        );
        assert!(refused(|o| o.config = Some("/nowhere.toml".into())).contains("/nowhere.toml"));
    }

    #[test]
    fn an_open_address_needs_a_decision() {
        let open = |change: fn(&mut Options)| {
            resolved(|options| {
                options.addr = "0.0.0.0:80".parse().ok();
                change(options);
            })
        };
        assert!(open(|_| {}).unwrap_err().contains("--allow-origin: required"));
        let origin = |o: &mut Options| o.allow_origin = Some(vec!["https://a.example".to_owned()]);
        assert!(open(origin).is_ok());
        let admin = |o: &mut Options| o.admin_addr = "0.0.0.0:81".parse().ok();
        assert!(resolved(admin).unwrap_err().contains("--admin-token: required"));
        assert!(resolved(|o| o.admin_token = Some("short".to_owned())).unwrap_err().contains("16"));
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_unknown_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("game.toml");
        std::fs::write(&path, "addr = \"127.0.0.1:9000\"\nrooms = 7\n").unwrap();
        let settings = resolved(|options| {
            options.config = Some(path.clone());
            options.rooms = Some(8);
        })
        .unwrap();
        assert_eq!((settings.addr.port(), settings.rooms), (9_000, 8));
        std::fs::write(&path, "adr = \"127.0.0.1:9000\"\n").unwrap();
        let refused = resolved(|options| options.config = Some(path.clone())).unwrap_err();
        assert!(refused.contains("unknown field `adr`"), "{refused}");
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_where_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("game.toml");
        std::fs::write(&path, "rooms = 7\ntimeouts = \"x\"\nlimit-chat = \"9\"\n").unwrap();
        let refused = |options: Options, origins| {
            let options = Options { config: Some(path.clone()), ..options };
            Settings::resolve_from(options, origins).unwrap_err().to_string()
        };
        let in_file = refused(Options::default(), Origins::default());
        let place = format!("{}, line 2, column 12: timeouts: `x` is not three", path.display());
        assert!(in_file.starts_with(&place), "{in_file}");
        let timeouts = Some("y".to_owned());
        let variable = Origin::Variable("GAME_SERVER_TIMEOUTS".to_owned());
        let origins = [("timeouts".to_owned(), variable)].into_iter().collect();
        let in_environment = refused(Options { timeouts, ..Options::default() }, origins);
        assert!(in_environment.starts_with("variable GAME_SERVER_TIMEOUTS: `y` is not three"));
        let timeouts = Some("1,2,3".to_owned());
        let elsewhere = refused(Options { timeouts, ..Options::default() }, Origins::default());
        assert!(elsewhere.contains("line 3, column 14: limit-chat: `9` is not a count"));
    }
}
