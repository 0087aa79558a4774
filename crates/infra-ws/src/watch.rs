//! Watches the deadlines of a connection with one timer.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use infra_core::clock::{Instant, Timestamp};

use crate::{
    app::App,
    close::Close,
    connection::{Connection, State},
    driver::Driver,
    metered::Pulse,
    options::Options,
};

/// The least time between two looks, against clocks that stand still.
const STEP: Duration = Duration::from_millis(1);

/// What the timer was set by; a change may bring its end nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    unfinished: Option<Instant>,
    expiry: Timestamp,
}

impl<A: App> Driver<A> {
    /// Returns how to close the connection once a deadline has passed.
    ///
    /// The task is woken by its socket and its queue far more often than a deadline passes; then
    /// the clock is not even read.
    pub(crate) async fn watch(&self) -> Close {
        let (pulse, connection) = (self.pulse.as_ref(), &self.connection);
        let opened = pulse.now();
        let setting = || Setting { unfinished: pulse.unfinished(), expiry: connection.expiry() };
        let mut alarm = pin!(tokio::time::sleep(Duration::ZERO));
        let mut set_by = None;
        poll_fn(|cx| {
            loop {
                let now = setting();
                if set_by == Some(now) && alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                match look(pulse, connection, &self.options, opened) {
                    Err(close) => return Poll::Ready(close),
                    Ok(left) => alarm.set(tokio::time::sleep(left.max(STEP))),
                }
                set_by = Some(now);
            }
        })
        .await
    }
}

/// Returns how long it is to the next deadline, or how to close the connection.
fn look(
    pulse: &Pulse,
    connection: &Connection,
    options: &Options,
    opened: Instant,
) -> Result<Duration, Close> {
    let (now, codes) = (pulse.now(), &options.codes);
    let mut next = Duration::MAX;
    let mut check = |limit: Duration, passed: Duration, close: &Close| {
        let left = limit.saturating_sub(passed);
        next = next.min(left);
        if left.is_zero() { Err(close.clone()) } else { Ok(()) }
    };
    check(options.silence, pulse.silence(now), &codes.silent)?;
    if let Some(since) = pulse.unfinished() {
        check(options.assembly, now.since(since), &codes.unfinished)?;
    }
    if let (Some(limit), State::Open) = (options.identify, connection.state()) {
        check(limit, now.since(opened), &Close::UNIDENTIFIED)?;
    }
    let expiry = connection.expiry();
    if expiry.as_millis() != u64::MAX {
        check(expiry.since(pulse.clock().wall()), Duration::ZERO, &Close::EXPIRED)?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use infra_core::SystemClock;

    use super::*;
    use crate::{hub::Hub, origin::OriginPolicy};

    const LIMIT: Duration = Duration::from_secs(10);

    fn options() -> Options {
        Options::new(OriginPolicy::same_host()).unidentified(9, LIMIT).heartbeat(LIMIT, LIMIT * 3)
    }

    async fn look_after(wait: Duration, change: impl FnOnce(&Connection)) -> Result<Duration, u16> {
        let hub = Hub::for_tests(options());
        let (connection, _membership) = hub.connect_for_tests();
        let clock = SystemClock::shared();
        let pulse = Pulse::new(Arc::clone(&clock));
        let opened = clock.now();
        change(&connection);
        tokio::time::advance(wait).await;
        look(&pulse, &connection, &hub.options, opened).map_err(|close| close.code)
    }

    #[tokio::test(start_paused = true)]
    async fn the_nearest_deadline_counts() {
        let second = Duration::from_secs(1);
        assert_eq!(look_after(second, |_| {}).await, Ok(second * 9), "identification");
        assert_eq!(look_after(LIMIT, |_| {}).await, Err(4003));
        let identify = |connection: &Connection| connection.identify("ann").unwrap();
        assert_eq!(look_after(LIMIT, identify).await, Ok(LIMIT * 2), "silence");
        assert_eq!(look_after(LIMIT * 3, identify).await, Err(4006));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_closed_unless_it_is_renewed() {
        let until = |seconds| {
            move |connection: &Connection| {
                connection.identify("ann").unwrap();
                let now = SystemClock::shared().wall();
                connection.good_until(now.plus(Duration::from_secs(seconds)));
            }
        };
        assert_eq!(look_after(LIMIT, until(5)).await, Err(4009));
        let left = look_after(LIMIT, until(15)).await.unwrap();
        assert!(left <= Duration::from_secs(5), "{left:?}");
    }
}
