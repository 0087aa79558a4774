//! A TCP proxy that spoils connections on purpose.

mod talk;
mod weather;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

pub use self::weather::Weather;
use self::{
    talk::Talk,
    weather::{Fate, Sky},
};

/// How many bytes are passed on at a time, at most.
const CHUNK: usize = 4 * 1024;

/// What happens to a connection; by default nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// How long each chunk waits, in each direction.
    pub delay: Duration,
    /// How many bytes pass in a second, in each direction; no limit by default.
    pub bytes_per_second: Option<u64>,
    /// After so many bytes to the client both sides are cut, in the middle of whatever it was.
    pub cut_after: Option<u64>,
    /// After so many bytes to the server both sides are cut, in the middle of whatever it was.
    pub cut_up_after: Option<u64>,
    /// After so many bytes to the client the rest is swallowed; the connection stays open.
    pub swallow_after: Option<u64>,
    /// The connection is accepted, and never answered.
    pub half_open: bool,
}

/// Stands in front of a server and does to connections what its [`Faults`] say.
///
/// Faults hold for connections that are opened after they were set, the [`Weather`] for all of them.
/// Dropping the proxy cuts all connections.
///
/// ```
/// use infra_testkit::proxy::{FaultProxy, Faults};
///
/// # async fn example(server: std::net::SocketAddr) -> std::io::Result<()> {
/// let proxy = FaultProxy::start(server).await?;
/// proxy.set(Faults { cut_after: Some(100), ..Faults::default() });
/// // Who connects to `proxy.addr()` now hears a hundred bytes of the server, and no more.
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    faults: Arc<Mutex<Faults>>,
    sky: Arc<Sky>,
    questions: Arc<AtomicU64>,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free loopback port for connections to `server`.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future starts nothing.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        Self::seeded(server, 0).await
    }

    /// Does the same with a seed of your own for the chances of the [`Weather`].
    ///
    /// # Errors
    ///
    /// As for [`FaultProxy::start`].
    ///
    /// # Cancel safety
    ///
    /// As for [`FaultProxy::start`].
    pub async fn seeded(server: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (faults, sky) = (Arc::<Mutex<Faults>>::default(), Arc::new(Sky::new(seed)));
        let (cuts, cut) = watch::channel(0);
        let questions = Arc::<AtomicU64>::default();
        let all = (Arc::clone(&faults), Arc::clone(&sky), Arc::clone(&questions));
        let accept = accept(listener, server, all, cut);
        Ok(Self { addr, faults, sky, questions, cuts, task: tokio::spawn(accept) })
    }

    /// Returns where clients connect.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets what happens to connections from now on.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Sets the weather for all connections from now on.
    pub fn weather(&self, weather: Weather) {
        self.sky.set(weather);
    }

    /// Returns how many chunks and connections the weather has kept from arriving.
    pub fn struck(&self) -> u64 {
        self.sky.struck()
    }

    /// Returns how often clients asked something: what a client says between two answers is one question,
    /// so this counts the round trips of all connections, those included that open them.
    pub fn questions(&self) -> u64 {
        self.questions.load(Relaxed)
    }

    /// Cuts all connections that are open.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves each connection in a task of its own; they end with this future.
async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    (faults, sky, questions): (Arc<Mutex<Faults>>, Arc<Sky>, Arc<AtomicU64>),
    cut: watch::Receiver<u64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (faults, sky, questions) = (*faults.lock(), Arc::clone(&sky), Arc::clone(&questions));
        let mut cut = cut.clone();
        cut.mark_unchanged();
        connections.spawn(async move {
            let talk = Talk::new(&questions);
            tokio::select! {
                // How it ended is for the two ends to see.
                _ended = serve((client, server), faults, &sky, &talk) => {}
                _ = cut.changed() => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// How the bytes of one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    /// They go nowhere, and nobody is told.
    Lost,
}

async fn serve(
    (mut client, server): (TcpStream, SocketAddr),
    faults: Faults,
    sky: &Sky,
    talk: &Talk<'_>,
) -> io::Result<()> {
    if faults.half_open {
        return std::future::pending().await;
    }
    match sky.of_connection() {
        Fate::Arrives | Fate::ArrivesAfter(_) => {}
        Fate::Cut => return Ok(()),
        Fate::Lost => return swallow(client.split().0).await,
    }
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let upward = Faults { cut_after: faults.cut_up_after, swallow_after: None, ..faults };
    let end = tokio::select! {
        ended = pass((&mut from_client, to_server), upward, sky, || talk.asks()) => ended?,
        ended = pass((from_server, to_client), faults, sky, || talk.answers()) => ended?,
    };
    match end {
        End::Closed => Ok(()),
        End::Lost => swallow(from_client).await,
    }
}

/// Takes what a client says until it gives up, and answers nothing.
async fn swallow(mut from: impl AsyncRead + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map(|_| ())
}

/// Passes bytes on until the end or a cut, and tells of each chunk that is heard.
async fn pass(
    (mut from, mut to): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    faults: Faults,
    sky: &Sky,
    heard: impl Fn(),
) -> io::Result<End> {
    let mut chunk = vec![0; CHUNK];
    let mut passed = 0_u64;
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(End::Closed);
        }
        heard();
        match sky.of_chunk() {
            Fate::Arrives => {}
            Fate::ArrivesAfter(stall) => tokio::time::sleep(stall).await,
            Fate::Cut => return Ok(End::Closed),
            Fate::Lost => return Ok(End::Lost),
        }
        tokio::time::sleep(faults.delay).await;
        if let Some(rate) = faults.bytes_per_second {
            tokio::time::sleep(Duration::from_secs(1).mul_f64(share(read, rate))).await;
        }
        let left = |limit: Option<u64>| {
            let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(passed));
            usize::try_from(left).unwrap_or(usize::MAX).min(read)
        };
        let (swallowed, cut) = (left(faults.swallow_after), left(faults.cut_after));
        to.write_all(chunk.get(..swallowed.min(cut)).unwrap_or_default()).await?;
        if cut < read {
            return Ok(End::Closed);
        }
        passed += read as u64;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
fn share(bytes: usize, rate: u64) -> f64 {
    bytes as f64 / rate.max(1) as f64
}
