//! A queue as a value that can be written down whole and read again, so that a replica of it goes on
//! exactly as the one that it was taken of.

use std::time::Duration;

use infra_core::{
    Result,
    clock::{Instant, Timestamp},
    queue::Message,
};
use serde::{Deserialize, Serialize};

use super::{Moment, State};
use crate::{
    queue::{
        entry::{Entry, Number, Whereabouts},
        options::Options,
    },
    wire::{Envelope, Letter, Record},
};

/// A whole queue; its instants are counted from the start of its clock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    last: u64,
    n_taken: u32,
    is_paused: bool,
    entries: Vec<(Number, Pictured)>,
    dead: Vec<(Number, Letter)>,
    known: Vec<(String, Duration)>,
    parked: Vec<(Number, Number)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pictured {
    message: Envelope,
    record: Record,
    published: Timestamp,
    end: Option<Duration>,
    /// When it is ready, or, in somebody's hands, until when.
    from: Duration,
    lease: Option<u64>,
}

impl State {
    /// Takes an image of the queue. It is not for queues that are fair to keys or keep a journal.
    pub(crate) fn image(&self) -> Image {
        let entries = self.entries.iter().map(|(number, entry)| (*number, pictured(entry)));
        let known = self.forgotten.iter().map(|(end, id)| (id.clone(), end.since_start()));
        Image {
            last: self.last,
            n_taken: self.ready.n_taken(),
            is_paused: self.is_paused,
            entries: entries.collect(),
            dead: self.dead.all().map(|(number, letter)| (*number, letter.into())).collect(),
            known: known.collect(),
            parked: self.parked.iter().map(|(letter, held)| (*letter, held.place)).collect(),
        }
    }

    /// Creates the queue of an image, at the moment when it was taken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](infra_core::ErrorKind::Corrupt) if a message in it is none.
    pub(crate) fn from_image(options: Options, image: Image, at: Moment) -> Result<Self> {
        let mut state = Self::new(options);
        state.counted = 0;
        state.is_paused = image.is_paused;
        for (number, letter) in image.dead {
            state.restore_dead(number, letter.try_into()?);
        }
        state.restore_parked(&image.parked);
        let mut whereabouts = Vec::new();
        for (number, pictured) in image.entries {
            let place = pictured.place();
            let entry = pictured.entry(at)?;
            if let Some(key) = &entry.message.key {
                state.lanes.entry(key.clone()).or_default().numbers.insert(number);
            }
            state.n_unwritten += 1;
            state.entries.insert(number, Box::new(entry));
            whereabouts.push((number, place));
        }
        // Each key is whole now, so only its first message is offered.
        for (number, place) in whereabouts {
            state.n_unwritten -= 1;
            state.change(number, at, |entry| entry.at = place);
        }
        for (id, end) in image.known {
            let end = Instant::from_start(end);
            state.known.insert(id.clone(), end);
            state.forgotten.push_back((end, id));
        }
        state.ready.restore(image.n_taken);
        state.last = image.last;
        state.counted = 1;
        Ok(state)
    }
}

fn pictured(entry: &Entry) -> Pictured {
    let (from, lease) = match entry.at {
        Whereabouts::Unwritten(from) | Whereabouts::Waiting(from) => (from, None),
        Whereabouts::Leased { lease, until } => (until, Some(lease)),
    };
    Pictured {
        message: (&entry.message).into(),
        record: Record::new(entry.attempts, &entry.history),
        published: entry.published,
        end: entry.end.map(Instant::since_start),
        from: from.since_start(),
        lease,
    }
}

impl Pictured {
    const fn place(&self) -> Whereabouts {
        let from = Instant::from_start(self.from);
        match self.lease {
            Some(lease) => Whereabouts::Leased { lease, until: from },
            None => Whereabouts::Waiting(from),
        }
    }

    /// Returns the entry, which is nowhere yet.
    fn entry(self, at: Moment) -> Result<Entry> {
        let message: Message = self.message.try_into()?;
        let mut entry = Entry::new(message, at.now, self.published);
        (entry.attempts, entry.history) = self.record.read();
        entry.end = self.end.map(Instant::from_start);
        entry.at = Whereabouts::Unwritten(at.now);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use infra_core::{
        codec::{Codec, Payload},
        id::MessageId,
        queue::{Priority, Settlement},
        random::Random,
    };

    use super::*;
    use crate::codec::MessagePack;

    const LEASE: Duration = Duration::from_secs(10);

    const fn at(seconds: u64) -> Moment {
        let now = Instant::from_start(Duration::from_secs(seconds));
        Moment { now, wall: Timestamp::from_millis(seconds * 1_000) }
    }

    fn message(number: u64) -> Message {
        let id = MessageId::generate(Timestamp::from_millis(number), &Random::seeded(number));
        Message::new(id, Payload::json(1, &number).unwrap())
    }

    fn options() -> Options {
        Options::new(20).park_keys().oldest_every(NonZeroU32::new(3))
    }

    /// Returns a paused queue with an entry in hand and a parked key, of which a third taker gets
    /// the oldest.
    fn queue() -> State {
        let mut state = State::new(options());
        let messages = vec![
            message(1).key("a").priority(Priority::High),
            message(2).key("a"),
            message(3).key("b"),
            message(4).key("c").priority(Priority::High),
            message(5).delay(LEASE * 2).dedup("five"),
            message(6).priority(Priority::High),
            message(7).key("b").ttl(LEASE * 3),
        ];
        state.publish(messages, at(1)).unwrap();
        let first = state.take(1, LEASE, at(1)).pop().unwrap();
        let refused = Settlement::DeadLetter { reason: "no".to_owned() };
        state.settle(first.number, first.lease, refused, at(2)).unwrap();
        assert_eq!(numbers(&state.take(1, LEASE, at(2))), [4]);
        state.pause(true);
        state
    }

    fn numbers(taken: &[crate::queue::Taken]) -> Vec<u64> {
        taken.iter().map(|taken| taken.message.payload.decode().unwrap()).collect()
    }

    /// Goes on with a queue and returns everything it answers.
    fn answers(state: &mut State) -> Vec<String> {
        let mut said = Vec::new();
        let mut note = |answer: &dyn std::fmt::Debug| said.push(format!("{answer:?}"));
        let take = |state: &mut State, at: Moment, expected: &[u64]| {
            let taken = state.take(9, LEASE, at);
            assert_eq!(numbers(&taken), expected);
            taken
        };
        note(&(state.stats(at(3)), state.dead_letters(9), state.peek(9), state.due()));
        note(&state.publish(vec![message(8).dedup("five")], at(3)));
        note(&take(state, at(3), &[]));
        state.pause(false);
        note(&take(state, at(3), &[3, 6]));
        state.pass(at(12));
        note(&take(state, at(12), &[4]));
        assert!(state.replay(message(1).id, at(13)));
        note(&(state.stats(at(13)), state.dead_letters(9), state.due()));
        note(&take(state, at(13), &[1]));
        state.pass(at(40));
        note(&(state.stats(at(40)), state.dead_letters(9), state.peek(9), state.due()));
        note(&take(state, at(40), &[1, 4, 3, 6, 5]));
        state.pass(at(400));
        note(&state.publish(vec![message(9).dedup("five")], at(400)));
        note(&(state.stats(at(400)), state.dead_letters(9), state.peek(9), state.due()));
        said
    }

    #[test]
    fn a_queue_of_an_image_goes_on_exactly_as_the_one_that_it_was_taken_of() {
        let mut own = queue();
        let body = MessagePack::encode(&own.image()).unwrap();
        let image: Image = MessagePack::decode(&body).unwrap();
        let mut other = State::from_image(options(), image, at(2)).unwrap();
        assert_eq!(answers(&mut own), answers(&mut other));
    }
}
