//! Lanes: connections of their own that carry out appends, one statement each.
//!
//! A caller that goes away leaves its append to the lane, so nothing is half sent.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    backoff::Backoff,
    clock::Timestamp,
    event::{Append, Appended, Metadata},
    id::{CorrelationId, EventId, StreamName},
    trace::TraceContext,
    version::{Expected, Position, Version},
};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Row as _,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::failed;

const APPEND: &str = "append to stream";

/// How often a statement is sent; it is idempotent by the events' ids.
const TRIES: u32 = 3;

/// What a lane is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    Append(Box<Offer>),
    Truncate { stream: StreamName, before: Version },
    Tombstone { stream: StreamName, expected: Expected },
}

/// An append with what its context gave.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) append: Append,
    pub(super) recorded: Timestamp,
    pub(super) correlation: Option<CorrelationId>,
    pub(super) trace: Option<TraceContext>,
    pub(super) headers: Metadata,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<Appended>>,
}

/// One connection and the statements that run on it.
pub(super) struct Lane {
    pub(super) options: PgConnectOptions,
    pub(super) schema: String,
    pub(super) patience: Duration,
    pub(super) connection: Option<PgConnection>,
}

/// Serves jobs until all who could send one are gone.
pub(super) async fn run(mut lane: Lane, jobs: Arc<Mutex<mpsc::Receiver<Job>>>) {
    loop {
        let next = jobs.lock().await.recv().await;
        let Some(Job { order, reply }) = next else { break };
        let result = lane.carry_out(&order).await;
        // Who has gone does not hear it; what was written stays written.
        let _heard = reply.send(result).is_ok();
    }
    if let Some(connection) = lane.connection {
        // The server ends a connection that cannot be closed any more.
        let _closed = connection.close().await.is_ok();
    }
}

impl Lane {
    async fn carry_out(&mut self, order: &Order) -> Result<Appended> {
        let mut is_sent = false;
        let mut failure = Error::new(ErrorKind::Unavailable, APPEND);
        let sql: Arc<str> = order.statement(&self.schema).into();
        let patience = self.patience;
        for attempt in 0..TRIES {
            if 0 < attempt {
                let pause = Backoff::exponential(Duration::from_millis(10)).pause_before(attempt);
                tokio::time::sleep(pause).await;
            }
            let connection = match self.connected().await {
                Ok(connection) => connection,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            let statement = order.bind(sqlx::query(AssertSqlSafe(Arc::clone(&sql))))?;
            let row = tokio::time::timeout(patience, statement.fetch_one(connection)).await;
            failure = match row {
                Ok(Ok(row)) => return order.answer(&row),
                Ok(Err(sqlx::Error::Database(cause))) if !is_disconnected(cause.as_ref()) => {
                    // The database refused it, so nothing of this statement was written.
                    let error = failed(APPEND, sqlx::Error::Database(cause));
                    if is_sent || !error.is_transient() {
                        return Err(if is_sent { fate_unknown(error) } else { error });
                    }
                    error
                }
                Ok(Err(cause)) => {
                    is_sent = true;
                    self.connection = None;
                    failed(APPEND, cause)
                }
                Err(_) => {
                    self.connection = None;
                    return Err(fate_unknown(Error::new(ErrorKind::Timeout, APPEND)));
                }
            };
        }
        Err(if is_sent { fate_unknown(failure) } else { failure })
    }

    async fn connected(&mut self) -> Result<&mut PgConnection> {
        if let Some(connection) = self.connection.take() {
            return Ok(self.connection.insert(connection));
        }
        let connecting = PgConnection::connect_with(&self.options);
        let connection = match tokio::time::timeout(self.patience, connecting).await {
            Ok(connected) => connected.map_err(|cause| failed(APPEND, cause))?,
            Err(_) => return Err(Error::new(ErrorKind::Unavailable, APPEND)),
        };
        Ok(self.connection.insert(connection))
    }
}

/// Returns whether the server ended the connection, so that the fate of the statement is open.
fn is_disconnected(cause: &dyn sqlx::error::DatabaseError) -> bool {
    cause.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

fn fate_unknown(cause: Error) -> Error {
    Error::new(ErrorKind::Indeterminate, APPEND)
        .detail("the connection failed before the answer came")
        .because(cause)
        .idempotent()
}

type Statement<'a> = Query<'a, sqlx::Postgres, PgArguments>;

impl Order {
    fn statement(&self, schema: &str) -> String {
        match self {
            Self::Append(_) => format!(
                "select outcome, place, actual, head, versions from {schema}.append(
                    $1, $2, $3, $4, $5::text[]::uuid[], $6, $7, $8, $9, $10::text[]::uuid[], $11,
                    $12, $13::text::uuid, $14, $15, $16, $17)"
            ),
            Self::Truncate { .. } => {
                format!("select outcome, actual from {schema}.truncate_before($1, $2)")
            }
            Self::Tombstone { .. } => {
                format!("select outcome, actual from {schema}.tombstone($1, $2, $3)")
            }
        }
    }

    fn bind<'a>(&'a self, statement: Statement<'a>) -> Result<Statement<'a>> {
        match self {
            Self::Append(offer) => bind_offer(offer, statement),
            Self::Truncate { stream, before } => {
                Ok(statement.bind(stream.as_str()).bind(signed(before.get())))
            }
            Self::Tombstone { stream, expected } => {
                let (kind, version) = judged(*expected);
                Ok(statement.bind(stream.as_str()).bind(kind).bind(version))
            }
        }
    }

    fn answer(&self, row: &PgRow) -> Result<Appended> {
        let read = |cause| failed(APPEND, cause);
        let outcome: &str = row.try_get("outcome").map_err(read)?;
        let actual = Version::new(unsigned(row.try_get("actual").map_err(read)?));
        match self {
            Self::Append(offer) => answer_offer(&offer.append, row, outcome, actual),
            Self::Truncate { stream, before } => match outcome {
                "done" => Ok(nothing()),
                "absent" => Err(absent("truncate stream", stream)),
                _ => {
                    let detail = format!("version {before} of {stream}, which ends at {actual}");
                    Err(Error::invalid("truncate stream", detail))
                }
            },
            Self::Tombstone { stream, expected } => match outcome {
                "done" => Ok(nothing()),
                "absent" => Err(absent("tombstone stream", stream)),
                _ => Err(Error::conflict("tombstone stream", *expected, actual)),
            },
        }
    }
}

fn absent(operation: &'static str, stream: &StreamName) -> Error {
    Error::new(ErrorKind::NotFound, operation).detail(stream.to_string())
}

const fn nothing() -> Appended {
    Appended { position: Position::ZERO, versions: Vec::new(), is_duplicate: false }
}

fn bind_offer<'a>(offer: &'a Offer, statement: Statement<'a>) -> Result<Statement<'a>> {
    let parts = &offer.append.streams;
    let names: Vec<&str> = parts.iter().map(|part| part.stream.as_str()).collect();
    let (kinds, versions): (Vec<i16>, Vec<i64>) =
        parts.iter().map(|part| judged(part.expected)).unzip();
    let numbered = (1_i32..).zip(parts);
    let events: Vec<_> = numbered
        .flat_map(|(number, part)| part.events.iter().map(move |event| (number, event)))
        .collect();
    let column = |id: Option<EventId>| id.map(|id| id.to_string());
    let mut metadata = Vec::with_capacity(events.len());
    for (_, event) in &events {
        metadata.push(super::read::encode_metadata(&event.metadata)?);
    }
    let each = || events.iter().map(|(_, event)| *event);
    let fence = offer.append.fence.as_ref();
    let token = fence.map(|fence| i64::try_from(fence.token.get())).transpose();
    let token = token.map_err(|_| Error::invalid(APPEND, "a fencing token beyond 2^63"))?;
    let bodies: Vec<&[u8]> = each().map(|event| event.payload.body.as_ref()).collect();
    Ok(statement
        .bind(names)
        .bind(kinds)
        .bind(versions)
        .bind(events.iter().map(|(number, _)| *number).collect::<Vec<i32>>())
        .bind(each().map(|event| event.id.to_string()).collect::<Vec<_>>())
        .bind(each().map(|event| event.event_type.as_str()).collect::<Vec<&str>>())
        .bind(each().map(|event| i16::from(event.payload.codec.as_byte())).collect::<Vec<_>>())
        .bind(each().map(|event| i64::from(event.payload.schema)).collect::<Vec<i64>>())
        .bind(bodies)
        .bind(each().map(|event| column(event.causation)).collect::<Vec<_>>())
        .bind(metadata)
        .bind(signed(offer.recorded.as_millis()))
        .bind(offer.correlation.map(|correlation| correlation.to_string()))
        .bind(offer.trace.map(|trace| trace.to_string()))
        .bind(super::read::encode_metadata(&offer.headers)?)
        .bind(fence.map(|fence| fence.scope.as_str()))
        .bind(token))
}

fn answer_offer(append: &Append, row: &PgRow, outcome: &str, actual: Version) -> Result<Appended> {
    let read = |cause| failed(APPEND, cause);
    let place: i32 = row.try_get("place").map_err(read)?;
    let place = usize::try_from(place).unwrap_or_default();
    let part = append.streams.get(place.saturating_sub(1));
    let stream = part.map(|part| part.stream.to_string()).unwrap_or_default();
    match outcome {
        "written" | "duplicate" => {
            let head: Option<i64> = row.try_get("head").map_err(read)?;
            let versions: Option<Vec<i64>> = row.try_get("versions").map_err(read)?;
            let versions = versions.unwrap_or_default().into_iter();
            Ok(Appended {
                position: Position::new(unsigned(head)),
                versions: versions.map(|version| Version::new(unsigned(Some(version)))).collect(),
                is_duplicate: outcome == "duplicate",
            })
        }
        "conflict" => {
            let expected = part.map(|part| part.expected).unwrap_or_default();
            Err(Error::conflict(APPEND, expected, actual).detail(format!("stream {stream}")))
        }
        "denied" => {
            let detail = format!("stream {stream} is tombstoned");
            Err(Error::new(ErrorKind::Denied, APPEND).detail(detail))
        }
        "fenced" => {
            let detail = format!("the highest token of its scope is {actual}");
            Err(Error::new(ErrorKind::Fenced, APPEND).detail(detail))
        }
        _ => {
            let detail = format!("{actual} of its event ids are in the stream, or differ from it");
            Err(Error::invalid(APPEND, detail))
        }
    }
}

/// Returns an expectation as the database judges it.
fn judged(expected: Expected) -> (i16, i64) {
    match expected {
        Expected::Any => (0, 0),
        Expected::Absent => (1, 0),
        Expected::Exists => (2, 0),
        Expected::Exactly(version) => (3, signed(version.get())),
    }
}

/// Returns a number as the database holds it, which has no larger ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: Option<i64>) -> u64 {
    u64::try_from(number.unwrap_or_default()).unwrap_or_default()
}
