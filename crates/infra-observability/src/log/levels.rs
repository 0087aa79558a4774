//! What is logged, changeable while the process runs, and back by itself.

use std::{fmt, sync::Arc, time::Duration};

use infra_core::{Clock, Error, Result, clock::Instant, lifecycle::Stop};
use parking_lot::Mutex;
use tracing::Level;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The most levels that are raised at a time.
const MAX_RAISED: usize = 32;

/// The layer that admits what the levels say.
pub type Filter = reload::Layer<EnvFilter, Registry>;

/// A level that is raised for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// The directive, as in `infra_ws=debug`.
    pub directive: String,
    /// When it is over.
    pub until: Instant,
}

#[derive(Debug)]
struct State {
    base: String,
    raised: Vec<Raised>,
}

struct Inner {
    handle: reload::Handle<EnvFilter, Registry>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// The levels of the log. Cheap to clone.
///
/// The base is a filter of tracing-subscriber's `EnvFilter`, as in `info,infra_ws=debug`. Above it,
/// a target or whatever happens within spans of one field value (`room` is `AB12CD`) can be raised
/// for a while. A raised field value holds for spans that are made from then on.
#[derive(Clone)]
pub struct Levels(Arc<Inner>);

impl Levels {
    /// Creates the layer that admits and the levels that steer it.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the filter cannot be read.
    pub fn new(base: &str, clock: Arc<dyn Clock>) -> Result<(Filter, Self)> {
        let (layer, handle) = reload::Layer::new(read(base)?);
        let state = Mutex::new(State { base: base.to_owned(), raised: Vec::new() });
        Ok((layer, Self(Arc::new(Inner { handle, clock, state }))))
    }

    /// Sets what is logged when nothing is raised.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the filter cannot be read; nothing changes.
    pub fn set_base(&self, base: &str) -> Result<()> {
        read(base)?;
        self.change(|state| {
            base.clone_into(&mut state.base);
            Ok(())
        })
    }

    /// Raises a target (a module path) for a while.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if it is no module path, or if 32 are raised.
    pub fn raise(&self, target: &str, level: Level, lasting: Duration) -> Result<()> {
        let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if target.is_empty() || !target.chars().all(is_path) {
            return Err(Error::invalid("raise log level", "the target is no module path"));
        }
        self.add(format!("{target}={}", name(level)), lasting)
    }

    /// Raises what happens within spans that have this value in this field, for a while.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if field or value is no word of letters, digits,
    /// `_` and `-`, or if 32 are raised.
    pub fn raise_within(
        &self,
        field: &str,
        value: &str,
        level: Level,
        lasting: Duration,
    ) -> Result<()> {
        let is_word = |text: &str| {
            let is_char = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            !text.is_empty() && text.len() <= 64 && text.chars().all(is_char)
        };
        if !is_word(field) || !is_word(value) {
            return Err(Error::invalid("raise log level", "field or value is no word"));
        }
        self.add(format!("[{{{field}={value}}}]={}", name(level)), lasting)
    }

    /// Returns what is logged when nothing is raised.
    pub fn base(&self) -> String {
        self.0.state.lock().base.clone()
    }

    /// Returns what is raised now.
    pub fn raised(&self) -> Vec<Raised> {
        self.0.state.lock().raised.clone()
    }

    /// Takes back what is over, until the service stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves raised levels raised.
    pub async fn run(self, stop: Stop) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = ticks.tick() => self.expire(),
                () = stop.requested() => return,
            }
        }
    }

    /// Takes back what is over now.
    pub fn expire(&self) {
        let now = self.0.clock.now();
        if self.0.state.lock().raised.iter().any(|raised| raised.until <= now) {
            // It cannot fail: the rest was admitted before.
            let _changed = self.change(|_| Ok(())).is_ok();
        }
    }

    fn add(&self, directive: String, lasting: Duration) -> Result<()> {
        read(&directive)?;
        let until = self.0.clock.now() + lasting;
        self.change(|state| {
            state.raised.retain(|raised| raised.directive != directive);
            if MAX_RAISED <= state.raised.len() {
                return Err(Error::invalid("raise log level", "too many are raised"));
            }
            state.raised.push(Raised { directive, until });
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        let now = self.0.clock.now();
        let filter = {
            let mut state = self.0.state.lock();
            state.raised.retain(|raised| now < raised.until);
            change(&mut state)?;
            let raised = state.raised.iter().map(|raised| raised.directive.as_str());
            read(&[state.base.as_str()].into_iter().chain(raised).collect::<Vec<_>>().join(","))?
        };
        let gone = |cause| Error::invalid("change log levels", "logging ended").because(cause);
        self.0.handle.reload(filter).map_err(gone)
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Levels").field(&*self.0.state.lock()).finish()
    }
}

fn read(filter: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(filter)
        .map_err(|cause| Error::invalid("read log filter", filter.to_owned()).because(cause))
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
