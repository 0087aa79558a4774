//! Refuses messages that are none, and closes who sends too many of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{Clock, SystemClock, clock::Instant};
use parking_lot::Mutex;

use super::{Layer, Next};
use crate::{
    app::Inbound,
    close::Close,
    connection::{Connection, ConnectionId},
    frame::{Class, Frame},
    telemetry::{MIDDLEWARE, Middleware},
};

/// Refuses messages that are not JSON objects of bounded depth, before anything is parsed further.
///
/// A refused message is answered with `{"type":"error","code":"invalid_message", ...}`, whose text
/// says which rule was broken and nothing of the insides. Ten refusals in a minute close the
/// connection with 1011.
#[derive(Debug)]
pub struct Validate {
    clock: Arc<dyn Clock>,
    depth: usize,
    takes_binary: bool,
    strikes: usize,
    window: Duration,
    struck: Mutex<HashMap<ConnectionId, VecDeque<Instant>>>,
}

impl Validate {
    /// Takes text messages that are JSON objects.
    pub fn text() -> Self {
        Self {
            clock: SystemClock::shared(),
            depth: 32,
            takes_binary: false,
            strikes: 10,
            window: Duration::from_mins(1),
            struck: Mutex::default(),
        }
    }

    /// Takes binary messages as well, unseen: the application's codec must be bounded itself.
    #[must_use]
    pub const fn binary(mut self) -> Self {
        self.takes_binary = true;
        self
    }

    /// Sets how deeply a message may be nested; 32 by default, the message itself is the first.
    #[must_use]
    pub const fn depth(mut self, levels: usize) -> Self {
        self.depth = levels;
        self
    }

    /// Sets how many refusals within a time close the connection; 10 in a minute by default.
    #[must_use]
    pub const fn strikes(mut self, count: usize, window: Duration) -> Self {
        self.strikes = count;
        self.window = window;
        self
    }

    /// Takes the time from a clock; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn judge(&self, message: &Inbound) -> Result<(), &'static str> {
        let text = match message {
            Inbound::Text(text) => text.as_str(),
            Inbound::Binary(_) if self.takes_binary => return Ok(()),
            Inbound::Binary(_) => return Err("binary messages are not taken here"),
        };
        if self.depth < depth(text) {
            return Err("message is nested too deeply");
        }
        if !text.trim_start().starts_with('{') {
            return Err("message is not a JSON object");
        }
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Ok(()),
            Err(_) => Err("message is not well-formed JSON"),
        }
    }

    /// Counts a refusal and returns whether it was one too many.
    fn strike(&self, id: ConnectionId) -> bool {
        let now = self.clock.now();
        let mut struck = self.struck.lock();
        let times = struck.entry(id).or_default();
        while times.front().is_some_and(|first| self.window <= now.since(*first)) {
            times.pop_front();
        }
        times.push_back(now);
        self.strikes <= times.len()
    }
}

#[async_trait]
impl Layer for Validate {
    async fn inbound(
        &self,
        connection: &Connection,
        message: Inbound,
        next: Next<'_>,
    ) -> Result<(), Close> {
        let Err(why) = self.judge(&message) else { return next.run(connection, message).await };
        MIDDLEWARE.add_for(Middleware::Invalid, 1);
        let frame = serde_json::json!({"type": "error", "code": "invalid_message", "message": why});
        connection.send(Frame::text(frame.to_string()), Class::Ephemeral);
        if self.strike(connection.id()) {
            return Err(Close::new(1011, "too many invalid messages"));
        }
        Ok(())
    }

    async fn closed(&self, connection: &Connection) {
        self.struck.lock().remove(&connection.id());
    }
}

/// Returns how deeply the brackets of a JSON text are nested at most, without parsing it.
///
/// ```
/// assert_eq!(infra_ws::layer::depth(r#"{"a":[1,"[["]}"#), 2);
/// ```
pub fn depth(text: &str) -> usize {
    let (mut deepest, mut now, mut is_string, mut is_escaped) = (0_usize, 0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' | b'[' if !is_string => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !is_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn measured(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(measured).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(measured).max().unwrap_or(0),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    proptest! {
        #[test]
        fn the_depth_is_that_of_the_parsed_text(seed in ".{0,12}", levels in 0..40_usize) {
            let mut value = json!({"text": seed, "list": [[seed]]});
            for level in 0..levels {
                value = if level % 2 == 0 { json!([value, "]{"]) } else { json!({"in": value}) };
            }
            prop_assert_eq!(depth(&value.to_string()), measured(&value));
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text in ".{0,200}") {
            let judged = Validate::text().judge(&Inbound::Text(text.as_str().into()));
            let is_object = matches!(serde_json::from_str(&text), Ok(Value::Object(_)));
            prop_assert_eq!(judged.is_ok(), is_object);
        }
    }
}
