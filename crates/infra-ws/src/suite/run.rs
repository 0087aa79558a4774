//! Drives a site by a seed.

use std::{fmt, time::Duration};

use infra_core::random::Random;
use serde_json::json;

use super::{Breach, Published, Site, Socket, Trouble, Viewer};
use crate::{
    history::{Place, Window},
    wire::{Cause, ClientMessage, Code, Recovered, ServerMessage},
};

/// How often a viewer tries to see the end of the stream once the trouble is over.
const ROUNDS: u32 = 40;

/// The most sockets that a viewer leaves open beside its current one.
const MOST_STALE: usize = 3;

/// How long an answer is waited for; on paused time this costs nothing.
const ANSWER: Duration = Duration::from_secs(20);

/// How a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    steps: u32,
    viewers: u32,
    replay: u64,
    quiet: Duration,
    pause: Duration,
}

impl Plan {
    /// Creates a plan for a site that sends at most `replay` events again: 60 steps, 3 viewers.
    pub const fn new(replay: u64) -> Self {
        let (quiet, pause) = (Duration::from_millis(20), Duration::from_millis(100));
        Self { steps: 60, viewers: 3, replay, quiet, pause }
    }

    /// Sets how many steps there are, and how many viewers.
    #[must_use]
    pub const fn size(mut self, steps: u32, viewers: u32) -> Self {
        self.steps = steps;
        self.viewers = viewers;
        self
    }

    /// Sets after how long without a message a viewer has heard everything, for now, and how long
    /// a pause is; 20 and 100 ms by default. In a pause a site must find what its nodes were not
    /// told of.
    #[must_use]
    pub const fn times(mut self, quiet: Duration, pause: Duration) -> Self {
        self.quiet = quiet;
        self.pause = pause;
        self
    }
}

/// What happened in a run, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Tally {
    pub published: u64,
    pub delivered: u64,
    pub fresh: u64,
    pub recovered: u64,
    pub epoch_changed: u64,
    pub too_old: u64,
    pub ahead: u64,
    /// A viewer was told on a live socket that it does not hear everything.
    pub told: u64,
    pub cuts: u64,
    pub doubles: u64,
    /// A socket ended that nobody had cut.
    pub ended: u64,
    pub kills: u64,
    /// A token was not good any more, or an entry was refused for now.
    pub refused: u64,
}

impl Tally {
    /// Adds what happened in another run.
    pub const fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.fresh += other.fresh;
        self.recovered += other.recovered;
        self.epoch_changed += other.epoch_changed;
        self.too_old += other.too_old;
        self.ahead += other.ahead;
        self.told += other.told;
        self.cuts += other.cuts;
        self.doubles += other.doubles;
        self.ended += other.ended;
        self.kills += other.kills;
        self.refused += other.refused;
    }

    const fn note(&mut self, recovered: Recovered) {
        match recovered {
            Recovered::Fresh => self.fresh += 1,
            Recovered::Recovered { .. } => self.recovered += 1,
            Recovered::NotRecovered { reason } => match reason {
                Cause::EpochChanged => self.epoch_changed += 1,
                Cause::TooOld | Cause::Overrun => self.too_old += 1,
                Cause::Ahead => self.ahead += 1,
            },
        }
    }
}

/// The law was broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// The step; one beyond the last for the end.
    pub step: u32,
    /// How.
    pub breach: Breach,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, step {}: {}", self.seed, self.step, self.breach)
    }
}

impl std::error::Error for Violation {}

/// Runs one seed against a fresh site.
///
/// # Errors
///
/// How the law was broken. What the site itself fails with counts as [`Breach::Refused`].
///
/// # Cancel safety
///
/// Dropping the future ends the run.
pub async fn run<S: Site>(seed: u64, site: &mut S, plan: &Plan) -> Result<Tally, Violation> {
    let viewers = (0..plan.viewers).map(|n| Client::new(format!("user-{n}"))).collect();
    let mut run = Run {
        site,
        plan,
        random: Random::seeded(seed),
        published: Published::default(),
        viewers,
        tally: Tally::default(),
        asked: 0,
    };
    for step in 0..plan.steps {
        run.step().await.map_err(|breach| Violation { seed, step, breach })?;
    }
    let end = run.settle().await;
    end.map_err(|breach| Violation { seed, step: plan.steps, breach })?;
    Ok(run.tally)
}

/// A socket and where its viewer stands on it.
struct Session<S> {
    viewer: Viewer,
    socket: S,
    node: usize,
}

/// A user with its current socket, and such as it left open.
struct Client<S> {
    viewer: Viewer,
    token: Option<String>,
    current: Option<Session<S>>,
    stale: Vec<Session<S>>,
}

impl<S> Client<S> {
    fn new(user: String) -> Self {
        let viewer = Viewer::new(user);
        Self { viewer, token: None, current: None, stale: Vec::new() }
    }
}

struct Run<'a, S: Site> {
    site: &'a mut S,
    plan: &'a Plan,
    random: Random,
    published: Published,
    viewers: Vec<Client<S::Socket>>,
    tally: Tally,
    asked: u64,
}

/// What a viewer heard until it was quiet.
#[derive(PartialEq)]
enum Quiet {
    Open,
    Ended,
}

impl<S: Site> Run<'_, S> {
    async fn step(&mut self) -> Result<(), Breach> {
        let node = self.below(self.site.nodes());
        let who = self.below(self.viewers.len());
        match self.random.below(100) {
            0..30 => self.publish(node).await,
            30..60 => self.listen(who).await,
            60..70 => {
                self.cut(who);
                Ok(())
            }
            70..86 => self.come(who, node).await,
            86..90 => {
                tokio::time::sleep(self.plan.pause).await;
                Ok(())
            }
            90..92 => self.kill(node).await,
            luck => {
                let all = [Trouble::Renew, Trouble::Lose, Trouble::Disorder, Trouble::Frail];
                let trouble = usize::try_from((luck - 92) / 2).ok().and_then(|n| all.get(n));
                self.site.trouble(trouble.copied().unwrap_or(Trouble::Calm)).await;
                Ok(())
            }
        }
    }

    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap_or(0)
    }

    async fn publish(&mut self, node: usize) -> Result<(), Breach> {
        for _ in 0..=self.random.below(8) {
            self.tally.published += 1;
            // Some are long, so that a reader which is slow for long enough is too slow.
            let long = "x".repeat(self.below(4) * 200);
            let event =
                json!({"n": self.tally.published, "for": self.random.below(4), "long": long});
            let place = self.site.publish(node, &event).await;
            let place = place.map_err(|_| Breach::Refused(Code::Unavailable))?;
            self.published.note(&place, event)?;
        }
        Ok(())
    }

    async fn kill(&mut self, node: usize) -> Result<(), Breach> {
        self.tally.kills += 1;
        self.site.trouble(Trouble::Kill(node)).await;
        Ok(())
    }

    fn cut(&mut self, who: usize) {
        let Some(client) = self.viewers.get_mut(who) else { return };
        if let Some(session) = client.current.take() {
            client.viewer = session.viewer;
            self.tally.cuts += 1;
        }
    }

    /// Lets a viewer hear what there is on all of its sockets.
    async fn listen(&mut self, who: usize) -> Result<(), Breach> {
        let Some(client) = self.viewers.get_mut(who) else { return Ok(()) };
        let (site, published) = (&*self.site, &self.published);
        let mut open = Vec::new();
        for mut session in client.stale.drain(..) {
            if hear(&mut session, site, published, self.plan.quiet).await? == Quiet::Open {
                open.push(session);
            }
        }
        client.stale = open;
        let Some(mut session) = client.current.take() else { return Ok(()) };
        let was_inside = session.viewer.is_inside();
        let before = session.viewer.delivered();
        let quiet = hear(&mut session, site, published, self.plan.quiet).await?;
        self.tally.delivered += session.viewer.delivered() - before;
        self.tally.told += u64::from(was_inside && !session.viewer.is_inside());
        client.viewer = session.viewer.clone();
        match quiet {
            Quiet::Open => client.current = Some(session),
            Quiet::Ended => self.tally.ended += 1,
        }
        Ok(())
    }

    /// Lets a viewer come, or come back, whether its socket is still open or not.
    async fn come(&mut self, who: usize, node: usize) -> Result<(), Breach> {
        self.listen(who).await?;
        let before = self.kept().await?;
        let Some(socket) = self.site.connect(node).await else { return Ok(()) };
        let is_by_token = self.random.below(3) < 2;
        let is_liar = self.random.below(12) == 0;
        let Some(client) = self.viewers.get_mut(who) else { return Ok(()) };
        let mut viewer = client.viewer.clone();
        viewer.reconnect(&self.published);
        let mut claim = viewer.seen().cloned();
        if let Some(claim) = claim.as_mut().filter(|claim| is_liar && !claim.epoch.is_empty()) {
            claim.offset += 1_000;
        }
        let token = client.token.clone().filter(|_| is_by_token);
        let is_replacing = token.is_some();
        let mut session = Session { viewer, socket, node };
        let room = self.site.room().to_owned();
        let entering = Entering { room: &room, token, claim: claim.clone(), id: self.asked + 1 };
        self.asked += 2;
        let entered = tokio::time::timeout(ANSWER, enter(&mut session, entering)).await;
        let joined = match entered.unwrap_or(Ok(Entered::Ended)) {
            Ok(Entered::Joined(joined)) => joined,
            Ok(Entered::Ended) => {
                self.tally.ended += 1;
                return Ok(());
            }
            Err(Code::BadToken | Code::Unavailable) => {
                self.tally.refused += 1;
                client.token = None;
                return Ok(());
            }
            Err(code) => return Err(Breach::Refused(code)),
        };
        client.token = Some(joined.token);
        if let Some(stale) = client.current.take() {
            self.tally.doubles += 1;
            if is_replacing && stale.node == node {
                ends(stale.socket).await?;
            } else {
                client.stale.push(stale);
                let n_old = client.stale.len().saturating_sub(MOST_STALE);
                client.stale.drain(..n_old);
            }
        }
        self.tally.note(joined.recovered);
        let after = self.kept().await?;
        let said = (&joined.from, joined.recovered);
        session.viewer.joined(claim.as_ref(), said, (&before, &after), self.plan.replay)?;
        if let Some(client) = self.viewers.get_mut(who) {
            client.viewer = session.viewer.clone();
            client.current = Some(session);
        }
        Ok(())
    }

    /// Ends the trouble; everybody must see the end of the stream.
    async fn settle(&mut self) -> Result<(), Breach> {
        self.site.trouble(Trouble::Calm).await;
        for who in 0..self.viewers.len() {
            let mut round = 0;
            loop {
                self.listen(who).await?;
                let kept = self.kept().await?;
                let Some(client) = self.viewers.get(who) else { break };
                let is_open = client.current.is_some();
                let settled = client.viewer.settled(&kept);
                round += 1;
                match settled {
                    Ok(()) if is_open => break,
                    Err(stuck) if ROUNDS <= round => return Err(stuck),
                    Ok(()) | Err(_) if is_open && client.viewer.is_inside() => {
                        tokio::time::sleep(self.plan.pause).await;
                    }
                    Ok(()) | Err(_) => self.come(who, self.below(self.site.nodes())).await?,
                }
            }
        }
        Ok(())
    }

    async fn kept(&mut self) -> Result<Window, Breach> {
        self.site.window().await.map_err(|_| Breach::Refused(Code::Unavailable))
    }
}

/// Hears messages until none has come for a while.
async fn hear<S: Site>(
    session: &mut Session<S::Socket>,
    site: &S,
    published: &Published,
    quiet: Duration,
) -> Result<Quiet, Breach> {
    let view = |user: &str, event: &serde_json::Value| site.view(user, event);
    loop {
        match tokio::time::timeout(quiet, session.socket.receive()).await {
            Ok(Some(message)) => {
                // Looked at behind the message: what was gone when it was sent is gone now.
                let kept = site.window().await.map_err(|_| Breach::Refused(Code::Unavailable))?;
                session.viewer.hear(&message, published, &kept, view)?;
            }
            Ok(None) => return Ok(Quiet::Ended),
            Err(_) => return Ok(Quiet::Open),
        }
    }
}

/// Waits for the end of a socket whose place another took.
async fn ends(mut socket: impl Socket) -> Result<(), Breach> {
    let end = async { while socket.receive().await.is_some() {} };
    tokio::time::timeout(ANSWER, end).await.map_err(|_| Breach::Stale)
}

/// How a viewer enters.
struct Entering<'a> {
    room: &'a str,
    token: Option<String>,
    claim: Option<Place>,
    id: u64,
}

struct Joined {
    from: Place,
    recovered: Recovered,
    token: String,
}

enum Entered {
    Joined(Joined),
    Ended,
}

/// Enters by a resume token, or by name.
async fn enter<S: Socket>(session: &mut Session<S>, how: Entering<'_>) -> Result<Entered, Code> {
    let Entering { room, token, claim, id } = how;
    let mut words = Vec::new();
    if let Some(token) = token {
        words.push(ClientMessage::Resume { id, token, from: claim });
    } else {
        words.push(ClientMessage::Connect { token: Some(session.viewer.user().to_owned()) });
        words.push(ClientMessage::Join { id, room: room.to_owned(), seat: None, from: claim });
    }
    for word in &words {
        if !session.socket.send(word).await {
            return Ok(Entered::Ended);
        }
    }
    while let Some(message) = session.socket.receive().await {
        if let ServerMessage::Joined { from, recovered, token, .. } = message {
            return Ok(Entered::Joined(Joined { from, recovered, token }));
        }
        if let ServerMessage::Error { code, .. } = message {
            return Err(code);
        }
        if matches!(message, ServerMessage::Events { .. }) {
            return Err(Code::NotInRoom);
        }
    }
    Ok(Entered::Ended)
}
