//! A leaderboard that counts each game once: `cargo run -p infra-persistence --example leaderboard`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use infra_core::{Result, SystemClock, random::Random};
use infra_persistence::{GameResult, Order, PlayerResult, PlayerStatistics, Window, memory};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = SystemClock::shared();
    let documents = Arc::new(memory(Arc::clone(&clock))?);
    let statistics = PlayerStatistics::with_clock(documents, 10_000, Arc::clone(&clock))?;
    let random = Random::seeded(7);
    for game in 0..200 {
        let winner = random.below(4);
        let player = |seat: u8| PlayerResult {
            player: format!("player-{seat}"),
            name: ["Ann", "Bob", "Cid", "Dee"]
                .get(usize::from(seat))
                .copied()
                .unwrap_or("?")
                .to_owned(),
            score: if u64::from(seat) == winner { 50 } else { random.below(50).cast_signed() },
            has_won: u64::from(seat) == winner,
        };
        let players = (0..4).map(player).collect();
        let result = GameResult { game: game.to_string(), ended: clock.wall(), players };
        statistics.record(&result).await?;
        // Delivered twice, counted once.
        statistics.record(&result).await?;
    }
    let today = (Window::Day, clock.wall());
    for row in statistics.export(Order::WinRate, today, 10).await?.players {
        let own = &row.statistics;
        println!(
            "{}. {}: {} of {} games, best row {}",
            row.rank, own.name, own.won, own.played, own.best_streak
        );
    }
    let rank = statistics.rank(Order::Score, today, "player-2").await?;
    println!("player-2 by score: {rank:?}");
    Ok(())
}
