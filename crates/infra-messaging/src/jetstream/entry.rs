//! What stands in the log: commands, in the order in which every process carries them out.
//!
//! ```text
//! entry    version 1 (u8), writer (u64), number (u64), previous (u64), time (u64 ms), commands
//! command  length (u32), MessagePack
//! ```
//!
//! Integers are big-endian. `previous` is the sequence of the entry before, so a reader notices
//! what it has missed; `writer` and `number` tell whoever wrote an entry that it is there.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::Codec as _,
    id::MessageId,
    queue::{Cause, Settlement},
};
use serde::{Deserialize, Serialize};

use crate::{codec::MessagePack, queue::shortened, wire::Envelope};

const VERSION: u8 = 1;

/// The bytes of an entry before its commands.
pub(super) const HEAD: usize = 1 + 4 * 8;

/// The bytes before a command.
pub(super) const LENGTH: usize = 4;

/// What somebody wants of the queue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Command {
    Publish(Vec<Envelope>),
    Take {
        limit: u64,
        lease: Duration,
    },
    Settle {
        number: u64,
        lease: u64,
        verdict: Verdict,
    },
    Extend {
        number: u64,
        lease: u64,
        length: Duration,
    },
    Replay(MessageId),
    Purge {
        before: Timestamp,
        cause: Option<String>,
    },
    Pause(bool),
    /// Nothing but that time has passed.
    Pass,
    /// Added later; a process that does not know it ends its replica.
    Clear,
}

/// A settlement as it is written; as much of its reason as a queue keeps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Verdict {
    Ack,
    Nack { delay: Duration, reason: String },
    Release,
    Crash { reason: String },
    DeadLetter { reason: String },
}

impl From<Settlement> for Verdict {
    fn from(settlement: Settlement) -> Self {
        match settlement {
            Settlement::Ack => Self::Ack,
            Settlement::Nack { delay, reason } => Self::Nack { delay, reason: shortened(&reason) },
            Settlement::Release => Self::Release,
            Settlement::Crash { reason } => Self::Crash { reason: shortened(&reason) },
            Settlement::DeadLetter { reason } => Self::DeadLetter { reason: shortened(&reason) },
        }
    }
}

impl From<Verdict> for Settlement {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Ack => Self::Ack,
            Verdict::Nack { delay, reason } => Self::Nack { delay, reason },
            Verdict::Release => Self::Release,
            Verdict::Crash { reason } => Self::Crash { reason },
            Verdict::DeadLetter { reason } => Self::DeadLetter { reason },
        }
    }
}

impl Command {
    pub(super) fn purge(before: Timestamp, cause: Option<Cause>) -> Self {
        Self::Purge { before, cause: cause.map(|cause| cause.name().to_owned()) }
    }

    pub(super) fn encode(&self) -> Result<Bytes> {
        MessagePack::encode(self)
    }
}

/// The first part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) writer: u64,
    pub(super) number: u64,
    pub(super) previous: u64,
    pub(super) at: Timestamp,
}

/// Writes an entry of commands that are encoded already.
pub(super) fn encode(head: Head, commands: &[Bytes]) -> Bytes {
    let mut entry = BytesMut::with_capacity(HEAD);
    entry.put_u8(VERSION);
    for number in [head.writer, head.number, head.previous, head.at.as_millis()] {
        entry.put_u64(number);
    }
    for command in commands {
        entry.put_u32(u32::try_from(command.len()).unwrap_or(u32::MAX));
        entry.put_slice(command);
    }
    entry.freeze()
}

/// Reads an entry.
pub(super) fn decode(mut entry: Bytes) -> Result<(Head, Vec<Command>)> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "read log of queue");
    if entry.len() < HEAD {
        return Err(corrupt().detail(format!("an entry of {} bytes", entry.len())));
    }
    let version = entry.get_u8();
    if version != VERSION {
        let detail = format!("version {version}, at most {VERSION}");
        return Err(Error::new(ErrorKind::Unsupported, "read log of queue").detail(detail));
    }
    let (writer, number, previous) = (entry.get_u64(), entry.get_u64(), entry.get_u64());
    let at = Timestamp::from_millis(entry.get_u64());
    let mut commands = Vec::new();
    while !entry.is_empty() {
        let length = entry.try_get_u32().map_err(|_| corrupt())? as usize;
        if entry.len() < length {
            return Err(corrupt().detail(format!("{length} bytes of {}", entry.len())));
        }
        commands.push(MessagePack::decode(&entry.split_to(length))?);
    }
    Ok((Head { writer, number, previous, at }, commands))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD_1: Head =
        Head { writer: 7, number: 2, previous: 40, at: Timestamp::from_millis(1_234) };

    fn entry() -> Bytes {
        let verdict = Verdict::Nack { delay: Duration::from_secs(2), reason: "no".to_owned() };
        let commands = [
            Command::Take { limit: 3, lease: Duration::from_secs(30) },
            Command::Settle { number: 1, lease: 2, verdict },
            Command::purge(Timestamp::from_millis(9), Some(Cause::Failed)),
            Command::Clear,
            Command::Pass,
        ];
        let commands: Vec<Bytes> =
            commands.iter().map(|command| command.encode().unwrap()).collect();
        encode(HEAD_1, &commands)
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let (head, commands) = decode(entry()).unwrap();
        assert_eq!(head, HEAD_1);
        let told = format!("{commands:?}");
        assert!(told.contains("Take { limit: 3, lease: 30s }"), "{told}");
        assert!(told.contains("Nack { delay: 2s, reason: \"no\" }"), "{told}");
        assert_eq!(commands.len(), 5);
        let mut newer = entry().to_vec();
        newer[0] = 2;
        assert_eq!(*decode(newer.into()).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    proptest! {
        /// Whatever stands in the log is read or refused; nothing of it is made up.
        #[test]
        fn damage_is_refused(cut in 0..200_usize, at in 0..200_usize, bit in 0..8_u8) {
            let whole = entry();
            let torn = whole.slice(..cut.min(whole.len() - 1));
            // A cut between two commands leaves an entry that is whole.
            if let Ok((head, commands)) = decode(torn) {
                prop_assert!(head == HEAD_1 && commands.len() < 5);
            }
            let mut flipped = whole.to_vec();
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
            let _is_read = decode(flipped.into()).is_ok();
        }
    }
}
