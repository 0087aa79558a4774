//! The script, what it is asked and what it answers.

use std::time::Duration;

use infra_core::limit::Charge;
use redis::{RedisError, RedisResult, Script, aio::MultiplexedConnection};

use crate::limit::{Algorithm, Limit};

/// How many numbers the script says of a key.
const WORDS: usize = 4;

/// What a decision is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Acquire,
    /// As `Acquire`, for a charge that may be given back.
    Reserve,
    Peek,
    /// Pays whatever it is: what passed while Redis was lost.
    Force,
    /// Gives back what was not used.
    Settle,
    /// Begins the lease of a permit again.
    Renew,
}

impl Mode {
    const fn word(self) -> &'static str {
        match self {
            Self::Acquire | Self::Reserve => "acquire",
            Self::Peek => "peek",
            Self::Force => "force",
            Self::Settle => "settle",
            Self::Renew => "renew",
        }
    }
}

/// A limit as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    pub(super) limit: Limit,
    /// How long ago it became so, if it has been something else.
    pub(super) changed_ago: Option<Duration>,
}

/// One key of a decision.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) key: String,
    pub(super) limit: Limit,
    pub(super) lease: Duration,
    pub(super) cost: u32,
    pub(super) unused: u32,
    pub(super) paid_at: u64,
    /// How long ago the limit became what it is, if it has been something else.
    pub(super) changed_ago: Option<Duration>,
}

impl Line {
    pub(super) fn new(namespace: &str, charge: &Charge, current: Current, lease: Duration) -> Self {
        Self {
            name: charge.limit,
            key: format!("{{{namespace}}}:{}:{}", charge.limit, charge.key),
            limit: current.limit,
            lease,
            cost: charge.cost.get(),
            unused: 0,
            paid_at: 0,
            changed_ago: current.changed_ago,
        }
    }

    /// Returns the algorithm's name, and the nanoseconds of a token or the microseconds of a window.
    fn kind(&self) -> (&'static str, u64) {
        let micros = |length| micros(length).max(1);
        match self.limit.algorithm {
            Algorithm::Bucket(quota) => ("bucket", crate::time::nanos(quota.refill())),
            Algorithm::Fixed(window) => ("fixed", micros(window.length())),
            Algorithm::Sliding(window) => ("sliding", micros(window.length())),
            Algorithm::Log(window) => ("log", micros(window.length())),
            Algorithm::Concurrent(_) => ("held", micros(self.lease)),
        }
    }
}

/// What the script says of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// 0 fits, 1 waits, 2 never.
    pub(super) code: u64,
    pub(super) wait: Duration,
    pub(super) spent: u32,
    pub(super) reset: Duration,
}

/// What the script answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The time of the decision in microseconds.
    pub(super) now: u64,
    pub(super) lines: Vec<Said>,
}

/// The script, loaded into the server when it is missing there.
#[derive(Debug)]
pub(super) struct Decide(Script);

impl Decide {
    pub(super) fn new() -> Self {
        Self(Script::new(include_str!("decide.lua")))
    }

    /// Runs the script over some keys at a time in microseconds, or at the server's.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        lines: &[Line],
        mode: Mode,
        now: Option<u64>,
    ) -> RedisResult<Answer> {
        let mut invocation = self.0.prepare_invoke();
        invocation.arg(now.map_or_else(String::new, |now| now.to_string())).arg(mode.word());
        for line in lines {
            let (kind, size) = line.kind();
            invocation.key(&line.key).arg(kind).arg(line.cost).arg(line.limit.capacity());
            invocation.arg(size).arg(micros(line.limit.block)).arg(u8::from(line.limit.is_shadow));
            let ago = line.changed_ago.map(|ago| micros(ago).to_string()).unwrap_or_default();
            invocation.arg(line.unused).arg(line.paid_at).arg(ago);
        }
        let words: Vec<u64> = invocation.invoke_async(connection).await?;
        parse(&words, lines.len()).ok_or_else(|| malformed(words.len()))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn parse(words: &[u64], n_lines: usize) -> Option<Answer> {
    let (now, rest) = words.split_first()?;
    let (lines, rest) = rest.as_chunks::<WORDS>();
    let said = |&[code, wait, spent, reset]: &[u64; WORDS]| Said {
        code,
        wait: Duration::from_nanos(wait),
        spent: u32::try_from(spent).unwrap_or(u32::MAX),
        reset: Duration::from_nanos(reset),
    };
    (rest.is_empty() && lines.len() == n_lines)
        .then(|| Answer { now: *now, lines: lines.iter().map(said).collect() })
}

fn malformed(n_words: usize) -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "script answer", format!("{n_words} words")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_length_is_none() {
        let said = Said {
            code: 1,
            wait: Duration::from_nanos(5),
            spent: u32::MAX,
            reset: Duration::from_nanos(7),
        };
        let answer = Answer { now: 9, lines: vec![said] };
        assert_eq!(parse(&[9, 1, 5, u64::MAX, 7], 1), Some(answer));
        for words in [&[][..], &[9], &[9, 1, 5, 6], &[9, 1, 5, 6, 7, 8]] {
            assert_eq!(parse(words, 1), None);
        }
        assert!(malformed(3).to_string().contains("3 words"));
    }
}
