//! The options as they are written: on the command line, in the environment, in a file.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

use super::log::{LogFormat, LogRotation};

/// Liap Tui: a board game for four, with rooms, bots, reconnection and a dashboard.
///
/// Started without a command it serves the game. Every option can also stand in the environment
/// (its variable is named beside it) or in the TOML file named by --config, under the same name;
/// the command line wins over the environment, the environment over the file.
#[derive(Debug, Parser)]
#[command(name = "game-server", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Another job than serving.
    #[command(subcommand)]
    pub job: Option<Job>,
    /// How to serve.
    #[command(flatten)]
    pub options: Options,
}

/// A job that needs no server.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Job {
    /// Writes the references of options and metrics, dashboards for Grafana, rules for Prometheus and their tests.
    Generate {
        /// The folder to write below.
        #[arg(default_value = "docs")]
        folder: PathBuf,
    },
    /// Plays whole games between bots, without I/O, and prints outcomes and a digest.
    Simulate {
        /// How many games.
        #[arg(long, default_value_t = 100)]
        games: u32,
        /// The seed of shuffles and bots; the same seed plays the same games.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Writes every event of the games to a new file, a line of JSON each.
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
    },
    /// Copies a data folder while its server runs; the copy is a data folder itself.
    ///
    /// It holds every event that was acknowledged when the copying began, the archive and the keys
    /// of resume tokens. What follows from the events, such as leaderboards, is made anew when a
    /// server starts on the copy.
    Backup {
        /// The data folder.
        #[arg(long, value_name = "FOLDER", default_value = "./data")]
        data: PathBuf,
        /// Where the copy goes: a folder that holds no events yet.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Makes a data folder of a backup, after every byte of the backup was checked.
    Restore {
        /// The backup.
        #[arg(long, value_name = "FOLDER")]
        from: PathBuf,
        /// The data folder: empty, or not there yet.
        #[arg(long, value_name = "FOLDER")]
        data: PathBuf,
    },
    /// Reads every frame of the event log, also of a running server, and tells what it found in each
    /// segment; fails if anything is damaged.
    Verify {
        /// The folder of the log.
        #[arg(default_value = "data/events")]
        folder: PathBuf,
    },
    /// Lists, reads, copies back and removes archived games.
    Archive(crate::archive::Arguments),
    /// Forgets a player: its name and words are gone from events, snapshots, archive and leaderboards.
    ///
    /// It works on the data of a server that does not run; one that runs is asked by `POST /api/forget` of
    /// its admin listener. Doing it again finishes what was interrupted.
    Forget(crate::forget::Arguments),
}

/// What to do about a damaged event log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// The start is refused, and says what is damaged.
    #[default]
    Strict,
    /// What comes before the first damage is kept, the rest is put aside, and the loss is reported.
    Salvage,
}

/// The options of serving; what is not set has the default named in its help.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// A TOML file with these options.
    #[arg(long, env = "GAME_SERVER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where players connect [default: 127.0.0.1:8080].
    #[arg(long, env = "GAME_SERVER_ADDR", value_name = "IP:PORT")]
    pub addr: Option<SocketAddr>,
    /// Where the dashboard, metrics and detailed health are [default: 127.0.0.1:8081].
    #[arg(long, env = "GAME_SERVER_ADMIN_ADDR", value_name = "IP:PORT")]
    pub admin_addr: Option<SocketAddr>,
    /// The token that the admin listener asks for; required if it is not on loopback.
    #[arg(long, env = "GAME_SERVER_ADMIN_TOKEN", value_name = "TEXT", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// The folder of everything that is kept [default: data].
    #[arg(long, env = "GAME_SERVER_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Where events are kept: `file:FOLDER`, `memory:`, or `postgres://USER@HOST/DATABASE` where
    /// that is built in [default: `file:DATA/events`].
    #[arg(long, env = "GAME_SERVER_EVENTS", value_name = "URL")]
    pub events: Option<String>,
    /// What to do about a damaged event log: `salvage` gives up what comes after the damage
    /// [default: strict].
    #[arg(long, env = "GAME_SERVER_RECOVERY", value_name = "HOW")]
    pub recovery: Option<Recovery>,
    /// Where documents are kept: as for events [default: `file:DATA/documents`].
    #[arg(long, env = "GAME_SERVER_DOCUMENTS", value_name = "URL")]
    pub documents: Option<String>,
    /// Where finished games are archived: `file:FOLDER`, `memory:` or
    /// `s3://BUCKET/PREFIX?endpoint=URL&region=NAME` [default: `file:DATA/archive`].
    #[arg(long, env = "GAME_SERVER_ARCHIVE", value_name = "URL")]
    pub archive: Option<String>,
    /// How it is told which rooms change, also to other programs: `memory:` or `nats://HOST`
    /// [default: memory:].
    #[arg(long, env = "GAME_SERVER_BUS", value_name = "URL")]
    pub bus: Option<String>,
    /// Where tasks wait, such as games for the archive: `nats://HOST` or
    /// `postgres://USER@HOST/DATABASE` where that is built in [default: with the documents].
    #[arg(long, env = "GAME_SERVER_QUEUES", value_name = "URL")]
    pub queues: Option<String>,
    /// Where servers keep what they have read for each other, such as leaderboards: `memory:` for
    /// each its own, or `redis://HOST` where that is built in [default: memory:].
    #[arg(long, env = "GAME_SERVER_CACHE", value_name = "URL")]
    pub cache: Option<String>,
    /// What is logged, as in `info` or `info,game_server=debug` [default: info].
    #[arg(long, env = "GAME_SERVER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How an entry of the log is written [default: json].
    #[arg(long, env = "GAME_SERVER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// The folder of log files, in the place of standard error [default: none].
    #[arg(long, env = "GAME_SERVER_LOG_FOLDER", value_name = "FOLDER")]
    pub log_folder: Option<PathBuf>,
    /// When a new log file begins, by UTC [default: day].
    #[arg(long, env = "GAME_SERVER_LOG_ROTATION", value_name = "WHEN")]
    pub log_rotation: Option<LogRotation>,
    /// How many log files are kept; the oldest go first [default: 14].
    #[arg(long, env = "GAME_SERVER_LOG_KEPT", value_name = "COUNT")]
    pub log_kept: Option<u32>,
    /// The collector that spans are sent to as OTLP over HTTP, `HOST:PORT` [default: none].
    #[arg(long, env = "GAME_SERVER_OTLP", value_name = "HOST:PORT")]
    pub otlp: Option<String>,
    /// The collector that entries of the log are sent to as well, as OTLP over HTTP, `HOST:PORT`
    /// [default: none].
    #[arg(long, env = "GAME_SERVER_OTLP_LOGS", value_name = "HOST:PORT")]
    pub otlp_logs: Option<String>,
    /// The share of the traces that are recorded, between 0 and 1 [default: 1].
    #[arg(long, env = "GAME_SERVER_TRACE_SHARE", value_name = "SHARE")]
    pub trace_share: Option<String>,
    /// An origin whose pages may connect, such as `https://play.example.org`; may be repeated.
    /// Without it only pages of the server's own host and port may, and only on loopback.
    #[arg(long, env = "GAME_SERVER_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Option<Vec<String>>,
    /// How long a bot thinks, in milliseconds [default: 500..1500].
    #[arg(long, env = "GAME_SERVER_BOT_DELAY", value_name = "LEAST..MOST")]
    pub bot_delay: Option<String>,
    /// How long the scores of a round are shown before the next one, in milliseconds [default: 4000].
    #[arg(long, env = "GAME_SERVER_ROUND_PAUSE", value_name = "MILLIS")]
    pub round_pause: Option<u32>,
    /// How long a player has for the redeal, the declaration and the play, in seconds
    /// [default: 60,120,300].
    #[arg(long, env = "GAME_SERVER_TIMEOUTS", value_name = "S,S,S")]
    pub timeouts: Option<String>,
    /// The most connections from one address [default: 64]; load runs raise it.
    #[arg(long, env = "GAME_SERVER_CONNECTIONS_PER_ADDRESS", value_name = "COUNT")]
    pub connections_per_address: Option<u32>,
    /// The most connections in all [default: 10000].
    #[arg(long, env = "GAME_SERVER_CONNECTIONS", value_name = "COUNT")]
    pub connections: Option<u32>,
    /// The most rooms at a time [default: 5000].
    #[arg(long, env = "GAME_SERVER_ROOMS", value_name = "COUNT")]
    pub rooms: Option<u32>,
    /// The most missed events that a player who comes back gets one by one; after more of them it
    /// gets the whole state [default: 500].
    #[arg(long, env = "GAME_SERVER_RESUME_EVENTS", value_name = "COUNT")]
    pub resume_events: Option<u32>,
    /// How long the end may take after SIGTERM, in seconds [default: 10].
    #[arg(long, env = "GAME_SERVER_GRACE", value_name = "SECONDS")]
    pub grace: Option<u32>,
    /// Whether the limits below refuse (`enforce`) or only count what they would refuse (`trial`)
    /// [default: enforce].
    #[arg(long, env = "GAME_SERVER_LIMITS", value_name = "MODE")]
    pub limits: Option<String>,
    /// Where they are counted: `memory:`, or `redis://HOST` for all servers together where that is
    /// built in [default: memory:].
    #[arg(long, env = "GAME_SERVER_LIMITER", value_name = "URL")]
    pub limiter: Option<String>,
    /// How many servers count together; each enforces its part while Redis is lost [default: 1].
    #[arg(long, env = "GAME_SERVER_LIMITER_NODES", value_name = "COUNT")]
    pub limiter_nodes: Option<u32>,
    /// The tokens of a player, and in how many seconds they come back [default: 120/120].
    #[arg(long, env = "GAME_SERVER_LIMIT_PLAYER", value_name = "COUNT/SECONDS")]
    pub limit_player: Option<String>,
    /// The tokens of all players of a room together, within so many seconds [default: 300/60].
    #[arg(long, env = "GAME_SERVER_LIMIT_ROOM", value_name = "COUNT/SECONDS")]
    pub limit_room: Option<String>,
    /// How often an address may connect, create, join or watch a room [default: four times
    /// connections-per-address a minute].
    #[arg(long, env = "GAME_SERVER_LIMIT_ARRIVALS", value_name = "COUNT/SECONDS")]
    pub limit_arrivals: Option<String>,
    /// How many HTTP requests an address may make [default: ten times connections-per-address a
    /// minute].
    #[arg(long, env = "GAME_SERVER_LIMIT_REQUESTS", value_name = "COUNT/SECONDS")]
    pub limit_requests: Option<String>,
    /// How many actions of one connection pass at once, and in how many seconds as many again
    /// [default: 20/2].
    #[arg(long, env = "GAME_SERVER_LIMIT_INPUT", value_name = "COUNT/SECONDS")]
    pub limit_input: Option<String>,
    /// The same for chat and emoji [default: 10/5].
    #[arg(long, env = "GAME_SERVER_LIMIT_CHAT", value_name = "COUNT/SECONDS")]
    pub limit_chat: Option<String>,
    /// The same for all other messages, malformed ones among them [default: 20/4].
    #[arg(long, env = "GAME_SERVER_LIMIT_CONTROL", value_name = "COUNT/SECONDS")]
    pub limit_control: Option<String>,
    /// How many times the table of single messages a player has [default: 1].
    #[arg(long, env = "GAME_SERVER_LIMIT_MESSAGES", value_name = "FACTOR")]
    pub limit_messages: Option<u32>,
    /// The most connections of one player [default: 4].
    #[arg(long, env = "GAME_SERVER_CONNECTIONS_PER_PLAYER", value_name = "COUNT")]
    pub connections_per_player: Option<u32>,
    /// The most spectators of a room [default: 256].
    #[arg(long, env = "GAME_SERVER_SPECTATORS", value_name = "COUNT")]
    pub spectators: Option<u32>,
    /// A proxy that is believed when it names the client in `X-Forwarded-For`, and says in
    /// `X-Forwarded-Proto` that it came by TLS; may be repeated. Without it the client is whoever connects.
    #[arg(long, env = "GAME_SERVER_TRUST_PROXY", value_name = "IP", value_delimiter = ',')]
    pub trust_proxy: Option<Vec<IpAddr>>,
    /// The most minutes from the creation of a room to the end of its game [default: 1440].
    #[arg(long, env = "GAME_SERVER_GAME_MINUTES", value_name = "COUNT")]
    pub game_minutes: Option<u32>,
    /// The last round of a game, of 1 to 20 [default: 20].
    #[arg(long, env = "GAME_SERVER_GAME_ROUNDS", value_name = "COUNT")]
    pub game_rounds: Option<u32>,
    /// The most events of a room until its game ends, what is said in it among them [default: 20000].
    #[arg(long, env = "GAME_SERVER_GAME_EVENTS", value_name = "COUNT")]
    pub game_events: Option<u32>,
    /// The most bytes of those events as JSON [default: 4194304].
    #[arg(long, env = "GAME_SERVER_GAME_BYTES", value_name = "BYTES")]
    pub game_bytes: Option<u32>,
    /// How often a client is asked whether it is still there, in seconds; one that says nothing for twice
    /// as long and five seconds more is cut off [default: 15].
    #[arg(long, env = "GAME_SERVER_HEARTBEAT", value_name = "SECONDS")]
    pub heartbeat: Option<u32>,
    /// How many hours a player may come back by its token [default: 24].
    #[arg(long, env = "GAME_SERVER_TOKEN_HOURS", value_name = "HOURS")]
    pub token_hours: Option<u32>,
    /// How long a room that nobody is in stays in memory, in seconds [default: 60].
    #[arg(long, env = "GAME_SERVER_ROOM_LINGER", value_name = "SECONDS")]
    pub room_linger: Option<u32>,
    /// How long a room whose game has not begun may have nobody in it before it is given up, in
    /// seconds [default: 600].
    #[arg(long, env = "GAME_SERVER_ROOM_IDLE", value_name = "SECONDS")]
    pub room_idle: Option<u32>,
    /// After how many events a room has a snapshot, which shortens its way back [default: 100].
    #[arg(long, env = "GAME_SERVER_SNAPSHOT_EVENTS", value_name = "COUNT")]
    pub snapshot_events: Option<u32>,
    /// How long one call of a store may take, in milliseconds [default: 2000].
    #[arg(long, env = "GAME_SERVER_STORE_PATIENCE", value_name = "MILLIS")]
    pub store_patience: Option<u32>,
    /// The bytes of a file of the event log, which are reserved on the disk at once; what the events
    /// of the last one are is known in memory [default: 16777216].
    #[arg(long, env = "GAME_SERVER_EVENT_SEGMENT", value_name = "BYTES")]
    pub event_segment: Option<u32>,
    /// How many MiB of the disk must be free, or its health is degraded [default: 512].
    #[arg(long, env = "GAME_SERVER_DISK_LOW", value_name = "MIB")]
    pub disk_low: Option<u32>,
}

impl Options {
    /// Returns these options, with those of `weaker` where nothing is set here.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            config: self.config.or(weaker.config),
            addr: self.addr.or(weaker.addr),
            admin_addr: self.admin_addr.or(weaker.admin_addr),
            admin_token: self.admin_token.or(weaker.admin_token),
            data: self.data.or(weaker.data),
            events: self.events.or(weaker.events),
            recovery: self.recovery.or(weaker.recovery),
            documents: self.documents.or(weaker.documents),
            archive: self.archive.or(weaker.archive),
            bus: self.bus.or(weaker.bus),
            queues: self.queues.or(weaker.queues),
            cache: self.cache.or(weaker.cache),
            log: self.log.or(weaker.log),
            log_format: self.log_format.or(weaker.log_format),
            log_folder: self.log_folder.or(weaker.log_folder),
            log_rotation: self.log_rotation.or(weaker.log_rotation),
            log_kept: self.log_kept.or(weaker.log_kept),
            otlp: self.otlp.or(weaker.otlp),
            otlp_logs: self.otlp_logs.or(weaker.otlp_logs),
            trace_share: self.trace_share.or(weaker.trace_share),
            allow_origin: self.allow_origin.or(weaker.allow_origin),
            bot_delay: self.bot_delay.or(weaker.bot_delay),
            round_pause: self.round_pause.or(weaker.round_pause),
            timeouts: self.timeouts.or(weaker.timeouts),
            connections_per_address: self
                .connections_per_address
                .or(weaker.connections_per_address),
            connections: self.connections.or(weaker.connections),
            rooms: self.rooms.or(weaker.rooms),
            resume_events: self.resume_events.or(weaker.resume_events),
            grace: self.grace.or(weaker.grace),
            limits: self.limits.or(weaker.limits),
            limiter: self.limiter.or(weaker.limiter),
            limiter_nodes: self.limiter_nodes.or(weaker.limiter_nodes),
            limit_player: self.limit_player.or(weaker.limit_player),
            limit_room: self.limit_room.or(weaker.limit_room),
            limit_arrivals: self.limit_arrivals.or(weaker.limit_arrivals),
            limit_requests: self.limit_requests.or(weaker.limit_requests),
            limit_input: self.limit_input.or(weaker.limit_input),
            limit_chat: self.limit_chat.or(weaker.limit_chat),
            limit_control: self.limit_control.or(weaker.limit_control),
            limit_messages: self.limit_messages.or(weaker.limit_messages),
            connections_per_player: self.connections_per_player.or(weaker.connections_per_player),
            spectators: self.spectators.or(weaker.spectators),
            trust_proxy: self.trust_proxy.or(weaker.trust_proxy),
            game_minutes: self.game_minutes.or(weaker.game_minutes),
            game_rounds: self.game_rounds.or(weaker.game_rounds),
            game_events: self.game_events.or(weaker.game_events),
            game_bytes: self.game_bytes.or(weaker.game_bytes),
            heartbeat: self.heartbeat.or(weaker.heartbeat),
            token_hours: self.token_hours.or(weaker.token_hours),
            room_linger: self.room_linger.or(weaker.room_linger),
            room_idle: self.room_idle.or(weaker.room_idle),
            snapshot_events: self.snapshot_events.or(weaker.snapshot_events),
            store_patience: self.store_patience.or(weaker.store_patience),
            event_segment: self.event_segment.or(weaker.event_segment),
            disk_low: self.disk_low.or(weaker.disk_low),
        }
    }
}
