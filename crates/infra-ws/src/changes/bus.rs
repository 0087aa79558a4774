//! Handlers in the process: called in order, each behind a wall.

use std::{fmt, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt;
use parking_lot::RwLock;
use serde_json::Value;

use crate::telemetry::HANDLERS;

/// Names a handler; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandlerId(u64);

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Handled {
    /// Handlers that came to their end.
    pub done: usize,
    /// Handlers that panicked; the others were called all the same.
    pub panicked: usize,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Handler = Arc<dyn Fn(Arc<Value>) -> Work + Send + Sync>;

struct Entry {
    id: HandlerId,
    event: Box<str>,
    handler: Handler,
}

/// Calls handlers for events by name, one after the other in the order in which they were added.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use infra_ws::changes::EventBus;
///
/// let bus = EventBus::new();
/// bus.on("test_event", |payload| async move { assert_eq!(payload["data"], "test") });
/// let handled = bus.emit("test_event", serde_json::json!({"data": "test"})).await;
/// assert_eq!((handled.done, handled.panicked), (1, 0));
/// # });
/// ```
#[derive(Default)]
pub struct EventBus(RwLock<State>);

#[derive(Default)]
struct State {
    next: u64,
    entries: Vec<Entry>,
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus").field("handlers", &self.0.read().entries.len()).finish()
    }
}

impl EventBus {
    /// Creates a bus without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler.
    pub fn on<F, W>(&self, event: &str, handler: F) -> HandlerId
    where
        F: Fn(Arc<Value>) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.0.write();
        state.next += 1;
        let id = HandlerId(state.next);
        let handler: Handler = Arc::new(move |payload| Box::pin(handler(payload)));
        state.entries.push(Entry { id, event: event.into(), handler });
        id
    }

    /// Removes a handler; returns false if it is not there.
    pub fn off(&self, id: HandlerId) -> bool {
        let mut state = self.0.write();
        let before = state.entries.len();
        state.entries.retain(|entry| entry.id != id);
        state.entries.len() < before
    }

    /// Calls the handlers of an event, as of now, one after the other.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler that is running; later ones are not called.
    pub async fn emit(&self, event: &str, payload: Value) -> Handled {
        let handlers: Vec<Handler> = {
            let state = self.0.read();
            let meant = state.entries.iter().filter(|entry| entry.event.as_ref() == event);
            meant.map(|entry| Arc::clone(&entry.handler)).collect()
        };
        let payload = Arc::new(payload);
        let mut handled = Handled::default();
        for handler in handlers {
            let work = async { handler(Arc::clone(&payload)).await };
            if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
                handled.done += 1;
            } else {
                HANDLERS.add(1);
                handled.panicked += 1;
            }
        }
        handled
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn handlers_run_in_order_once_each_and_a_panic_stops_no_other() {
        let bus = EventBus::new();
        let seen: Arc<Mutex<Vec<(usize, Value)>>> = Arc::default();
        let note = |number: usize| {
            let seen = Arc::clone(&seen);
            bus.on("test_event", move |payload| {
                let seen = Arc::clone(&seen);
                async move {
                    tokio::task::yield_now().await;
                    seen.lock().push((number, (*payload).clone()));
                }
            })
        };
        let first = note(1);
        bus.on("test_event", |_| async { panic!("as planned") });
        bus.on("test_event", |_| -> std::future::Ready<()> { panic!("before it begins") });
        note(2);
        bus.on("other", |_| async { panic!("not called") });
        let payload = json!({"data": "test"});
        let handled = bus.emit("test_event", payload.clone()).await;
        assert_eq!(handled, Handled { done: 2, panicked: 2 });
        assert_eq!(*seen.lock(), [(1, payload.clone()), (2, payload.clone())]);
        assert!(bus.off(first) && !bus.off(first));
        seen.lock().clear();
        bus.emit("test_event", payload.clone()).await;
        assert_eq!(*seen.lock(), [(2, payload)]);
        assert_eq!(bus.emit("nobody", json!(null)).await, Handled::default());
    }
}
