//! The connection: up or lost, and who brings it back.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use infra_core::{Clock, Error, ErrorKind, Result, limit::Charge, random::Random};
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use super::{
    Options, Time,
    outage::Share,
    permits::{Permit, Permits},
    script::{Answer, Current, Decide, Line, Mode},
};
use crate::telemetry::{LOST, OUTAGES, UNSETTLED};

/// How many ended reservations wait to be given back.
const MOST_UNSETTLED: usize = 1 << 14;

/// How many keys one script takes.
const BATCH: usize = 64;

/// The least time between two renewals of permits.
const LEAST_LEASE: Duration = Duration::from_millis(1);

/// How long an attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(1);

/// The connection and what waits to be told through it.
#[derive(Debug)]
pub(super) struct Store {
    shared: Arc<Shared>,
    pub(super) is_lost: Arc<AtomicBool>,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    client: Client,
    clock: Arc<dyn Clock>,
    random: Random,
    script: Decide,
    connection: Mutex<Option<MultiplexedConnection>>,
    is_lost: Arc<AtomicBool>,
    unsettled: Mutex<VecDeque<Line>>,
    /// Ended reservations that Redis has not been told of yet, also those on their way.
    n_unsettled: AtomicUsize,
    settling: AsyncMutex<()>,
    permits: Permits,
    wake: Notify,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Store {
    pub(super) async fn connect(
        options: Options,
        clock: Arc<dyn Clock>,
        random: Random,
        share: Arc<Share>,
    ) -> Result<Arc<Self>> {
        let client = Client::open(options.url.as_str()).map_err(|error| {
            Error::new(ErrorKind::Invalid, "open rate-limit store").because(error)
        })?;
        let is_lost = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            options,
            client,
            clock,
            random,
            script: Decide::new(),
            connection: Mutex::new(None),
            is_lost: Arc::clone(&is_lost),
            unsettled: Mutex::default(),
            n_unsettled: AtomicUsize::new(0),
            settling: AsyncMutex::new(()),
            permits: Permits::default(),
            wake: Notify::new(),
        });
        if !shared.reconnect().await {
            shared.lose();
        }
        let keeper = tokio::spawn(keep(Arc::clone(&shared), share));
        Ok(Arc::new(Self { shared, is_lost, keeper }))
    }

    pub(super) fn line(&self, charge: &Charge, current: Current) -> Line {
        self.shared.line(charge, current)
    }

    /// Asks the script; none if Redis is lost, from now on or already.
    pub(super) async fn ask(&self, lines: &[Line], mode: Mode) -> Option<Answer> {
        // SeqCst pairs with `settle_later`: what this task let go before is seen here.
        if 0 < self.shared.n_unsettled.load(Ordering::SeqCst) {
            self.shared.settle().await;
        }
        self.shared.run(lines, mode).await
    }

    /// Forgets a key; false if Redis is lost, from now on or already.
    pub(super) async fn forget(&self, line: &Line) -> bool {
        self.shared.tell(redis::cmd("DEL").arg(&line.key)).await
    }

    /// Returns whether Redis answers; if not, it is lost from now on or already.
    pub(super) async fn is_there(&self) -> bool {
        !self.is_lost.load(Ordering::Acquire) && self.shared.tell(&redis::cmd("PING")).await
    }

    /// Gives back what a reservation did not use, soon.
    pub(super) fn settle_later(&self, line: Line) {
        self.shared.settle_later(line);
    }

    pub(super) fn permits(&self) -> &Permits {
        &self.shared.permits
    }
}

impl Shared {
    fn settle_later(&self, line: Line) {
        let mut unsettled = self.unsettled.lock();
        if MOST_UNSETTLED <= unsettled.len() {
            UNSETTLED.add(1);
            return;
        }
        self.n_unsettled.fetch_add(1, Ordering::SeqCst);
        unsettled.push_back(line);
        drop(unsettled);
        self.wake.notify_one();
    }

    fn line(&self, charge: &Charge, current: Current) -> Line {
        Line::new(&self.options.namespace, charge, current, self.options.lease)
    }

    fn now(&self) -> Option<u64> {
        match self.options.time {
            Time::Server => None,
            Time::Clock => u64::try_from(self.clock.now().since_start().as_micros()).ok(),
        }
    }

    async fn run(&self, lines: &[Line], mode: Mode) -> Option<Answer> {
        let mut connection = self.connection.lock().clone()?;
        let asked = self.script.run(&mut connection, lines, mode, self.now());
        match tokio::time::timeout(self.options.timeout, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "rate-limit store fails");
                self.lose();
                None
            }
            Err(_) => {
                tracing::warn!(timeout = ?self.options.timeout, "rate-limit store is slow");
                self.lose();
                None
            }
        }
    }

    /// Sends a command of which only matters that it is done; false if Redis is lost.
    async fn tell(&self, command: &redis::Cmd) -> bool {
        let Some(mut connection) = self.connection.lock().clone() else { return false };
        let told = command.query_async::<redis::Value>(&mut connection);
        let is_done = matches!(tokio::time::timeout(self.options.timeout, told).await, Ok(Ok(_)));
        if !is_done {
            self.lose();
        }
        is_done
    }

    fn lose(&self) {
        if !self.is_lost.swap(true, Ordering::AcqRel) {
            OUTAGES.add(1);
            LOST.set(1.0);
            self.wake.notify_one();
        }
    }

    async fn reconnect(&self) -> bool {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.options.timeout.max(CONNECT)));
        let made = self.client.get_multiplexed_async_connection_with_config(&config);
        let Ok(Ok(connection)) = tokio::time::timeout(CONNECT, made).await else { return false };
        *self.connection.lock() = Some(connection);
        true
    }

    /// Tells Redis of every reservation that has ended, one at a time, in one turn.
    async fn settle(&self) {
        let turn = self.settling.lock().await;
        loop {
            let line = self.unsettled.lock().pop_front();
            let Some(line) = line else { break };
            let _told = Told(&self.n_unsettled);
            if self.run(std::slice::from_ref(&line), Mode::Settle).await.is_none() {
                UNSETTLED.add(1);
            }
        }
        drop(turn);
    }

    /// Begins the leases of all permits that are out again, and tells of them a Redis that has forgotten.
    async fn renew(&self, share: &Share) {
        for batch in self.permits.all().chunks(BATCH) {
            let line = |(number, permit): &(u64, Permit)| {
                let charge = &permit.charge;
                let current = share.current(charge.limit, &charge.key)?;
                let (unused, paid_at) = (charge.cost.get(), permit.paid_at);
                let line = Line { unused, paid_at, ..self.line(charge, current) };
                current.limit.is_held().then_some((*number, line))
            };
            let (numbers, lines): (Vec<_>, Vec<_>) = batch.iter().filter_map(line).unzip();
            if lines.is_empty() {
                continue;
            }
            let Some(Answer { now, .. }) = self.run(&lines, Mode::Renew).await else { return };
            for (number, line) in numbers.into_iter().zip(lines) {
                if !self.permits.renewed(number, now) {
                    self.settle_later(Line { paid_at: now, ..line });
                }
            }
        }
    }

    /// Adds what passed while Redis was lost; false if it is lost again.
    async fn merge(&self, share: &Share) -> bool {
        let passed = share.passed();
        for batch in passed.chunks(BATCH) {
            let lines: Vec<_> =
                batch.iter().map(|(charge, current)| self.line(charge, *current)).collect();
            if self.run(&lines, Mode::Force).await.is_none() {
                UNSETTLED.add(lines.len().try_into().unwrap_or(u64::MAX));
                return false;
            }
        }
        true
    }

    /// Tries to come back once.
    async fn recover(&self, share: &Share) {
        // A server that still reads its files takes connections and refuses everything: what passed
        // would be told to nobody.
        let is_there = self.reconnect().await && self.tell(&redis::cmd("PING")).await;
        if !is_there || !self.merge(share).await {
            return;
        }
        self.is_lost.store(false, Ordering::Release);
        LOST.set(0.0);
        // What was decided alone while the merge was on its way.
        if self.merge(share).await {
            share.forget();
        }
        self.renew(share).await;
    }

    /// Returns a pause between half and one and a half of the mean.
    fn pause(&self) -> Duration {
        self.options.probe.mul_f64(0.5 + self.random.unit())
    }
}

/// Counts a reservation as told when it is, or when the telling is given up.
struct Told<'a>(&'a AtomicUsize);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives back what reservations did not use, renews the leases of permits, and brings a lost Redis
/// back.
async fn keep(shared: Arc<Shared>, share: Arc<Share>) {
    let mut renewals = tokio::time::interval((shared.options.lease / 3).max(LEAST_LEASE));
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if shared.is_lost.load(Ordering::Acquire) {
            tokio::time::sleep(shared.pause()).await;
            shared.recover(&share).await;
            continue;
        }
        shared.settle().await;
        tokio::select! {
            () = shared.wake.notified() => {}
            _ = renewals.tick() => shared.renew(&share).await,
        }
    }
}
