//! Who is in a room: users with their connections, and those that are expected back.

use std::{collections::BTreeMap, time::Duration};

use infra_core::clock::Instant;

/// What a change means to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// Nothing: one connection more or less of somebody who is there.
    None,
    /// A user came.
    Joined,
    /// A user came back before it was given up.
    Returned,
    /// A user's last connection is gone.
    Dropped,
    /// A user left.
    Left,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    connections: usize,
    /// Since when there is no connection.
    away: Option<Instant>,
}

/// Counts the connections of each user; a user is there until it leaves or is away too long.
#[derive(Debug, Default)]
pub struct Presence(BTreeMap<String, User>);

impl Presence {
    /// Creates an empty room.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn join(&mut self, user: &str) -> Change {
        let Some(known) = self.0.get_mut(user) else {
            self.0.insert(user.to_owned(), User { connections: 1, away: None });
            return Change::Joined;
        };
        known.connections += 1;
        if known.away.take().is_some() { Change::Returned } else { Change::None }
    }

    /// Hears that one connection of a user is gone, without a word.
    pub(crate) fn lose(&mut self, user: &str, now: Instant) -> Change {
        let Some(known) = self.0.get_mut(user) else { return Change::None };
        known.connections = known.connections.saturating_sub(1);
        if 0 < known.connections || known.away.is_some() {
            return Change::None;
        }
        known.away = Some(now);
        Change::Dropped
    }

    /// Hears that a user leaves by one of its connections: it is gone with the last one.
    pub(crate) fn leave(&mut self, user: &str) -> Change {
        let Some(known) = self.0.get_mut(user) else { return Change::None };
        known.connections = known.connections.saturating_sub(1);
        if 0 < known.connections {
            return Change::None;
        }
        self.0.remove(user);
        Change::Left
    }

    /// Gives up who has been away for `grace`, and returns them.
    pub(crate) fn give_up(&mut self, now: Instant, grace: Duration) -> Vec<String> {
        let is_over = |user: &User| user.away.is_some_and(|since| grace <= now.since(since));
        let over = self.0.iter().filter(|(_, user)| is_over(user));
        let over: Vec<String> = over.map(|(name, _)| name.clone()).collect();
        for user in &over {
            self.0.remove(user);
        }
        over
    }

    /// Returns how many connections a user has here; `None` if it is not here.
    pub fn connections(&self, user: &str) -> Option<usize> {
        self.0.get(user).map(|user| user.connections)
    }

    /// Returns the users and how many connections each has; zero for one that is expected back.
    pub fn users(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, user)| (name.as_str(), user.connections))
    }

    /// Returns whether nobody is here, nor expected back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_flap_is_no_departure_and_a_second_device_no_arrival() {
        let (mut presence, start) = (Presence::new(), Instant::START);
        assert_eq!(presence.join("ann"), Change::Joined);
        assert_eq!(presence.join("ann"), Change::None);
        assert_eq!(presence.lose("ann", start), Change::None);
        assert_eq!(presence.lose("ann", start), Change::Dropped);
        assert_eq!(presence.lose("ann", start), Change::None, "racing ends count once");
        assert!(presence.give_up(start + GRACE / 2, GRACE).is_empty());
        assert_eq!(presence.join("ann"), Change::Returned);
        assert_eq!(presence.leave("ann"), Change::Left);
        assert_eq!((presence.leave("ann"), presence.is_empty()), (Change::None, true));
        presence.join("bob");
        presence.lose("bob", start);
        assert_eq!(presence.give_up(start + GRACE, GRACE), ["bob"]);
    }

    proptest! {
        #[test]
        fn who_is_there_is_who_has_connections_or_was_lost_within_the_grace(
            steps in proptest::collection::vec((0..4_u8, 0..3_usize), 0..100),
        ) {
            let users = ["ann", "bob", "eve"];
            let mut presence = Presence::new();
            // Of each user: connections, and when the last was lost.
            let mut model: [Option<(usize, Option<u64>)>; 3] = [None; 3];
            for (second, (step, who)) in steps.into_iter().enumerate() {
                let second = second as u64;
                let now = Instant::from_start(Duration::from_secs(second));
                match (step, model[who]) {
                    (0, known) => {
                        presence.join(users[who]);
                        model[who] = Some((known.map_or(0, |(count, _)| count) + 1, None));
                    }
                    (1, Some((count, _))) if 0 < count => {
                        presence.lose(users[who], now);
                        model[who] = Some((count - 1, (count == 1).then_some(second)));
                    }
                    (2, Some((count, _))) if 0 < count => {
                        presence.leave(users[who]);
                        model[who] = (1 < count).then_some((count - 1, None));
                    }
                    (3, _) => {
                        let gone = presence.give_up(now, GRACE);
                        for (who, user) in users.iter().enumerate() {
                            let is_over = matches!(model[who], Some((0, Some(since))) if since + 10 <= second);
                            prop_assert_eq!(gone.iter().any(|name| name == user), is_over);
                            if is_over {
                                model[who] = None;
                            }
                        }
                    }
                    _ => {}
                }
                for (who, user) in users.iter().enumerate() {
                    prop_assert_eq!(presence.connections(user), model[who].map(|(count, _)| count));
                }
            }
        }
    }
}
