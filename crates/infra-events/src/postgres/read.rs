//! Rows to events, and the statements that read them.

use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::{CodecTag, Payload},
    event::{Direction, Filter, Metadata, NewEvent, RecordedEvent},
    id::{EventType, StreamName},
    version::{Position, Version},
};
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};

use super::{
    failed,
    lane::{signed, unsigned},
};

const READ: &str = "read events";

const COLUMNS: &str = "e.position, s.name, e.version, e.id::text as id, e.type, e.codec, e.schema, \
    e.body, e.causation::text as causation, e.metadata, e.recorded, \
    e.correlation::text as correlation, e.trace, e.headers";

/// Returns metadata or headers as they are stored: JSON, or nothing.
///
/// They are kept as bytes, since text in the database cannot hold every character.
pub(super) fn encode_metadata(metadata: &Metadata) -> Result<Option<Vec<u8>>> {
    if metadata.is_empty() {
        return Ok(None);
    }
    serde_json::to_vec(metadata)
        .map(Some)
        .map_err(|cause| Error::new(ErrorKind::Invalid, "encode metadata").because(cause))
}

/// Reads one event.
pub(super) fn event(row: &PgRow) -> Result<RecordedEvent> {
    let corrupt = |what: &'static str| Error::new(ErrorKind::Corrupt, READ).detail(what);
    let parts = columns(row).map_err(|cause| failed(READ, cause))?;
    let codec = u8::try_from(parts.codec).map_err(|_| corrupt("codec"))?;
    let payload = Payload {
        codec: CodecTag::from_byte(codec)?,
        schema: u32::try_from(parts.schema).map_err(|_| corrupt("schema"))?,
        body: parts.body.into(),
    };
    let mut event = NewEvent::new(parts.id.parse()?, EventType::new(parts.event_type)?, payload);
    event.causation = parts.causation.map(|id| id.parse()).transpose()?;
    let pairs = |bytes: Option<Vec<u8>>, what| match bytes {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|cause| corrupt(what).because(cause)),
        None => Ok(Metadata::new()),
    };
    event.metadata = pairs(parts.metadata, "metadata")?;
    Ok(RecordedEvent {
        position: Position::new(unsigned(Some(parts.position))),
        stream: StreamName::new(parts.stream)?,
        version: Version::new(unsigned(Some(parts.version))),
        event,
        recorded: Timestamp::from_millis(unsigned(Some(parts.recorded))),
        correlation: parts.correlation.map(|id| id.parse()).transpose()?,
        trace: parts.trace.map(|trace| trace.parse()).transpose()?,
        headers: pairs(parts.headers, "headers")?,
    })
}

struct Columns {
    position: i64,
    stream: String,
    version: i64,
    id: String,
    event_type: String,
    codec: i16,
    schema: i64,
    body: Vec<u8>,
    causation: Option<String>,
    metadata: Option<Vec<u8>>,
    recorded: i64,
    correlation: Option<String>,
    trace: Option<String>,
    headers: Option<Vec<u8>>,
}

fn columns(row: &PgRow) -> sqlx::Result<Columns> {
    Ok(Columns {
        position: row.try_get("position")?,
        stream: row.try_get("name")?,
        version: row.try_get("version")?,
        id: row.try_get("id")?,
        event_type: row.try_get("type")?,
        codec: row.try_get("codec")?,
        schema: row.try_get("schema")?,
        body: row.try_get("body")?,
        causation: row.try_get("causation")?,
        metadata: row.try_get("metadata")?,
        recorded: row.try_get("recorded")?,
        correlation: row.try_get("correlation")?,
        trace: row.try_get("trace")?,
        headers: row.try_get("headers")?,
    })
}

/// Returns the statement that reads a stream.
pub(super) fn stream_statement(
    schema: &str,
    stream: &StreamName,
    (from, direction): (Version, Direction),
    limit: usize,
) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(format!(
        "select {COLUMNS} from {schema}.events e join {schema}.streams s on s.id = e.stream \
        where not s.is_tombstoned and s.name = "
    ));
    sql.push_bind(stream.as_str().to_owned());
    sql.push(match direction {
        Direction::Forward => " and e.version >= ",
        Direction::Backward => " and e.version <= ",
    });
    sql.push_bind(signed(from.get()));
    sql.push(match direction {
        Direction::Forward => " order by e.version limit ",
        Direction::Backward => " order by e.version desc limit ",
    });
    sql.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    sql
}

/// Returns the statement that reads a page; its first columns are the stable head alone, also when
/// there is no event, and both are of one snapshot.
pub(super) fn page_statement(
    schema: &str,
    after: Position,
    filter: &Filter,
    limit: usize,
) -> QueryBuilder<Postgres> {
    let Filter { stream_prefix, event_types, correlation, recorded_from, recorded_to } = filter;
    let mut sql = QueryBuilder::new(format!(
        "select h.head, p.* from (select {schema}.gate() as gate, {schema}.stable_head() as head) h \
        left join lateral (select {COLUMNS} from {schema}.events e \
        join {schema}.streams s on s.id = e.stream where e.position < h.gate and e.position > "
    ));
    sql.push_bind(signed(after.get()));
    if let Some(prefix) = stream_prefix {
        sql.push(" and s.name ^@ ").push_bind(prefix.clone());
    }
    if !event_types.is_empty() {
        let types: Vec<String> = event_types.iter().map(ToString::to_string).collect();
        sql.push(" and e.type = any(").push_bind(types).push(")");
    }
    if let Some(correlation) = correlation {
        sql.push(" and e.correlation = ").push_bind(correlation.to_string()).push("::uuid");
    }
    if let Some(from) = recorded_from {
        sql.push(" and e.recorded >= ").push_bind(signed(from.as_millis()));
    }
    if let Some(to) = recorded_to {
        sql.push(" and e.recorded <= ").push_bind(signed(to.as_millis()));
    }
    sql.push(" order by e.position limit ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    sql.push(") p on true order by p.position");
    sql
}
