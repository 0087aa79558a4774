//! The seats of a room, and who has reserved one.

use std::{collections::BTreeMap, fmt, time::Duration};

use infra_core::clock::Instant;

/// Why a seat was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeatRefused {
    /// There is no seat of that number.
    Unknown,
    /// It is taken, or reserved for another.
    Taken,
    /// All are.
    Full,
}

impl fmt::Display for SeatRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "there is no such seat",
            Self::Taken => "the seat is taken",
            Self::Full => "all seats are taken",
        })
    }
}

impl std::error::Error for SeatRefused {}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seat {
    Taken(String),
    Reserved(String, Instant),
}

/// A fixed number of seats; a user has one at most.
///
/// ```
/// use std::time::Duration;
/// use infra_core::clock::Instant;
/// use infra_ws::room::{SeatRefused, Seats};
///
/// let (mut seats, now) = (Seats::new(2), Instant::START);
/// seats.reserve("ann", Duration::from_secs(10), now)?;
/// assert_eq!(seats.take("bob", None, now), Ok(1));
/// assert_eq!(seats.take("eve", None, now), Err(SeatRefused::Full));
/// assert_eq!(seats.take("ann", None, now), Ok(0));
/// # Ok::<(), SeatRefused>(())
/// ```
#[derive(Debug)]
pub struct Seats {
    count: u32,
    seats: BTreeMap<u32, Seat>,
}

impl Seats {
    /// Creates `count` free seats.
    pub const fn new(count: u32) -> Self {
        Self { count, seats: BTreeMap::new() }
    }

    /// Gives a user the wanted seat, the one reserved for it, or the first free one; a user that
    /// has one keeps it.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn take(
        &mut self,
        user: &str,
        wanted: Option<u32>,
        now: Instant,
    ) -> Result<u32, SeatRefused> {
        self.release_expired(now);
        let own = self.of(user);
        if let Some(own) = own
            && matches!(self.seats.get(&own), Some(Seat::Taken(_)))
        {
            return Ok(own);
        }
        let is_free =
            |seats: &Self, seat: u32| !seats.seats.contains_key(&seat) || own == Some(seat);
        let seat = match wanted.or(own) {
            Some(seat) if self.count <= seat => return Err(SeatRefused::Unknown),
            Some(seat) if is_free(self, seat) => seat,
            Some(_) => return Err(SeatRefused::Taken),
            None => self.first_free().ok_or(SeatRefused::Full)?,
        };
        self.leave(user);
        self.seats.insert(seat, Seat::Taken(user.to_owned()));
        Ok(seat)
    }

    /// Keeps a seat for a user for a while; doing it again lengthens it.
    ///
    /// # Errors
    ///
    /// [`SeatRefused::Full`].
    pub fn reserve(
        &mut self,
        user: &str,
        hold: Duration,
        now: Instant,
    ) -> Result<u32, SeatRefused> {
        self.release_expired(now);
        let own = self.of(user);
        let seat = own.or_else(|| self.first_free()).ok_or(SeatRefused::Full)?;
        if !matches!(self.seats.get(&seat), Some(Seat::Taken(_))) {
            self.seats.insert(seat, Seat::Reserved(user.to_owned(), now + hold));
        }
        Ok(seat)
    }

    /// Frees the seat of a user.
    pub fn leave(&mut self, user: &str) {
        self.seats.retain(|_, seat| seat.user() != user);
    }

    /// Returns the seat of a user, taken or reserved.
    pub fn of(&self, user: &str) -> Option<u32> {
        self.seats.iter().find(|(_, seat)| seat.user() == user).map(|(number, _)| *number)
    }

    /// Returns how many seats are neither taken nor reserved.
    pub fn free(&mut self, now: Instant) -> usize {
        self.release_expired(now);
        usize::try_from(self.count).unwrap_or(usize::MAX).saturating_sub(self.seats.len())
    }

    fn first_free(&self) -> Option<u32> {
        (0..self.count).find(|seat| !self.seats.contains_key(seat))
    }

    fn release_expired(&mut self, now: Instant) {
        self.seats.retain(|_, seat| match seat {
            Seat::Taken(_) => true,
            Seat::Reserved(_, until) => now < *until,
        });
    }
}

impl Seat {
    fn user(&self) -> &str {
        match self {
            Self::Taken(user) | Self::Reserved(user, _) => user,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reservation_ends_by_itself_and_a_seat_is_kept() {
        let (mut seats, start, hold) = (Seats::new(1), Instant::START, Duration::from_secs(10));
        assert_eq!(seats.reserve("ann", hold, start), Ok(0));
        assert_eq!(seats.reserve("bob", hold, start), Err(SeatRefused::Full));
        assert_eq!(seats.take("bob", Some(0), start), Err(SeatRefused::Taken));
        assert_eq!(seats.take("bob", Some(1), start), Err(SeatRefused::Unknown));
        assert_eq!(seats.take("bob", None, start + hold), Ok(0));
        assert_eq!(seats.take("bob", Some(5), start + hold), Ok(0), "it has one");
        assert_eq!(seats.reserve("bob", hold, start), Ok(0));
        assert_eq!((seats.of("bob"), seats.free(start)), (Some(0), 0));
        seats.leave("bob");
        assert_eq!(seats.free(start), 1);
    }

    proptest! {
        #[test]
        fn nobody_has_two_seats_and_no_seat_two_users(
            steps in proptest::collection::vec((0..4_u8, 0..5_usize, 0..5_u32), 0..80),
        ) {
            let users = ["a", "b", "c", "d", "e"];
            let mut seats = Seats::new(3);
            let mut now = Instant::START;
            for (step, who, seat) in steps {
                now = now + Duration::from_secs(1);
                match step {
                    0 => { let _seat = seats.take(users[who], Some(seat), now); }
                    1 => { let _seat = seats.take(users[who], None, now); }
                    2 => { let _seat = seats.reserve(users[who], Duration::from_secs(4), now); }
                    _ => seats.leave(users[who]),
                }
                let of: Vec<u32> = users.iter().filter_map(|user| seats.of(user)).collect();
                let mut distinct = of.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(of.len(), distinct.len());
                prop_assert!(of.iter().all(|seat| *seat < 3));
                prop_assert_eq!(seats.free(now) + seats.seats.len(), 3);
            }
        }
    }
}
