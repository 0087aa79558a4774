//! Whether snapshots tell the truth: they are held against a replay from the beginning.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Result,
    event::{Direction, EventStore},
    id::StreamName,
    lifecycle::Stop,
    random::Random,
    snapshot::SnapshotStore,
    version::Version,
};

use super::{
    envelope::{self, StateDigest},
    events,
    journal::Journal,
    migration::Migrations,
    options::{DurableOptions, Strategy},
    persistent::Persistent,
    telemetry,
};

/// How many events are read at a time.
const PAGE: usize = 512;

/// What an audit of one machine came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audit {
    /// Every snapshot that could be compared is what a replay comes to.
    Sound {
        /// How many were compared.
        compared: usize,
        /// How many could not be: damaged, of another history, or of an older schema.
        passed_over: usize,
    },
    /// One is not.
    Differs(Finding),
    /// The beginning of the stream is gone, so nothing can be compared.
    NoBeginning,
}

/// A snapshot that a replay did not come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The machine's name.
    pub machine: &'static str,
    /// The machine's stream.
    pub stream: StreamName,
    /// The version of the snapshot that differs.
    pub version: Version,
    /// The first event after which states differ: exactly, where two replays differ from each other;
    /// otherwise the first one behind the last snapshot that agrees.
    pub first_differing: Version,
    /// Whether two replays of the same events differ: `evolve` depends on more than its arguments.
    pub is_random: bool,
}

/// Replays a machine from its first event and compares the state's digest with that of each snapshot.
///
/// # Errors
///
/// What the stores fail with, and what cannot be read.
///
/// # Cancel safety
///
/// Dropping the future has no effect.
pub async fn audit<M: Persistent>(stream: &StreamName, options: &DurableOptions) -> Result<Audit> {
    let Strategy::Hybrid { events, snapshots } = &options.strategy else {
        return Ok(Audit::Sound { compared: 0, passed_over: 0 });
    };
    let Some(info) = events.stream_info(stream).await? else {
        return Ok(Audit::Sound { compared: 0, passed_over: 0 });
    };
    if info.first != Version::new(1) {
        return Ok(Audit::NoBeginning);
    }
    let journal = Journal::new(stream.clone(), options.clone());
    let (taken, passed_over) = digests::<M>(snapshots, &journal).await?;
    let compared = taken.len();
    let mut replay = Replay::<M>::new(stream, events, &options.migrations);
    let mut agreed = Version::ZERO;
    for (version, wanted) in taken {
        replay.advance(version).await?;
        if replay.digest()? == wanted {
            agreed = version;
            continue;
        }
        let random = first_random::<M>(stream, events, &options.migrations, version).await?;
        let finding = Finding {
            machine: M::NAME,
            stream: stream.clone(),
            version,
            first_differing: random.unwrap_or_else(|| agreed.next()),
            is_random: random.is_some(),
        };
        telemetry::FINDINGS.add(1);
        return Ok(Audit::Differs(finding));
    }
    Ok(Audit::Sound { compared, passed_over })
}

/// Returns the digests of the snapshots, oldest first, and how many cannot be compared.
async fn digests<M: Persistent>(
    snapshots: &Arc<dyn SnapshotStore>,
    journal: &Journal,
) -> Result<(Vec<(Version, StateDigest)>, usize)> {
    let (mut taken, mut passed_over) = (Vec::new(), 0);
    for version in snapshots.versions(&journal.stream).await?.into_iter().rev() {
        match journal.read_snapshot::<M>(snapshots, version).await {
            Ok((opened, _)) if !opened.is_migrated => taken.push((version, opened.digest)),
            Ok(_) | Err(_) => passed_over += 1,
        }
    }
    Ok((taken, passed_over))
}

/// Returns the first event after which two replays of the same events differ.
async fn first_random<M: Persistent>(
    stream: &StreamName,
    events: &Arc<dyn EventStore>,
    migrations: &Migrations,
    until: Version,
) -> Result<Option<Version>> {
    let mut one = Replay::<M>::new(stream, events, migrations);
    let mut other = Replay::<M>::new(stream, events, migrations);
    while one.version < until {
        let next = one.version.next();
        one.advance(next).await?;
        other.advance(next).await?;
        if one.digest()? != other.digest()? {
            return Ok(Some(next));
        }
    }
    Ok(None)
}

/// A replay from the first event, a piece at a time.
#[derive(Debug)]
struct Replay<'a, M> {
    stream: &'a StreamName,
    events: &'a Arc<dyn EventStore>,
    migrations: &'a Migrations,
    machine: M,
    version: Version,
}

impl<'a, M: Persistent> Replay<'a, M> {
    fn new(
        stream: &'a StreamName,
        events: &'a Arc<dyn EventStore>,
        migrations: &'a Migrations,
    ) -> Self {
        Self { stream, events, migrations, machine: M::default(), version: Version::ZERO }
    }

    async fn advance(&mut self, to: Version) -> Result<()> {
        while self.version < to {
            let n_left =
                usize::try_from(to.get().saturating_sub(self.version.get())).unwrap_or(PAGE);
            let from = self.version.next();
            let page = self
                .events
                .read_stream(self.stream, from, Direction::Forward, n_left.min(PAGE))
                .await?;
            if page.is_empty() {
                return Ok(());
            }
            for recorded in page {
                if let Some(event) = events::decode::<M>(&recorded, self.migrations)? {
                    self.machine.evolve(&event);
                }
                self.version = recorded.version;
            }
        }
        Ok(())
    }

    fn digest(&self) -> Result<StateDigest> {
        envelope::digest(&self.machine)
    }
}

/// Audits a sample of machines again and again, in the background.
#[derive(Debug)]
pub struct Auditor {
    options: DurableOptions,
    every: Duration,
    n_sample: usize,
    random: Random,
}

impl Auditor {
    /// Creates an auditor that looks at `n_sample` machines at a time.
    pub const fn new(
        options: DurableOptions,
        every: Duration,
        n_sample: usize,
        random: Random,
    ) -> Self {
        Self { options, every, n_sample, random }
    }

    /// Audits until it is told to stop; `machines` names those that there are, `report` takes each result.
    ///
    /// An audit that fails is logged and counted for nothing; the next round tries others.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the round that runs.
    pub async fn run<M: Persistent>(
        self,
        machines: impl Fn() -> Vec<StreamName> + Send,
        report: impl Fn(&StreamName, &Audit) + Send,
        stop: Stop,
    ) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            let mut names = machines();
            for _ in 0..self.n_sample.min(names.len()) {
                let place = usize::try_from(self.random.below(names.len() as u64)).unwrap_or(0);
                let stream = names.swap_remove(place);
                match audit::<M>(&stream, &self.options).await {
                    Ok(found) => report(&stream, &found),
                    Err(error) => tracing::warn!(%stream, %error, "a machine could not be audited"),
                }
            }
        }
    }
}
