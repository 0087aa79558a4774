//! The running server.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use infra_core::{
    Clock, SystemClock, health::HealthCheck, lifecycle::Shutdown, metric::Declaration,
};
use infra_observability::{
    exporter::Exporter,
    health::{Group, Monitor, Options as HealthOptions},
    telemetry::Options as TelemetryOptions,
};
use infra_ws::{CloseCodes, Hub, OriginPolicy, token::KeyRing};
use tokio::net::TcpListener;

use super::{
    admin::{self, Admin},
    backends::Backends,
    edition,
    ending::Ending,
    followers,
    forgetting::{Forgetting, Memory},
    http,
    inside::Bounds,
    occupancy::Occupancy,
    overview::Observatory,
    pipeline::with_pipeline,
    public::{self, Public},
    replays::Replays,
};
use crate::{
    config::Settings,
    credentials::Credentials,
    limits::Limits,
    observe::{Instruments, ROOM, RoomTelemetry, alarms, checks},
    protocol::{Close, PROTOCOL},
    rooms::{self, Registry, Stores, close_of},
    session::Game,
    telemetry,
};

/// How often the alerts within the process are looked at.
const ALERTS_EVERY: Duration = Duration::from_secs(5);

/// The most connections of operators.
const OPERATORS: usize = 64;

/// Why the server did not start.
#[derive(Debug)]
pub struct StartError {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl StartError {
    fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// A server that serves.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    settings: Settings,
    backends: Backends,
    hub: Arc<Hub>,
    game: Arc<Game>,
    monitor: Arc<Monitor>,
    instruments: Instruments,
    telemetry: RoomTelemetry,
    /// The sockets and listeners; they end before the rooms do.
    edge: Shutdown,
    core: Shutdown,
    occupancy: Option<Arc<Occupancy>>,
    /// How long it took until it served.
    opening: Duration,
}

/// Every metric of every component that the server is made of.
pub(crate) fn declarations() -> Vec<Declaration> {
    [
        telemetry::METRICS,
        infra_cache::METRICS,
        infra_events::METRICS,
        infra_messaging::METRICS,
        infra_persistence::METRICS,
        infra_ratelimit::METRICS,
        infra_resilience::METRICS,
        infra_ws::METRICS,
        &infra_observability::declarations(),
        &RoomTelemetry::declarations(),
    ]
    .concat()
}

impl Server {
    /// Opens the stores that `settings` name and starts to serve, once no other process does so from
    /// the same data folder any more: for half as long again as it may take to end, it is waited for.
    ///
    /// # Errors
    ///
    /// What stands in the way, with its cause.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the start up.
    pub async fn start(
        settings: Settings,
        instruments: impl Into<Instruments>,
    ) -> Result<Self, StartError> {
        let clock = SystemClock::shared();
        let patience = settings.grace * 3 / 2;
        let occupancy = Occupancy::take(&settings.data, patience, clock.as_ref())
            .await
            .map_err(|error| StartError::new("take the data folder", error))?;
        let begun = clock.now();
        let backends = Backends::open(&settings, &clock)
            .await
            .map_err(|error| StartError::new("open the stores", error))?;
        match Self::start_on(settings, instruments, backends.clone(), Arc::clone(&clock)).await {
            Ok(started) => {
                let opening = clock.now().since(begun);
                tracing::info!(took = ?opening, "server serves");
                Ok(Self { occupancy: Some(Arc::new(occupancy)), opening, ..started })
            }
            Err(error) => {
                backends.close().await;
                Err(error)
            }
        }
    }

    /// Starts to serve over stores that are open.
    ///
    /// # Errors
    ///
    /// As for [`Server::start`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Server::start`].
    pub async fn start_on(
        settings: Settings,
        instruments: impl Into<Instruments>,
        backends: Backends,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let (instruments, begun) = (instruments.into(), clock.now());
        let (edge, core) = (Shutdown::new(), Shutdown::new());
        let backends = backends.guarded(settings.tuning.store_patience, &clock);
        let listener = bind(settings.addr).await?;
        let admin_listener = bind(settings.admin_addr).await?;
        let (addr, admin_addr) = (address(&listener)?, address(&admin_listener)?);
        let memory = memory(&backends, &clock).await?;
        let rooms = open_rooms(&settings, (&backends, &memory), &clock, &core).await?;
        let hub = Hub::new(hub_options(&settings), Arc::clone(&clock), edge.clone());
        let failed = |error| StartError::new("follow the games", error);
        let place = followers::place(&settings, &backends, &clock);
        let lifetime = settings.tuning.token_lifetime;
        let archive = followers::archive(&backends, &memory, place.clone(), &core).boxed();
        let clean_up = followers::clean_up(&backends, &memory, place, lifetime, &core).boxed();
        let (archive_queue, clean_up) = tokio::try_join!(archive, clean_up).map_err(failed)?;
        let bounds = Bounds::new([archive_queue.tasks(), clean_up.tasks()], &settings);
        let tasks: [Arc<dyn HealthCheck>; 2] = [Arc::new(archive_queue), Arc::new(clean_up)];
        let monitor = watch(&settings, (&backends, &rooms), tasks, &clock, &core);
        let observatory = observe(&instruments, &rooms, (&hub, &monitor, bounds), &clock, &core)?;
        let Rooms { registry, game, telemetry, limits } = rooms;
        let proxies = limits.proxies();
        let standings = followers::standings(&backends, &memory, &clock, &core).map_err(failed)?;
        let admin = Admin {
            forgetting: Forgetting::new(&memory, &backends, &standings, Some(&registry)),
            observatory,
            registry,
            standings: standings.clone(),
            token: settings.admin_token.as_deref().map(Arc::from),
            stop: edge.stop(),
        };
        let public = Public {
            hub: Arc::clone(&hub),
            game: Arc::clone(&game),
            monitor: Arc::clone(&monitor),
            standings,
            replays: Replays::new(Arc::clone(&memory.events), &backends, memory.people),
        };
        // Half-open connections are bounded like the others, beside those that are served.
        let connections = settings.connections as usize * 2;
        let layered = |router| with_pipeline(router, Arc::clone(&proxies), Arc::clone(&clock));
        http::serve(listener, layered(public::router(public, &limits)), connections, &edge);
        http::serve(admin_listener, layered(admin::router(admin)), OPERATORS, &edge);
        Ok(Self {
            addr,
            admin_addr,
            settings,
            backends,
            hub,
            game,
            monitor,
            instruments,
            telemetry,
            edge,
            core,
            occupancy: None,
            opening: clock.now().since(begun),
        })
    }

    /// Returns where players connect.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns where operators connect.
    pub const fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Returns what is counted.
    pub const fn exporter(&self) -> &Exporter {
        &self.instruments.exporter
    }

    /// Returns what is known of all rooms together.
    pub const fn telemetry(&self) -> &RoomTelemetry {
        &self.telemetry
    }

    /// Returns what keeps other processes from the data folder for as long as it lives: a process holds
    /// it until all of its threads have ended, since a store may still be closing when the server has.
    pub fn hold(&self) -> impl Send + use<> {
        self.occupancy.clone()
    }

    /// Waits until another process serves the same database; then this one is to be stopped. Where no
    /// other process can, it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn lost(&self) {
        self.backends.lost().await;
    }

    /// Ends the server: readiness off, clients told to come back, rooms and stores flushed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the server draining.
    pub async fn stop(self) {
        self.monitor.drain();
        let (ending, clock) =
            (Ending::within(self.settings.grace), Arc::clone(self.telemetry.clock()));
        let begun = clock.now();
        let (game, absence) = (&self.game, ending.absence(self.opening));
        let last_words = |connection: &_| game.last_words(connection, absence);
        let close = close_of(Close::Restart);
        let drained = self.hub.drain(close, ending.telling, ending.goodbyes, last_words).await;
        tracing::info!(asked = drained.asked, left = drained.left, "connections drained");
        let edge = self.edge.close(ending.edge).await;
        // What the clients left of the time is the rooms' and the queues', but for the stores' part.
        let left = ending.core_by.saturating_sub(clock.now().since(begun));
        let core = self.core.close(left.max(ending.core)).await;
        tracing::info!(edge = ?edge, core = ?core, "tasks ended");
        // What was acknowledged is durable already; a store that hangs keeps no process alive.
        if tokio::time::timeout(ending.stores, self.backends.close()).await.is_err() {
            tracing::warn!("the stores do not close");
        }
        self.telemetry.stream().close();
        self.telemetry.stop().await;
        self.instruments.close().await;
    }
}

/// The rooms and who speaks with them.
struct Rooms {
    registry: Arc<Registry>,
    game: Arc<Game>,
    telemetry: RoomTelemetry,
    limits: Limits,
}

/// Opens the keys of people's names and words, if this program may go on with the data at all.
async fn memory(backends: &Backends, clock: &Arc<dyn Clock>) -> Result<Memory, StartError> {
    let failed = |error| StartError::new("open the keys of people", error);
    // What is only read is read meanwhile; nothing is written before it is known that it may be.
    let checking = edition::check(backends.documents.as_ref()).boxed();
    let opening = Memory::open(backends, clock).boxed();
    let (may_go_on, memory) = tokio::join!(checking, opening);
    may_go_on.map_err(|error| StartError::new("go on with the data", error))?;
    let memory = memory.map_err(failed)?;
    memory.finish(backends, clock).await.map_err(failed)?;
    Ok(memory)
}

/// Opens the rooms that were playing, and the lobby.
async fn open_rooms(
    settings: &Settings,
    (backends, memory): (&Backends, &Memory),
    clock: &Arc<dyn Clock>,
    core: &Shutdown,
) -> Result<Rooms, StartError> {
    let ring = key_ring(settings)?;
    let failed = |error| StartError::new("set up the rooms", error);
    let documents = Arc::clone(&backends.documents);
    let credentials = Credentials::new(ring, documents, Arc::clone(clock))
        .map_err(failed)?
        .lifetime(settings.tuning.token_lifetime);
    let options = TelemetryOptions::default();
    let telemetry = RoomTelemetry::new("game-server", ROOM, options, Arc::clone(clock));
    telemetry.start();
    let (events, snapshots) = (Arc::clone(&memory.events), Arc::clone(&memory.snapshots));
    let (stores, bus) = (Stores { events, snapshots }, Arc::clone(&backends.bus));
    let options = room_options(settings);
    let registry = Registry::new(options, stores, bus, telemetry.clone(), core.clone());
    let going_on =
        async { followers::go_on(&registry, backends, core).await.map_err(failed) }.boxed();
    let ((), limits) = tokio::try_join!(going_on, limits(settings, clock).boxed())?;
    let game = Game::new(Arc::clone(&registry), credentials, limits.clone(), Arc::clone(clock));
    let game = Arc::new(
        game.settings(settings.room).told(settings.tuning.heartbeat, settings.resume_events),
    );
    let (lobby, stop) = (Arc::clone(&game), core.stop());
    core.spawn(async move { lobby.run(stop).await });
    Ok(Rooms { registry, game, telemetry, limits })
}

/// Starts to ask how the server is.
fn watch(
    settings: &Settings,
    (backends, rooms): (&Backends, &Rooms),
    tasks: [Arc<dyn HealthCheck>; 2],
    clock: &Arc<dyn Clock>,
    core: &Shutdown,
) -> Arc<Monitor> {
    let disk = (settings.data.as_path(), settings.tuning.disk_low);
    let mut checks = checks(backends.checks.clone(), disk, clock);
    // Tasks that wait are no reason to turn players away; without a shared limiter the server goes on
    // with its share.
    let others = tasks.into_iter().chain(rooms.limits.health());
    checks.extend(others.map(|check| (Group::Info, check)));
    Monitor::start_grouped(HealthOptions::default(), Arc::clone(clock), checks, core)
}

/// Starts to watch the server: alerts, log levels, rates.
fn observe(
    instruments: &Instruments,
    rooms: &Rooms,
    (hub, monitor, bounds): (&Arc<Hub>, &Arc<Monitor>, Bounds),
    clock: &Arc<dyn Clock>,
    core: &Shutdown,
) -> Result<Arc<Observatory>, StartError> {
    let failed = |error| StartError::new("declare the alerts", error);
    let alerts = alarms(Arc::clone(clock), &rooms.telemetry).map_err(failed)?;
    core.spawn(alerts.clone().run(instruments.exporter.clone(), ALERTS_EVERY, core.stop()));
    if let Some(levels) = instruments.levels() {
        core.spawn(levels.run(core.stop()));
    }
    let observatory = Arc::new(Observatory {
        exporter: instruments.exporter.clone(),
        telemetry: rooms.telemetry.clone(),
        alerts,
        levels: instruments.levels(),
        registry: Arc::clone(&rooms.registry),
        hub: Arc::clone(hub),
        monitor: Arc::clone(monitor),
        bounds,
        started: clock.now(),
        clock: Arc::clone(clock),
        seconds: parking_lot::Mutex::default(),
    });
    let (watching, stop) = (Arc::clone(&observatory), core.stop());
    core.spawn(async move { watching.run(stop).await });
    Ok(observatory)
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError::new("read own address", error))
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(addr).await;
    bound.map_err(|error| StartError::new(format!("listen on {addr}"), error))
}

fn key_ring(settings: &Settings) -> Result<KeyRing, StartError> {
    let failed = |error| StartError::new("open the key ring of resume tokens", error);
    std::fs::create_dir_all(&settings.data).map_err(failed)?;
    KeyRing::open(&settings.data.join("keys.json")).map_err(failed)
}

fn room_options(settings: &Settings) -> rooms::Options {
    rooms::Options {
        rooms: settings.rooms as usize,
        resume_events: settings.resume_events,
        linger: settings.tuning.room_linger,
        idle: settings.tuning.room_idle,
        snapshot_events: settings.tuning.snapshot_events,
    }
}

async fn limits(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Limits, StartError> {
    Limits::new(&settings.limits, settings.connections_per_address, clock)
        .await
        .map_err(|error| StartError::new("declare the rate limits", error))
}

fn hub_options(settings: &Settings) -> infra_ws::Options {
    let origin = if settings.allow_origin.is_empty() {
        OriginPolicy::same_host()
    } else {
        OriginPolicy::listed(settings.allow_origin.clone())
    };
    let heartbeat = settings.tuning.heartbeat;
    infra_ws::Options::new(origin)
        .protocol(PROTOCOL)
        .message_bytes(crate::protocol::MESSAGE_BYTES)
        .heartbeat(heartbeat, heartbeat * 2 + Duration::from_secs(5))
        .connections(settings.connections as usize, settings.connections_per_address as usize)
        .trust_proxies(settings.limits.proxies.iter().copied())
        .codes(CloseCodes {
            first_message: close_of(Close::FirstMessageDeadline),
            silent: close_of(Close::Silent),
            unfinished: close_of(Close::UnfinishedMessage),
            slow: close_of(Close::SlowConsumer),
        })
}
