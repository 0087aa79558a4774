//! Plays many rooms at a fixed pace, whatever the server does, and measures latencies.
//!
//! Open loop: each action has its time, and latency counts from then to the moment a client of the
//! room has the event, so a server that falls behind cannot hide it.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    player::{Failure, Player, text},
    process::Process,
};

const HELP: &str = include_str!("help/load.txt");

#[derive(Debug, Clone, Copy)]
struct Step {
    rooms: u64,
    rate: u64,
    seconds: u64,
}

const STANDARD: [Step; 3] = [
    Step { rooms: 100, rate: 60, seconds: 60 },
    Step { rooms: 500, rate: 120, seconds: 60 },
    Step { rooms: 1_000, rate: 240, seconds: 60 },
];

/// Reads the options and runs.
pub(crate) async fn main(words: &[String]) -> Result<(), Failure> {
    let names = ["--rooms", "--rate", "--seconds", "--until"];
    let Some(options) = crate::options(words, HELP, &names)? else { return Ok(()) };
    let option = |name, default| options.get(name).copied().unwrap_or(default);
    let rooms = option("--rooms", 0);
    let one = Step { rooms, rate: option("--rate", 60).max(1), seconds: option("--seconds", 60) };
    if let Some(bound) = options.get("--until") {
        let first = Step { rooms: rooms.max(1), ..one };
        return grow(first, Duration::from_millis(*bound)).await;
    }
    for step in if rooms == 0 { STANDARD.to_vec() } else { vec![one] } {
        run(step).await?;
    }
    Ok(())
}

/// Runs with a tenth more rooms each time until p95 passes `bound`.
async fn grow(first: Step, bound: Duration) -> Result<(), Failure> {
    let mut step = first;
    loop {
        let p95 = run(step).await?;
        if bound < p95 {
            println!("with {} rooms p95 is beyond {bound:?}", step.rooms);
            return Ok(());
        }
        step.rooms += step.rooms.div_ceil(10);
    }
}

/// The latency of one delivery in microseconds.
type Latencies = mpsc::UnboundedSender<u64>;

/// Plays one step and prints what was measured; returns p95.
async fn run(step: Step) -> Result<Duration, Failure> {
    let folder = tempfile::tempdir()?;
    let options =
        ["--connections-per-address", "20000", "--connections", "20000", "--rooms", "20000"];
    let server = Process::start(folder.path(), "127.0.0.1:0", &options)?;
    let (sender, mut latencies) = mpsc::unbounded_channel();
    let begin = Instant::now() + Duration::from_millis(500 + step.rooms * 12);
    let sent = Arc::new(AtomicU64::new(0));
    let mut rooms = JoinSet::new();
    for room in 0..step.rooms {
        rooms.spawn(drive_room(
            server.addr,
            step,
            (room, begin),
            sender.clone(),
            Arc::clone(&sent),
        ));
        // Handshakes are not what is measured.
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
    drop(sender);
    let settled = server.busy().unwrap_or_default();
    let collect = tokio::spawn(async move {
        let mut histogram = Histogram::<u64>::new(3)?;
        while let Some(latency) = latencies.recv().await {
            histogram.record(latency.max(1))?;
        }
        Ok::<_, Failure>(histogram)
    });
    let length = Duration::from_secs(step.seconds);
    let mut samples = Vec::new();
    for sample in 1..=SAMPLES {
        tokio::time::sleep_until((begin + length * sample / SAMPLES).into()).await;
        samples.push(server.memory().unwrap_or_default());
    }
    let memory = Memory::of(&samples);
    while let Some(done) = rooms.join_next().await {
        done??;
    }
    let busy = server.busy().unwrap_or_default().saturating_sub(settled);
    let histogram = collect.await??;
    let sent = sent.load(Ordering::SeqCst);
    Measured { sent, memory, busy }.print(step, &histogram)?;
    let wanted = sent * 4;
    if histogram.len() < wanted {
        return Err(format!("{} deliveries are missing", wanted - histogram.len()).into());
    }
    Ok(Duration::from_micros(histogram.value_at_quantile(0.95)))
}

/// What was seen of the server, beside the latencies.
#[derive(Debug, Clone, Copy)]
struct Measured {
    sent: u64,
    memory: Memory,
    busy: Duration,
}

/// How often memory is looked at in one step.
const SAMPLES: u32 = 100;

/// The server's resident memory in bytes. One look may meet a peak of some milliseconds, so each is
/// the median of a fifth of all.
#[derive(Debug, Clone, Copy)]
struct Memory {
    half_way: u64,
    in_the_end: u64,
}

impl Memory {
    fn of(samples: &[u64]) -> Self {
        let median = |share: std::ops::Range<usize>| {
            let mut part = samples.get(share).unwrap_or_default().to_vec();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or_default()
        };
        let fifth = samples.len() / 5;
        Self {
            half_way: median(2 * fifth..3 * fifth),
            in_the_end: median(samples.len() - fifth..samples.len()),
        }
    }
}

impl Measured {
    fn print(self, step: Step, histogram: &Histogram<u64>) -> Result<(), Failure> {
        let Self { sent, memory: Memory { half_way, in_the_end }, busy } = self;
        let wanted = sent * 4;
        let milliseconds = |quantile| {
            let micros = histogram.value_at_quantile(quantile);
            Duration::from_micros(micros).as_secs_f64() * 1_000.0
        };
        println!(
            "{} rooms x 4 at {} actions/min for {} s: {} actions ({:.1}/s), {} of {wanted} \
             deliveries, broadcast p50 {:.2} ms p95 {:.2} ms p99 {:.2} ms max {:.1} ms, memory {} MiB \
             half way and {} in the end, {:.0} us of a processor for each action",
            step.rooms,
            step.rate,
            step.seconds,
            sent,
            f64::from(u32::try_from(sent)?) / f64::from(u32::try_from(step.seconds)?),
            histogram.len(),
            milliseconds(0.5),
            milliseconds(0.95),
            milliseconds(0.99),
            milliseconds(1.0),
            half_way / 1024 / 1024,
            in_the_end / 1024 / 1024,
            busy.as_secs_f64() * 1_000_000.0 / f64::from(u32::try_from(sent.max(1))?),
        );
        Ok(())
    }
}

async fn drive_room(
    addr: std::net::SocketAddr,
    step: Step,
    (room, begin): (u64, Instant),
    latencies: Latencies,
    sent: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut host = Player::connect(addr).await?;
    host.say(&json!({"type": "create_room", "name": "Player 0"})).await?;
    wait_for(&mut host, "joined").await?;
    let code = host.known.room.clone();
    let mut players = vec![host];
    for seat in 1..4 {
        let mut guest = Player::connect(addr).await?;
        let name = format!("Player {seat}");
        guest.say(&json!({"type": "join_room", "room": code, "name": name})).await?;
        wait_for(&mut guest, "joined").await?;
        players.push(guest);
    }
    let pause = Duration::from_mins(1) / u32::try_from(step.rate)?;
    let count = step.rate * step.seconds / 60;
    let offset =
        pause.mul_f64(f64::from(u32::try_from(room)?) / f64::from(u32::try_from(step.rooms)?));
    let schedule = Schedule { begin: begin + offset, pause, count };
    let mut clients = JoinSet::new();
    for (seat, player) in players.into_iter().enumerate() {
        let (latencies, sent) = (latencies.clone(), Arc::clone(&sent));
        clients.spawn(drive_player(player, seat as u64, schedule, latencies, sent));
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Schedule {
    begin: Instant,
    pause: Duration,
    count: u64,
}

impl Schedule {
    fn time_of(&self, number: u64) -> Instant {
        self.begin + self.pause * u32::try_from(number).unwrap_or(u32::MAX)
    }
}

async fn drive_player(
    mut player: Player,
    first: u64,
    schedule: Schedule,
    latencies: Latencies,
    sent: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut next = first;
    let mut action = 0;
    let mut seen = 0;
    let end = schedule.time_of(schedule.count) + Duration::from_secs(10);
    while seen < schedule.count && Instant::now() < end {
        let at = schedule.time_of(next);
        let is_done = schedule.count <= next;
        let wait = if is_done { end } else { at };
        tokio::select! {
            () = tokio::time::sleep_until(wait.into()), if !is_done => {
                action += 1;
                sent.fetch_add(1, Ordering::SeqCst);
                let said = json!({"type": "chat", "action": action, "text": format!("n{next}")});
                player.say(&said).await?;
                next += 4;
            }
            text = player.unread(Duration::from_secs(20)) => {
                let text = text?.ok_or("the server closed the connection")?;
                let heard: Heard<'_> = serde_json::from_str(&text)?;
                if let Some(number) = heard.number() {
                    let latency = schedule.time_of(number).elapsed();
                    let _counted = latencies.send(u64::try_from(latency.as_micros())?);
                    seen += 1;
                }
                if heard.kind == "refused" {
                    return Err(format!("refused: {text}").into());
                }
            }
        }
    }
    Ok(())
}

/// What counts of a message: the generator shares the machine with what it measures, and reads no more.
#[derive(Debug, Deserialize)]
struct Heard<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event: Option<Said<'a>>,
}

#[derive(Debug, Deserialize)]
struct Said<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

impl Heard<'_> {
    /// Returns the number of a spoken word.
    fn number(&self) -> Option<u64> {
        let said = self.event.as_ref().filter(|said| said.kind == "chat")?;
        said.text.as_ref()?.strip_prefix('n')?.parse().ok()
    }
}

pub(crate) async fn wait_for(player: &mut Player, wanted: &str) -> Result<(), Failure> {
    loop {
        let message = player.next().await?.ok_or("closed too early")?;
        player.take(&message)?;
        match text(&message, "type") {
            kind if kind == wanted => return Ok(()),
            "refused" | "error" => return Err(message.to_string().into()),
            _ => {}
        }
    }
}
