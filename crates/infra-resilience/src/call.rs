//! Calls, typed by what happens if they are made twice.
//!
//! A retry and a hedge take [`Idempotent`] calls and no others: with the other two it does not
//! compile.

use std::{fmt, marker::PhantomData};

use infra_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// What happens if a call is made twice. One of [`Idempotent`], [`AtMostOnce`], [`Ordered`].
pub trait Safety: sealed::Sealed + Send + Sync + 'static {
    /// Whether a second attempt is harmless.
    const MAY_REPEAT: bool;
}

/// Making the call twice has the effect of once: a read, or a write with an idempotency key.
#[derive(Debug, Clone, Copy)]
pub enum Idempotent {}

/// A second call would have a second effect.
#[derive(Debug, Clone, Copy)]
pub enum AtMostOnce {}

/// The call has its place in an order (of a room, of a stream), which a second one would break.
///
/// Per-key bulkheads of one place keep that order.
#[derive(Debug, Clone, Copy)]
pub enum Ordered {}

mod sealed {
    #[expect(unnameable_types, reason = "nobody else names a kind of call")]
    pub trait Sealed {}
    impl Sealed for super::Idempotent {}
    impl Sealed for super::AtMostOnce {}
    impl Sealed for super::Ordered {}
}

impl Safety for Idempotent {
    const MAY_REPEAT: bool = true;
}

impl Safety for AtMostOnce {
    const MAY_REPEAT: bool = false;
}

impl Safety for Ordered {
    const MAY_REPEAT: bool = false;
}

/// Something that can be attempted.
pub trait Call: Send + Sync {
    /// What happens if it is attempted twice.
    type Safety: Safety;
    /// What it answers.
    type Output: Send;

    /// Begins an attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what the attempt was doing.
    fn attempt(&self) -> impl Future<Output = Result<Self::Output>> + Send;
}

impl<C: Call> Call for &C {
    type Safety = C::Safety;
    type Output = C::Output;

    fn attempt(&self) -> impl Future<Output = Result<Self::Output>> + Send {
        (**self).attempt()
    }
}

/// A call that may be repeated; see [`idempotent`].
#[derive(Clone, Copy)]
pub struct Repeatable<F>(F);

impl<F, R, T> Call for Repeatable<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<T>> + Send,
    T: Send,
{
    type Safety = Idempotent;
    type Output = T;

    fn attempt(&self) -> impl Future<Output = Result<T>> + Send {
        (self.0)()
    }
}

impl<F> fmt::Debug for Repeatable<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeatable")
    }
}

/// A call that is made once; see [`at_most_once`] and [`ordered`].
pub struct Single<F, S> {
    call: Mutex<Option<F>>,
    safety: PhantomData<fn(S)>,
}

impl<F, S> Single<F, S> {
    const fn new(call: F) -> Self {
        Self { call: Mutex::new(Some(call)), safety: PhantomData }
    }
}

impl<F, R, T, S> Call for Single<F, S>
where
    F: FnOnce() -> R + Send,
    R: Future<Output = Result<T>> + Send,
    T: Send,
    S: Safety,
{
    type Safety = S;
    type Output = T;

    async fn attempt(&self) -> Result<T> {
        let call = self.call.lock().take();
        let Some(call) = call else {
            let twice = "the call was attempted before";
            return Err(Error::new(ErrorKind::Internal, "attempt call").detail(twice));
        };
        call().await
    }
}

impl<F, S> fmt::Debug for Single<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Single")
    }
}

/// Says that a call may be made twice: a read, or a write with an idempotency key.
pub const fn idempotent<F, R, T>(call: F) -> Repeatable<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<T>> + Send,
{
    Repeatable(call)
}

/// Says that a call must not be made twice.
pub const fn at_most_once<F, R, T>(call: F) -> Single<F, AtMostOnce>
where
    F: FnOnce() -> R + Send,
    R: Future<Output = Result<T>> + Send,
{
    Single::new(call)
}

/// Says that a call has its place in an order.
pub const fn ordered<F, R, T>(call: F) -> Single<F, Ordered>
where
    F: FnOnce() -> R + Send,
    R: Future<Output = Result<T>> + Send,
{
    Single::new(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_single_call_is_made_once_whoever_tries_twice() {
        let call = at_most_once(|| async { Ok(7) });
        assert_eq!(call.attempt().await.unwrap(), 7);
        assert_eq!(*call.attempt().await.unwrap_err().kind(), ErrorKind::Internal);
        const { assert!(!Ordered::MAY_REPEAT && Idempotent::MAY_REPEAT) };
        assert_eq!(format!("{call:?} {:?}", idempotent(|| async { Ok(1) })), "Single Repeatable");
    }

    #[tokio::test]
    async fn an_idempotent_call_is_made_as_often_as_it_is_attempted() {
        let count = Mutex::new(0);
        let call = idempotent(|| async {
            *count.lock() += 1;
            Ok(())
        });
        call.attempt().await.unwrap();
        let by_reference = &call;
        by_reference.attempt().await.unwrap();
        assert_eq!(*count.lock(), 2);
        ordered(|| async { Ok(()) }).attempt().await.unwrap();
    }
}
