//! Middleware: layers around an application, as an onion.
//!
//! The first layer is the outermost: it hears of a connection and of each message before the
//! others, and of what is sent after them. A layer that panics costs its connection alone.

mod errors;
mod limit;
mod trace;

use std::{
    fmt::{self, Debug},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use async_trait::async_trait;

pub use self::{
    errors::{Validate, depth},
    limit::{OnOutage, Price, RateLimit},
    trace::Traced,
};
use crate::{
    app::{App, Inbound},
    close::Close,
    connection::Connection,
    frame::Frame,
};

/// One layer of middleware; each method passes everything on by default.
#[async_trait]
pub trait Layer: Send + Sync + Debug + 'static {
    /// Takes a new connection, or closes it.
    ///
    /// # Errors
    ///
    /// How to close it; the layers further in and the application never hear of it.
    #[expect(unused_variables, reason = "the default takes everybody")]
    async fn connect(&self, connection: &Connection) -> Result<(), Close> {
        Ok(())
    }

    /// Handles a message: passes it on with `next`, answers it, or closes the connection.
    ///
    /// # Errors
    ///
    /// How to close the connection.
    async fn inbound(
        &self,
        connection: &Connection,
        message: Inbound,
        next: Next<'_>,
    ) -> Result<(), Close> {
        next.run(connection, message).await
    }

    /// Sees what is sent to a connection; it may change it, or drop it with `None`.
    ///
    /// It runs wherever somebody sends, so it must not block.
    #[expect(unused_variables, reason = "the default passes everything on")]
    fn outbound(&self, connection: &Connection, frame: Frame) -> Option<Frame> {
        Some(frame)
    }

    /// Hears that a connection that it took has ended.
    #[expect(unused_variables, reason = "the default keeps nothing")]
    async fn closed(&self, connection: &Connection) {}
}

/// The layers further in, and the application behind them.
pub struct Next<'a> {
    layers: &'a [Arc<dyn Layer>],
    endpoint: &'a mut dyn Endpoint,
}

impl Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl Next<'_> {
    /// Passes a message on.
    ///
    /// # Errors
    ///
    /// How to close the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what the layers further in had begun.
    pub async fn run(self, connection: &Connection, message: Inbound) -> Result<(), Close> {
        match self.layers.split_first() {
            Some((layer, layers)) => {
                layer.inbound(connection, message, Next { layers, endpoint: self.endpoint }).await
            }
            None => self.endpoint.handle(message).await,
        }
    }
}

/// What stands behind the last layer.
#[async_trait]
trait Endpoint: Send {
    async fn handle(&mut self, message: Inbound) -> Result<(), Close>;
}

struct Innermost<'a, A, S> {
    app: &'a A,
    session: &'a mut S,
}

#[async_trait]
impl<A: App> Endpoint for Innermost<'_, A, A::Session> {
    async fn handle(&mut self, message: Inbound) -> Result<(), Close> {
        self.app.message(self.session, message).await
    }
}

/// An application inside layers.
///
/// ```
/// use infra_ws::{App, layer::{Layered, Validate}};
///
/// fn guarded<A: App>(app: A) -> Layered<A> {
///     Layered::new(app).layer(Validate::text().depth(16))
/// }
/// ```
#[derive(Debug)]
pub struct Layered<A> {
    app: A,
    layers: Arc<[Arc<dyn Layer>]>,
}

impl<A: App> Layered<A> {
    /// Puts no layer around `app` yet.
    pub fn new(app: A) -> Self {
        Self { app, layers: Arc::from([]) }
    }

    /// Adds a layer inside those that are there: the first is the outermost.
    #[must_use]
    pub fn layer(self, layer: impl Layer) -> Self {
        let layer: Arc<dyn Layer> = Arc::new(layer);
        let layers = self.layers.iter().cloned().chain([layer]).collect();
        Self { layers, ..self }
    }

    /// Returns the application.
    pub const fn app(&self) -> &A {
        &self.app
    }

    /// Tells the outermost `count` layers that the connection has ended, the innermost first.
    async fn tell_closed(&self, connection: &Connection, count: usize) {
        for layer in self.layers.iter().take(count).rev() {
            // A layer that panics must not keep the others from hearing of the end.
            let told = AssertUnwindSafe(layer.closed(connection));
            let _done = futures_util::FutureExt::catch_unwind(told).await.is_ok();
        }
    }
}

/// A connection inside layers.
#[derive(Debug)]
pub struct LayeredSession<S> {
    connection: Connection,
    inner: S,
}

#[async_trait]
impl<A: App> App for Layered<A> {
    type Session = LayeredSession<A::Session>;

    async fn open(&self, connection: Connection) -> Result<Self::Session, Close> {
        let mut taken = 0;
        let mut opened = Ok(());
        for layer in self.layers.iter() {
            opened = layer.connect(&connection).await;
            if opened.is_err() {
                break;
            }
            taken += 1;
        }
        connection.set_layers(Arc::clone(&self.layers));
        let opened = match opened {
            Ok(()) => self.app.open(connection.clone()).await,
            Err(close) => Err(close),
        };
        match opened {
            Ok(inner) => Ok(LayeredSession { connection, inner }),
            Err(close) => {
                self.tell_closed(&connection, taken).await;
                Err(close)
            }
        }
    }

    async fn message(&self, session: &mut Self::Session, message: Inbound) -> Result<(), Close> {
        let LayeredSession { connection, inner } = session;
        let mut endpoint = Innermost { app: &self.app, session: inner };
        Next { layers: &self.layers, endpoint: &mut endpoint }.run(connection, message).await
    }

    async fn closed(&self, session: Self::Session) {
        let LayeredSession { connection, inner } = session;
        self.app.closed(inner).await;
        self.tell_closed(&connection, self.layers.len()).await;
    }
}

/// Passes what is sent through the layers, the innermost first; a panic closes the connection.
pub(crate) fn outbound(
    layers: &[Arc<dyn Layer>],
    connection: &Connection,
    frame: Frame,
) -> Option<Frame> {
    let pass = || {
        let mut layers = layers.iter().rev();
        layers.try_fold(frame, |frame, layer| layer.outbound(connection, frame))
    };
    std::panic::catch_unwind(AssertUnwindSafe(pass)).unwrap_or_else(|_| {
        connection.close(Close::INTERNAL);
        None
    })
}
