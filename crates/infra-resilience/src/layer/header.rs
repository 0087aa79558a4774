//! The call budget as a header of HTTP requests and answers, in and out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use infra_core::{
    Clock, Error, Result,
    budget::{CallBudget, Priority},
    context::Context,
};
use tower::{Layer, Service};

use crate::wire::{self, HEADER, Outgoing, UNSPENT};

/// What comes of a request.
type Answering<T, E> = Pin<Box<dyn Future<Output = std::result::Result<T, E>> + Send>>;

/// Serves requests in the context that their header tells of; the answer tells what was not spent.
///
/// A request without the header is served in the context that is there, one whose header is malformed is
/// answered 400. The header is the caller's word: where strangers can ask, bound what it grants by
/// [`BudgetIn::at_most`], or leave this layer out. Put it outside of all policies.
///
/// ```
/// use http::{Request, Response};
/// use infra_core::{SystemClock, budget::CallBudget, context::Context};
/// use infra_resilience::layer::BudgetIn;
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let service = service_fn(|_: Request<()>| async {
///     let left = Context::current().budget_of().map_or(0, CallBudget::left);
///     Ok::<_, std::convert::Infallible>(Response::new(left))
/// });
/// let request = Request::builder().header("call-budget", "deadline=250, extra=2").body(()).unwrap();
/// let answer = BudgetIn::new(SystemClock::shared()).layer(service).oneshot(request).await.unwrap();
/// assert_eq!(answer.headers()["call-budget-unspent"], "2");
/// assert_eq!(answer.into_body(), 2);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct BudgetIn {
    clock: Arc<dyn Clock>,
    extra: u32,
    priority: Priority,
}

impl BudgetIn {
    /// Grants whatever a header asks for.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, extra: u32::MAX, priority: Priority::Critical }
    }

    /// Grants no more extra attempts than `extra` and no priority above `priority`.
    #[must_use]
    pub const fn at_most(mut self, extra: u32, priority: Priority) -> Self {
        (self.extra, self.priority) = (extra, priority);
        self
    }

    /// Reads what a request is granted; `None` if it asks for no budget.
    fn read(&self, headers: &HeaderMap) -> Result<(Context, Option<Granted>)> {
        let now = self.clock.now();
        let told = wire::read(&text(headers)?, now)?;
        let context = Context::current();
        let context = match told.deadline_of() {
            Some(deadline) => context.deadline(deadline),
            None => context,
        };
        let Some(asked) = told.budget_of() else { return Ok((context, None)) };
        let extra = asked.left().min(self.extra);
        let budget = CallBudget::new(extra).priority(asked.priority_of().min(self.priority));
        let granted = Granted { budget: budget.clone(), withheld: asked.left() - extra };
        Ok((context.budget(budget), Some(granted)))
    }
}

/// Returns the header's value; its lines are one list (RFC 9651, section 4.2).
fn text(headers: &HeaderMap) -> Result<String> {
    let malformed = |_| Error::invalid("read call budget", "no text");
    let lines = headers.get_all(HEADER).iter().map(HeaderValue::to_str);
    let lines = lines.collect::<std::result::Result<Vec<_>, _>>().map_err(malformed)?;
    Ok(lines.join(","))
}

/// What a request was granted, and what it asked for beyond.
#[derive(Debug)]
struct Granted {
    budget: CallBudget,
    withheld: u32,
}

impl Granted {
    fn unspent(&self) -> HeaderValue {
        HeaderValue::from(self.budget.left().saturating_add(self.withheld))
    }
}

impl<S> Layer<S> for BudgetIn {
    type Service = Receiving<S>;

    fn layer(&self, inner: S) -> Receiving<S> {
        Receiving { budget: self.clone(), inner }
    }
}

/// A service whose requests have the budget that they bring; see [`BudgetIn`].
#[derive(Debug, Clone)]
pub struct Receiving<S> {
    budget: BudgetIn,
    inner: S,
}

impl<S, B, T> Service<Request<B>> for Receiving<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    T: Default + Send + 'static,
{
    type Response = Response<T>;
    type Error = S::Error;
    type Future = Answering<Response<T>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Task<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let Ok((context, granted)) = self.budget.read(req.headers()) else {
            let mut refused = Response::new(T::default());
            *refused.status_mut() = StatusCode::BAD_REQUEST;
            return Box::pin(std::future::ready(Ok(refused)));
        };
        let answering = context.clone().sync_scope(|| self.inner.call(req));
        Box::pin(async move {
            let mut answer = context.scope(answering).await?;
            if let Some(granted) = granted {
                answer.headers_mut().insert(UNSPENT, granted.unspent());
            }
            Ok(answer)
        })
    }
}

/// Sends the current context's budget along with requests, and takes back what comes back of it.
///
/// Put it innermost, next to what sends: each attempt of a retry is a request with what is left then.
///
/// ```
/// use std::time::Duration;
/// use http::{Request, Response};
/// use infra_core::{SystemClock, budget::CallBudget, context::Context};
/// use infra_resilience::layer::BudgetOut;
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let client = service_fn(|request: Request<()>| async move {
///     assert_eq!(request.headers()["call-budget"], "extra=2, priority=normal");
///     let answer = Response::builder().header("call-budget-unspent", "1").body(());
///     Ok::<_, std::convert::Infallible>(answer.unwrap())
/// });
/// let client = BudgetOut::new(Duration::from_millis(2), SystemClock::shared()).layer(client);
/// let budget = CallBudget::new(4);
/// let asking = client.oneshot(Request::new(()));
/// Context::default().budget(budget.clone()).scope(asking).await.unwrap();
/// assert_eq!(budget.left(), 3);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct BudgetOut {
    way: Duration,
    clock: Arc<dyn Clock>,
}

impl BudgetOut {
    /// Takes how long the way there and back takes: the deadline over there is earlier by it.
    pub fn new(way: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { way, clock }
    }
}

impl<S> Layer<S> for BudgetOut {
    type Service = Sending<S>;

    fn layer(&self, inner: S) -> Sending<S> {
        Sending { budget: self.clone(), inner }
    }
}

/// A client whose requests bring the current budget; see [`BudgetOut`].
#[derive(Debug, Clone)]
pub struct Sending<S> {
    budget: BudgetOut,
    inner: S,
}

impl<S, B, T> Service<Request<B>> for Sending<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Future: Send + 'static,
{
    type Response = Response<T>;
    type Error = S::Error;
    type Future = Answering<Response<T>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Task<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let BudgetOut { way, clock } = &self.budget;
        let outgoing = Outgoing::new(&Context::current(), clock.now(), *way);
        // What is written is plain text, always.
        let header = outgoing.header().and_then(|text| HeaderValue::from_str(text).ok());
        if let Some(header) = header {
            req.headers_mut().insert(HEADER, header);
        }
        let answering = self.inner.call(req);
        Box::pin(async move {
            let answer = answering.await?;
            let unspent = answer.headers().get(UNSPENT).and_then(|value| value.to_str().ok());
            outgoing.answered(unspent);
            Ok(answer)
        })
    }
}
