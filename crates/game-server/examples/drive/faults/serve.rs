//! The game-server within this program, with a disk and a clock that do what its input says.

use std::{
    io::{BufRead as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use clap::Parser as _;
use game_server::{
    config::{Backend, Cli, Settings},
    exporter,
    observe::{Instruments, sink},
    server::{Backends, Server},
};
use infra_core::{
    Clock, SystemClock,
    clock::{Instant, Timestamp},
};
use infra_persistence::Archive;
use infra_testkit::disk::{DiskFaults, Fault, Operation};
use tokio::signal::unix::{SignalKind, signal};

use crate::{faulty_disk::FaultyDisk, player::Failure};

/// The variable with what the disk and the clock do from the beginning.
pub(crate) const INJECTED: &str = "DRIVE_INJECTED";

/// The length of a segment: so short that a run needs new ones all the time.
const SEGMENT: u64 = 64 * 1024;

/// A clock whose wall time is wrong by some seconds.
#[derive(Debug)]
struct SkewedClock {
    right: Arc<dyn Clock>,
    ahead: AtomicI64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Instant {
        self.right.now()
    }

    fn wall(&self) -> Timestamp {
        let millis = self.ahead.load(Ordering::SeqCst) * 1_000;
        let right = self.right.wall().as_millis();
        Timestamp::from_millis(right.saturating_add_signed(millis))
    }
}

/// What can be told.
#[derive(Debug, Clone)]
struct Injection {
    disk: DiskFaults,
    clock: Arc<SkewedClock>,
}

impl Injection {
    fn obey(&self, line: &str) -> Result<(), Failure> {
        match line.split_once(' ') {
            None if line == "heal" => self.disk.heal(),
            None if line == "full" => self.disk.always(Operation::Allocate, Fault::Full),
            None if line == "broken" => self.disk.always(Operation::Sync, Fault::Broken),
            None if line == "slow" => {
                let pause = Fault::Slow(Duration::from_millis(500));
                self.disk.always(Operation::Sync, pause);
            }
            Some(("clock", seconds)) => {
                self.clock.ahead.store(seconds.parse()?, Ordering::SeqCst);
            }
            _ => return Err(format!("`{line}` is not to be told").into()),
        }
        Ok(())
    }
}

/// Serves until SIGTERM, or until nobody can tell it anything any more.
pub(crate) async fn main(words: &[String]) -> Result<(), Failure> {
    let words = std::iter::once("game-server".to_owned()).chain(words.iter().cloned());
    let settings = Settings::resolve(Cli::try_parse_from(words)?.options)?;
    let clock = Arc::new(SkewedClock { right: SystemClock::shared(), ahead: AtomicI64::new(0) });
    let injection = Injection { disk: DiskFaults::none(), clock: Arc::clone(&clock) };
    if let Ok(first) = std::env::var(INJECTED) {
        injection.obey(&first)?;
    }
    let clock: Arc<dyn Clock> = clock;
    let backends = match (&settings.events, &settings.documents, &settings.archive) {
        (Backend::Files(events), Backend::Files(documents), Backend::Files(archive)) => {
            let documents = infra_persistence::Options::new(documents).clock(Arc::clone(&clock));
            let (documents, _) = infra_persistence::embedded(documents).await?;
            let log = infra_events::Options::new(events)
                .segment_bytes(SEGMENT)
                .clock(Arc::clone(&clock))
                .disk(Arc::new(FaultyDisk(injection.disk.clone())));
            let mut backends = Backends::with_log(log, documents).await?;
            backends.archive = Arc::new(Archive::in_folder(archive)?);
            backends
        }
        _ => Backends::open(&settings, &clock).await?,
    };
    let sink = sink(&settings)?;
    let instruments = Instruments::install(&settings, Arc::clone(&clock), exporter(), sink)?;
    let server = Server::start_on(settings, instruments, backends, clock).await?;
    let (game, admin) = (server.addr(), server.admin_addr());
    let told = format!("game:      http://{game}/\ndashboard: http://{admin}/dashboard\n");
    std::io::stdout().write_all(told.as_bytes())?;
    let (listening, mut alone) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Err(error) = injection.obey(&line) {
                tracing::error!(error = %error, "not obeyed");
            }
        }
        drop(listening);
    });
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = &mut alone => {}
    }
    server.stop().await;
    Ok(())
}
