//! Series that are computed ahead: how much of the budget for slow actions is used up.
//!
//! The objective: 99 of 100 actions of people are answered within 100 ms. A burn rate of 1 uses the
//! budget of a month up in a month (Google, The Site Reliability Workbook, chapter 5).

use infra_observability::generate::Recording;

macro_rules! slow {
    ($window:literal) => {
        Recording {
            name: concat!("game:slow_actions:burn_rate", $window),
            query: concat!(
                "(1 - sum(rate(infra_game_action_seconds_bucket{actor=\"person\",le=\"0.1\"}[",
                $window,
                "])) / sum(rate(infra_game_action_seconds_count{actor=\"person\"}[",
                $window,
                "]))) / 0.01"
            ),
        }
    };
}

pub(super) const RECORDINGS: &[Recording] = &[
    slow!("5m"),
    slow!("30m"),
    slow!("1h"),
    slow!("6h"),
    // Both windows must burn: the smaller of two is half of their sum less their distance.
    Recording {
        name: "game:slow_actions:fast_burn",
        query: "(game:slow_actions:burn_rate5m + game:slow_actions:burn_rate1h - abs(game:slow_actions:burn_rate5m - game:slow_actions:burn_rate1h)) / 2",
    },
    Recording {
        name: "game:slow_actions:slow_burn",
        query: "(game:slow_actions:burn_rate30m + game:slow_actions:burn_rate6h - abs(game:slow_actions:burn_rate30m - game:slow_actions:burn_rate6h)) / 2",
    },
    Recording {
        name: "game:actions:rate5m",
        query: "sum by (actor) (rate(infra_game_action_seconds_count[5m]))",
    },
    Recording {
        name: "game:append_seconds:p99_5m",
        query: "histogram_quantile(0.99, sum by (le) (rate(infra_game_append_seconds_bucket[5m])))",
    },
];
