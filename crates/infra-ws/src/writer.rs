//! The writing half of a connection's task.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use infra_core::clock::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    app::App,
    connection::{ConnectionId, Ended},
    driver::{Driver, End},
    outbox::Batch,
    socket::Socket,
};

impl<A: App> Driver<A> {
    /// Writes what waits, and a ping from time to time; ends once the connection is to be closed
    /// and nothing waits any more.
    ///
    /// A write that takes longer than its deadline ends the connection, and so does a close behind
    /// which what waits takes longer than one deadline in all.
    pub(crate) async fn write<S>(&self, socket: &Socket<S>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (outbox, options) = (self.connection.outbox(), self.options.as_ref());
        let mut ping =
            pin!(tokio::time::sleep(first_ping(self.connection.id(), options.heartbeat)));
        let mut closing: Option<Instant> = None;
        loop {
            let frames = tokio::select! {
                batch = outbox.next() => match batch {
                    Batch::Frames { frames, is_closing } => {
                        if is_closing {
                            closing.get_or_insert_with(|| self.pulse.now());
                        }
                        Some(frames)
                    }
                    Batch::Close(close) => return End::Close(close),
                },
                () = &mut ping => {
                    ping.set(tokio::time::sleep(options.heartbeat));
                    None
                }
            };
            let is_ping = frames.is_none();
            let work = async {
                match frames {
                    Some(frames) => socket.write(frames).await,
                    None => socket.control(Message::Ping(Bytes::new())).await,
                }
            };
            let spent = closing.map_or(Duration::ZERO, |since| self.pulse.now().since(since));
            let deadline = options.write.saturating_sub(spent);
            match tokio::time::timeout(deadline, work).await {
                Ok(Ok(())) if is_ping => {}
                Ok(Ok(())) => outbox.delivered(),
                Ok(Err(_)) => return End::Client(Ended::Lost),
                Err(_) => return End::Close(options.codes.slow.clone()),
            }
        }
    }
}

/// Spreads the first pings of connections that came together over half a heartbeat.
fn first_ping(id: ConnectionId, heartbeat: Duration) -> Duration {
    // Multiples of the golden ratio fill the interval evenly (Fibonacci hashing).
    let spread = u32::try_from((id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 33).unwrap_or(0);
    heartbeat.mul_f64(1.0 - f64::from(spread) / f64::from(1_u32 << 31) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_pings_are_spread_over_the_second_half_of_a_heartbeat() {
        let beat = Duration::from_secs(10);
        let mut pings: Vec<_> = (1..=100).map(|id| first_ping(ConnectionId(id), beat)).collect();
        pings.sort_unstable();
        assert!(beat / 2 <= pings[0] && pings[99] <= beat);
        let gaps = pings.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        assert!(gaps.max().unwrap() < Duration::from_millis(200), "{pings:?}");
    }
}
