//! Two processes in front of one Redis: what one removes the other does not serve, over a link that works
//! and over one that is dead without a word.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use infra_cache::{
    Loaded, Options, Origin, Tiered, TieredBuilder,
    redis::{RedisCache, RedisOptions},
};
use infra_core::{
    SystemClock,
    cache::Cache,
    health::{HealthCheck as _, Status},
    lifecycle::Shutdown,
    pubsub::PubSub,
};
use infra_messaging::RedisPubSub;
use infra_testkit::{
    proxy::{FaultProxy, Weather},
    server::{Kind, Server},
};

use crate::killed::number;

const OWN: &str = "cache_processes::what_one_process_removes_no_other_serves_beyond_the_silence";
/// Where the second process reaches Redis, and where the source is.
const LINK: &str = "INFRA_CACHE_LINK";
const SOURCE: &str = "INFRA_CACHE_SOURCE";
/// After how long without a sign of the other processes the memory is not read.
const SILENCE: Duration = Duration::from_secs(3);
const KEY: &str = "score";
/// How long anything may take on a busy machine before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The time of day, which both processes read alike.
#[expect(clippy::disallowed_methods, reason = "it is compared between two processes")]
fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// Makes a cache whose second tier and bus are reached by `url`, and waits until its memory is read.
async fn open(url: &str, shutdown: &Shutdown) -> Tiered<u64> {
    let clock = SystemClock::shared();
    let remote = RedisOptions::new(url, "processes").timeout(Duration::from_secs(1));
    let remote = RedisCache::connect(remote, Arc::clone(&clock)).await.unwrap();
    let remote: Arc<dyn Cache> = Arc::new(remote);
    let bus: Arc<dyn PubSub> = Arc::new(RedisPubSub::connect(url, 1_000).await.unwrap());
    let options = Options::new(1_000).ttl(Duration::from_mins(10));
    let cache =
        TieredBuilder::new(options, clock).remote(remote).backplane(bus, "processes", SILENCE);
    let cache: Tiered<u64> = cache.build();
    shutdown.spawn(cache.backplane().run(shutdown.stop()));
    while cache.check().await.status != Status::Up {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cache
}

/// What all processes read and one changes: a number that Redis keeps for itself, on a link of its own.
#[derive(Debug, Clone)]
struct Source(redis::aio::MultiplexedConnection);

impl Source {
    async fn connect(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    async fn get(&self) -> u64 {
        let mut line = self.0.clone();
        redis::cmd("GET").arg("truth").query_async(&mut line).await.unwrap()
    }

    async fn set(&self, number: u64) {
        let mut line = self.0.clone();
        let () = redis::cmd("SET").arg("truth").arg(number).query_async(&mut line).await.unwrap();
    }
}

/// The second process: reads again and again, and says each change of what it reads.
async fn read(link: &str, source: &str) {
    let shutdown = Shutdown::new();
    let source = Source::connect(source).await;
    let cache = open(link, &shutdown).await;
    let (mut last, mut last_begun) = (None, 0);
    loop {
        let begun = micros();
        let source = source.clone();
        let load = move || async move { Ok(Loaded::new(source.get().await)) };
        let read = cache.read_or_load(KEY, load).await.unwrap();
        let found = (read.value.unwrap(), read.origin == Origin::Local);
        if last != Some(found) {
            let (number, is_local) = found;
            println!("\nread {number} {} {begun} {last_begun} {}", u8::from(is_local), micros());
            std::io::stdout().flush().unwrap();
        }
        (last, last_begun) = (Some(found), begun);
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

/// A change of what the second process reads.
#[derive(Debug, Clone, Copy)]
struct Change {
    number: u64,
    is_local: bool,
    /// When the last read began that found what was before.
    last_before: u64,
    /// When this was read.
    at: u64,
}

/// The second process; it ends with this value.
struct Reader {
    child: Child,
    _stdin: Option<ChildStdin>,
    changes: mpsc::Receiver<Change>,
    seen: u64,
}

impl Reader {
    fn start(link: &str, source: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([OWN, "--exact", "--nocapture"])
            .env(LINK, link)
            .env(SOURCE, source)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let (sender, changes) = mpsc::channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let Some(words) = line.strip_prefix("read ") else { continue };
                let words: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
                let change = Change {
                    number: words[0],
                    is_local: words[1] == 1,
                    last_before: words[3],
                    at: words[4],
                };
                if sender.send(change).is_err() {
                    return;
                }
            }
        });
        Self { _stdin: child.stdin.take(), child, changes, seen: 0 }
    }

    /// Waits for a change that is wanted; what is read never goes back.
    fn until(&mut self, is_wanted: impl Fn(Change) -> bool) -> Change {
        loop {
            let change = self.changes.recv_timeout(PATIENCE).expect("the reader hangs");
            assert!(self.seen <= change.number, "{change:?} after {}", self.seen);
            self.seen = change.number;
            if is_wanted(change) {
                return change;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_ok() && self.child.wait().is_ok();
    }
}

/// `INFRA_REMOVALS` removals, 100 by default; 2,000 for the full run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_removes_no_other_serves_beyond_the_silence() {
    if let (Ok(link), Ok(source)) = (std::env::var(LINK), std::env::var(SOURCE)) {
        return read(&link, &source).await;
    }
    let server = Server::start(Kind::Redis).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let through = |addr: SocketAddr| format!("redis://{addr}");
    let source = Source::connect(&server.url()).await;
    source.set(0).await;
    let shutdown = Shutdown::new();
    let here = open(&server.url(), &shutdown).await;
    let mut there = Reader::start(&through(proxy.addr()), &server.url());

    // While the link works, a removal is heard of by its message, long before the silence is over.
    let removals = number("INFRA_REMOVALS").unwrap_or(100);
    let mut late: Vec<u64> = Vec::new();
    for number in 1..=removals {
        there.until(|change| change.number == number - 1 && change.is_local);
        source.set(number).await;
        here.invalidate(KEY).await.unwrap();
        let removed = micros();
        let change = there.until(|change| change.number == number);
        late.push(change.last_before.saturating_sub(removed));
    }
    late.sort_unstable();
    let p99 = late[late.len() * 99 / 100];
    println!("removals seen elsewhere: p50 {} us, p99 {p99} us", late[late.len() / 2]);
    assert!(u128::from(p99) < SILENCE.as_micros(), "{p99} us: the messages did not come");

    // Over a dead link the memory is read until the silence is over, and not beyond it.
    there.until(|change| change.is_local);
    proxy.weather(Weather::Outage);
    let dead = micros();
    source.set(removals + 1).await;
    here.invalidate(KEY).await.unwrap();
    let change = there.until(|change| change.number == removals + 1);
    let outdated = change.last_before.saturating_sub(dead);
    println!("an older value was read for {outdated} us after the link was dead");
    assert!(u128::from(outdated) <= SILENCE.as_micros(), "{outdated} us");
    assert!(!change.is_local);
    source.set(removals + 2).await;
    there.until(|change| change.number == removals + 2);

    // Once the link works again memory is read again, and holds nothing from before.
    proxy.weather(Weather::Calm);
    let healed = micros();
    let change = there.until(|change| change.is_local);
    assert!(healed <= change.at, "memory was read over a dead link");
    println!("memory is read again after {} us", change.at - healed);
    source.set(removals + 3).await;
    here.invalidate(KEY).await.unwrap();
    there.until(|change| change.number == removals + 3);
    drop(there);
    shutdown.close(Duration::from_secs(5)).await;
}
