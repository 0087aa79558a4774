//! The server, what it can do, and the stream of a queue.

use std::{fmt::Write as _, num::NonZeroU64, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap,
    connection::State,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{
        self, Context,
        context::PublishErrorKind,
        stream::{Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, StorageType},
    },
};
use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result, id::QueueName};
use tokio::sync::Notify;

use crate::{
    bus::PING,
    queue::{Options, Overflow},
};

const OPEN: &str = "open queue";

/// How long a server may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What of a payload is left to the headers.
const HEADERS: usize = 1_024;

/// A NATS server with `JetStream`, and how its operator runs it.
///
/// ```no_run
/// use infra_messaging::JetStream;
///
/// let server = JetStream::at("nats://nats-1:4222,nats://nats-2:4222").replicas(3);
/// ```
#[derive(Debug, Clone)]
pub struct JetStream {
    url: String,
    replicas: usize,
    syncs_always: bool,
    cut_log_every: u64,
}

impl JetStream {
    /// Names a server by its URL; more of one cluster are divided by commas.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), replicas: 1, syncs_always: false, cut_log_every: 20_000 }
    }

    /// Sets on how many servers of a cluster a new queue is kept (1).
    #[must_use]
    pub const fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Asserts that the server runs with `sync_interval: always`, which no client can see. Only then
    /// is a publish at [`Durability::Durable`](infra_core::durability::Durability::Durable) taken.
    #[must_use]
    pub const fn syncs_always(mut self) -> Self {
        self.syncs_always = true;
        self
    }

    /// Sets after how many entries of the log an image of the queue is written and the log is cut
    /// (20,000). An image costs the size of the queue, an entry that is not cut away costs time when
    /// a process opens the queue.
    #[must_use]
    pub const fn cut_log_every(mut self, entries: NonZeroU64) -> Self {
        self.cut_log_every = entries.get();
        self
    }
}

/// What was found out about a server when it was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// Its version.
    pub version: String,
    /// How many bytes the messages of a batch may have together, as they are written.
    pub max_batch_bytes: usize,
    /// On how many servers the queue is kept.
    pub replicas: usize,
    /// Whether it acknowledges only what it has synced, as its operator asserts.
    pub syncs_always: bool,
}

/// How an attempt to add to the log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It is there, at this sequence.
    At(u64),
    /// Another entry came before it.
    Behind,
    /// Nobody knows.
    Lost,
}

/// A connection to the stream of a queue. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    client: Client,
    pub(super) context: Context,
    /// The stream of the log.
    pub(super) stream: String,
    /// The stream of the images. It is another one since a server of 2.9 makes readers of a stream
    /// skip what they have not read when something else is purged from it.
    pub(super) images: String,
    pub(super) prefix: String,
    pub(super) cut_log_every: u64,
    pub(super) report: ServerReport,
    /// The connection is there again.
    pub(super) back: Arc<Notify>,
}

pub(super) fn failed(
    operation: &'static str,
    cause: impl Into<infra_core::error::BoxError>,
) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because(cause)
}

fn unsupported(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, OPEN).detail(detail.into())
}

/// Writes a name with the letters that streams and subjects may have; no two names look the same.
fn plain(name: &QueueName) -> String {
    let mut plain = String::new();
    for byte in name.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            plain.push(char::from(byte));
        } else {
            // Nothing fails that writes to a string.
            let _is_written = write!(plain, "_{byte:02x}").is_ok();
        }
    }
    plain
}

/// Returns what every process that opens a queue must agree on.
fn terms(options: &Options) -> Result<Bytes> {
    let overflow = match options.overflow {
        Overflow::Refuse => "refuse",
        Overflow::DeadLetterOldest => "dead letter oldest",
        Overflow::Wait => return Err(unsupported("publishers that wait for room")),
    };
    if options.weigh.is_some() {
        return Err(unsupported("fairness to keys"));
    }
    let terms = serde_json::json!({
        "version": 1,
        "capacity": options.capacity,
        "overflow": overflow,
        "max_failures": options.max_failures,
        "max_crashes": options.max_crashes,
        "max_deliveries": options.max_deliveries,
        "max_releases": options.max_releases,
        "oldest_every": options.ageing,
        "dedup_window_ns": u64::try_from(options.window.as_nanos()).unwrap_or(u64::MAX),
        "max_dedup": options.max_dedup,
        "max_dead": options.max_dead,
        "parks_keys": options.parks_keys,
    });
    Ok(terms.to_string().into())
}

impl Link {
    pub(super) async fn open(
        server: &JetStream,
        name: &QueueName,
        options: &Options,
    ) -> Result<Self> {
        let terms = terms(options)?;
        let back = Arc::new(Notify::new());
        let client = connect(&server.url, &back).await?;
        if !client.is_server_compatible(2, 9, 0) {
            let version = client.server_info().version;
            return Err(unsupported(format!("server {version}, at least 2.9")));
        }
        let mut context = jetstream::new(client.clone());
        context.set_timeout(PATIENCE);
        let plain = plain(name);
        let (stream, prefix) = (format!("QUEUE_{plain}"), format!("infra.queue.{plain}"));
        let images = format!("{stream}_IMAGES");
        let info = client.server_info();
        let logged = ["log", "options"].map(|last| format!("{prefix}.{last}"));
        let pictured = ["head", "image.>"].map(|last| format!("{prefix}.{last}"));
        let logged = config(&stream, logged, server.replicas);
        let found = make(&context, logged, info.jetstream).await?;
        make(&context, config(&images, pictured, server.replicas), info.jetstream).await?;
        let report = ServerReport {
            version: info.version,
            max_batch_bytes: info.max_payload.saturating_sub(HEADERS),
            replicas: found.num_replicas,
            syncs_always: server.syncs_always,
        };
        let cut_log_every = server.cut_log_every;
        let link = Self { client, context, stream, images, prefix, cut_log_every, report, back };
        link.agree(terms).await?;
        link.warn(name);
        Ok(link)
    }

    fn warn(&self, name: &QueueName) {
        if !self.report.syncs_always {
            tracing::warn!(
                queue = name.as_str(),
                version = self.report.version,
                "this JetStream acknowledges before it syncs: a loss of power may lose what was \
                 published; set `sync_interval: always` and say so by `JetStream::syncs_always`"
            );
        }
    }

    /// Makes sure that everybody opens the queue with the same options.
    async fn agree(&self, terms: Bytes) -> Result<()> {
        let subject = format!("{}.options", self.prefix);
        if let Added::At(_) = self.add(subject.clone(), terms.clone(), 0).await {
            return Ok(());
        }
        match self.last(&self.stream, subject).await? {
            Some((_, found)) if found == terms => Ok(()),
            Some((_, found)) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                Err(Error::invalid(OPEN, format!("it was made with other options: {found}")))
            }
            None => Err(failed(OPEN, "the options were not written")),
        }
    }

    /// Returns whether the connection is there.
    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(super) fn log(&self) -> String {
        format!("{}.log", self.prefix)
    }

    /// Adds a message to a subject if the last one there has the sequence `after`.
    pub(super) async fn add(&self, subject: String, body: Bytes, after: u64) -> Added {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, after.to_string().as_str());
        let sent = self.context.publish_with_headers(subject, headers, body).await;
        let Ok(answer) = sent else { return Added::Lost };
        match answer.await {
            Ok(answer) => Added::At(answer.sequence),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Added::Behind,
            Err(_) => Added::Lost,
        }
    }

    /// Returns whether the server says that it does not have an entry of the log any more.
    pub(super) async fn is_gone(&self, sequence: u64) -> bool {
        let Ok(stream) = self.context.get_stream_no_info(&self.stream).await else { return false };
        let said = stream.get_raw_message(sequence).await;
        said.is_err_and(|error| error.kind() == LastRawMessageErrorKind::NoMessageFound)
    }

    /// Returns the last message of a subject and its sequence.
    pub(super) async fn last(&self, stream: &str, subject: String) -> Result<Option<(u64, Bytes)>> {
        let stream = self.context.get_stream_no_info(stream).await;
        let stream = stream.map_err(|cause| failed("read queue", cause))?;
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some((message.sequence, message.payload))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed("read queue", error)),
        }
    }
}

async fn connect(url: &str, back: &Arc<Notify>) -> Result<Client> {
    let back = Arc::clone(back);
    let options = ConnectOptions::new().ping_interval(PING).event_callback(move |event| {
        if matches!(event, Event::Connected) {
            back.notify_one();
        }
        std::future::ready(())
    });
    let servers: Vec<&str> = url.split(',').map(str::trim).collect();
    options.connect(servers).await.map_err(|cause| failed("connect to NATS", cause))
}

/// Makes a stream, or looks at the one that is there, and returns how it is kept.
async fn make(context: &Context, wanted: Config, has_jetstream: bool) -> Result<Config> {
    let made = context.get_or_create_stream(wanted.clone()).await.map_err(|cause| {
        if has_jetstream {
            failed(OPEN, cause)
        } else {
            unsupported("the server has no JetStream").because(cause)
        }
    })?;
    let found = made.cached_info().config.clone();
    check_stream(&wanted, &found)?;
    Ok(found)
}

fn config(stream: &str, subjects: [String; 2], replicas: usize) -> Config {
    Config {
        name: stream.to_owned(),
        subjects: subjects.into(),
        retention: RetentionPolicy::Limits,
        // What is there is never dropped for something new.
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: replicas,
        ..Config::default()
    }
}

/// Refuses a stream that somebody made otherwise, so that it would lose what it took.
fn check_stream(wanted: &Config, found: &Config) -> Result<()> {
    let is_kept = found.storage == StorageType::File
        && found.retention == RetentionPolicy::Limits
        && found.discard == DiscardPolicy::New
        && found.max_age.is_zero()
        && found.max_messages_per_subject <= 0
        && !found.no_ack
        && found.subjects == wanted.subjects;
    if is_kept {
        return Ok(());
    }
    Err(unsupported(format!("stream {} is not kept as this queue needs it", found.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_queues_become_names_of_streams_and_no_two_the_same() {
        let plain = |name: &str| plain(&QueueName::new(name).unwrap());
        assert_eq!(plain("mail-7"), "mail-7");
        assert_eq!(plain("a.b_c d"), "a_2eb_5fc_20d");
        assert_ne!(plain("a.b"), plain("a_2eb"));
    }

    #[test]
    fn a_stream_that_would_lose_something_is_refused() {
        let wanted = config("QUEUE_a", ["a.log", "a.options"].map(str::to_owned), 1);
        assert!(check_stream(&wanted, &wanted).is_ok());
        for found in [
            Config { storage: StorageType::Memory, ..wanted.clone() },
            Config { discard: DiscardPolicy::Old, ..wanted.clone() },
            Config { max_age: Duration::from_secs(1), ..wanted.clone() },
            Config { retention: RetentionPolicy::WorkQueue, ..wanted.clone() },
        ] {
            assert_eq!(
                *check_stream(&wanted, &found).unwrap_err().kind(),
                ErrorKind::Unsupported,
                "{found:?}"
            );
        }
    }
}
