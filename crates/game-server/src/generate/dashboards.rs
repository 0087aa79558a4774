//! The dashboards for Grafana.

use infra_observability::generate::{Dashboard, Panel, Target};

/// Names a query of a panel.
const fn q(query: &'static str, legend: &'static str) -> Target {
    Target { query, legend }
}

/// Every dashboard.
pub const DASHBOARDS: &[Dashboard] = &[
    Dashboard { name: "game-overview", title: "Game overview", refresh: "10s", panels: GAMES },
    Dashboard {
        name: "game-performance",
        title: "Performance",
        refresh: "5s",
        panels: PERFORMANCE,
    },
    Dashboard { name: "game-states", title: "State machines", refresh: "5s", panels: STATES },
    Dashboard { name: "game-sockets", title: "WebSocket", refresh: "10s", panels: SOCKETS },
    Dashboard { name: "game-storage", title: "Storage", refresh: "10s", panels: STORAGE },
    Dashboard {
        name: "game-limits",
        title: "Limits and resilience",
        refresh: "10s",
        panels: LIMITS,
    },
    Dashboard {
        name: "game-telemetry",
        title: "Telemetry of itself",
        refresh: "30s",
        panels: ITSELF,
    },
];

const GAMES: &[Panel] = &[
    Panel::number("Active games", "short", None, &[q("sum(infra_game_active_games)", "games")]),
    Panel::number(
        "Games started in an hour",
        "short",
        Some((20.0, 50.0)),
        &[q("sum(rate(infra_game_started_total[1h])) * 3600", "games")],
    ),
    Panel::number("Rooms in memory", "short", None, &[q("sum(infra_game_rooms)", "rooms")]),
    Panel::lines(
        "Games that ended, a second",
        "ops",
        &[q("sum by (ending) (rate(infra_game_ended_total[5m]))", "{{ending}}")],
    ),
    Panel::lines(
        "Duration of completed games",
        "s",
        &[
            q(
                "histogram_quantile(0.5, sum by (le) (rate(infra_game_duration_seconds_bucket{ending=\"completed\"}[1h])))",
                "half",
            ),
            q(
                "histogram_quantile(0.95, sum by (le) (rate(infra_game_duration_seconds_bucket{ending=\"completed\"}[1h])))",
                "95 of 100",
            ),
        ],
    ),
    Panel::lines(
        "Wins by seat, person against bot",
        "percentunit",
        &[q(
            "sum by (actor) (rate(infra_game_wins_total[1h])) / sum by (actor) (rate(infra_game_seats_total[1h]))",
            "{{actor}}",
        )],
    ),
    Panel::lines(
        "Actions a second",
        "ops",
        &[q(
            "sum by (actor, outcome) (rate(infra_game_action_seconds_count[5m]))",
            "{{actor}} {{outcome}}",
        )],
    ),
    Panel::number(
        "Games that were given up, of those that ended in an hour",
        "percentunit",
        Some((0.3, 0.5)),
        &[q(
            "sum(rate(infra_game_ended_total{ending=\"abandoned\"}[1h])) / sum(rate(infra_game_ended_total[1h]))",
            "given up",
        )],
    ),
    Panel::lines(
        "Players who came back, a second",
        "ops",
        &[q("sum(rate(infra_game_resumed_total[5m]))", "resumed")],
    ),
];

const PERFORMANCE: &[Panel] = &[
    Panel::lines(
        "Time of an action, person",
        "s",
        &[
            q(
                "histogram_quantile(0.5, sum by (le) (rate(infra_game_action_seconds_bucket{actor=\"person\"}[5m])))",
                "half",
            ),
            q(
                "histogram_quantile(0.99, sum by (le) (rate(infra_game_action_seconds_bucket{actor=\"person\"}[5m])))",
                "99 of 100",
            ),
        ],
    ),
    Panel::heat(
        "Durable appends",
        &[q("sum by (le) (increase(infra_game_append_seconds_bucket[1m]))", "{{le}}")],
    ),
    Panel::heat(
        "Broadcasts to a room",
        &[q("sum by (le) (increase(infra_game_broadcast_seconds_bucket[1m]))", "{{le}}")],
    ),
    Panel::number(
        "Burn rate of the budget for slow actions",
        "short",
        Some((6.0, 14.4)),
        &[q("game:slow_actions:burn_rate1h", "1 h")],
    ),
    Panel::lines(
        "Memory",
        "bytes",
        &[q("sum by (instance) (process_resident_memory_bytes)", "{{instance}}")],
    ),
    Panel::number(
        "Growth of memory in an hour",
        "bytes",
        Some((10_485_760.0, 52_428_800.0)),
        &[q("max(deriv(process_resident_memory_bytes[1h])) * 3600", "growth")],
    ),
    Panel::lines(
        "Processors in use",
        "short",
        &[q("sum by (instance) (rate(process_cpu_seconds_total[1m]))", "{{instance}}")],
    ),
    Panel::lines(
        "Workers, busy",
        "percentunit",
        &[q(
            "sum(rate(infra_runtime_busy_seconds_total[1m])) / sum(infra_runtime_workers)",
            "busy",
        )],
    ),
    Panel::lines(
        "Tasks",
        "short",
        &[
            q("sum(infra_runtime_alive_tasks)", "alive"),
            q("sum(infra_runtime_global_queue_depth)", "waiting for a worker"),
        ],
    ),
];

const STATES: &[Panel] = &[
    Panel::lines(
        "Ways taken, a second, by the stage that was left",
        "ops",
        &[q("sum by (stage) (rate(infra_game_phase_seconds_count[5m]))", "{{stage}}")],
    ),
    Panel::lines(
        "Time in a stage, average",
        "s",
        &[q(
            "sum by (stage) (rate(infra_game_phase_seconds_sum[5m])) / sum by (stage) (rate(infra_game_phase_seconds_count[5m]))",
            "{{stage}}",
        )],
    ),
    Panel::number(
        "Appends that failed, of all",
        "percentunit",
        Some((0.01, 0.05)),
        &[q(
            "sum(rate(infra_events_appends_total{outcome=\"failed\"}[5m])) / sum(rate(infra_events_appends_total[5m]))",
            "failed",
        )],
    ),
    Panel::lines(
        "Appends, a second",
        "ops",
        &[q("sum by (outcome) (rate(infra_events_appends_total[5m]))", "{{outcome}}")],
    ),
];

const SOCKETS: &[Panel] = &[
    Panel::number("Connections", "short", None, &[q("sum(infra_ws_connections)", "open")]),
    Panel::lines(
        "Connections that ended, a second",
        "ops",
        &[q("sum by (by) (rate(infra_ws_closed_total[5m]))", "{{by}}")],
    ),
    Panel::lines(
        "Handshakes refused, a second",
        "ops",
        &[q("sum by (reason) (rate(infra_ws_refused_total[5m]))", "{{reason}}")],
    ),
    Panel::lines(
        "Messages, a second",
        "ops",
        &[
            q("sum(rate(infra_ws_received_total[1m]))", "received"),
            q("sum(rate(infra_ws_sent_total[1m]))", "sent"),
        ],
    ),
    Panel::lines(
        "Frames that did not arrive, a second",
        "ops",
        &[q("sum by (fate) (rate(infra_ws_undelivered_total[5m]))", "{{fate}}")],
    ),
    Panel::lines(
        "Messages that were not understood, a second",
        "ops",
        &[q("sum(rate(infra_game_malformed_total[5m]))", "malformed")],
    ),
];

const STORAGE: &[Panel] = &[
    Panel::lines(
        "Events, a second",
        "ops",
        &[q("sum(rate(infra_events_events_total[1m]))", "stored")],
    ),
    Panel::heat(
        "Group commits of the event log",
        &[q("sum by (le) (increase(infra_events_commit_seconds_bucket[1m]))", "{{le}}")],
    ),
    Panel::lines(
        "Appends of one group",
        "short",
        &[q(
            "sum(rate(infra_events_group_size_sum[5m])) / sum(rate(infra_events_group_size_count[5m]))",
            "average",
        )],
    ),
    Panel::heat(
        "Group commits of documents",
        &[q("sum by (le) (increase(infra_persistence_commit_seconds_bucket[1m]))", "{{le}}")],
    ),
    Panel::lines(
        "Commits of documents, a second",
        "ops",
        &[q("sum by (outcome) (rate(infra_persistence_commits_total[5m]))", "{{outcome}}")],
    ),
    Panel::number(
        "Stores that take nothing more",
        "short",
        Some((1.0, 1.0)),
        &[
            q("max(infra_events_poisoned)", "events"),
            q("max(infra_persistence_poisoned)", "documents"),
        ],
    ),
    Panel::lines(
        "Position of the last event",
        "short",
        &[q("max(infra_events_head_position)", "head")],
    ),
    Panel::lines(
        "Cache, look-ups a second",
        "ops",
        &[q("sum(rate(infra_cache_lookups_total[5m]))", "all")],
    ),
    Panel::lines(
        "Memory in front of documents, share of hits",
        "percentunit",
        &[q(
            "sum(rate(infra_persistence_memory_hits_total[5m])) / (sum(rate(infra_persistence_memory_hits_total[5m])) + sum(rate(infra_persistence_memory_misses_total[5m])))",
            "hits",
        )],
    ),
];

const LIMITS: &[Panel] = &[
    Panel::lines(
        "Decisions of the rate limiter, a second",
        "ops",
        &[q("sum by (outcome) (rate(infra_ratelimit_decisions_total[5m]))", "{{outcome}}")],
    ),
    Panel::lines(
        "Requests refused, a second",
        "ops",
        &[q("sum(rate(infra_game_throttled_total[5m]))", "refused")],
    ),
    Panel::lines("Keys of the rate limiter", "short", &[q("sum(infra_ratelimit_keys)", "keys")]),
    Panel::number(
        "Share store of the limiter lost",
        "short",
        Some((1.0, 1.0)),
        &[q("max(infra_ratelimit_store_lost)", "lost")],
    ),
    Panel::number(
        "Breakers that are not closed",
        "short",
        Some((1.0, 1.0)),
        &[q("sum(infra_resilience_breakers{state=~\"open|half_open\"})", "breakers")],
    ),
    Panel::lines(
        "Breaker of each store: 0 closed, 1 half open, 2 open",
        "short",
        &[q("max by (store) (infra_game_store_breaker)", "{{store}}")],
    ),
    Panel::lines(
        "Calls that were shed or refused, a second",
        "ops",
        &[
            q("sum by (reason) (rate(infra_resilience_refused_total[5m]))", "{{reason}}"),
            q("sum(rate(infra_game_late_total[5m]))", "late actions"),
        ],
    ),
    Panel::lines(
        "Attempts and what ended them, a second",
        "ops",
        &[
            q("sum(rate(infra_resilience_retries_total[5m]))", "retries"),
            q("sum(rate(infra_resilience_timeouts_total[5m]))", "timeouts"),
            q(
                "sum by (reason) (rate(infra_resilience_given_up_total[5m]))",
                "given up: {{reason}}",
            ),
        ],
    ),
    Panel::lines(
        "Retries that are left in the budget",
        "short",
        &[q("min(infra_resilience_retry_budget)", "attempts")],
    ),
    Panel::lines(
        "Messages of the bus, a second",
        "ops",
        &[
            q("sum(rate(infra_messaging_published_total[5m]))", "published"),
            q("sum(rate(infra_messaging_missed_total[5m]))", "missed"),
        ],
    ),
    Panel::number(
        "Health",
        "short",
        Some((1.0, 1.0)),
        &[q("max(infra_health_failing_checks)", "failing checks")],
    ),
];

const ITSELF: &[Panel] = &[
    Panel::lines(
        "Lines of the log, a second",
        "ops",
        &[q("sum by (fate) (rate(infra_observability_log_lines_total[5m]))", "{{fate}}")],
    ),
    Panel::lines(
        "Spans and records for the collector, a second",
        "ops",
        &[q(
            "sum by (signal, fate) (rate(infra_observability_exported_total[5m]))",
            "{{signal}} {{fate}}",
        )],
    ),
    Panel::lines(
        "Live events, a second",
        "ops",
        &[
            q("sum(rate(infra_observability_live_events_total[5m]))", "published"),
            q("sum(rate(infra_observability_live_dropped_total[5m]))", "dropped"),
        ],
    ),
    Panel::number(
        "Alerts within the servers",
        "short",
        Some((1.0, 3.0)),
        &[q("sum(infra_observability_active_alerts)", "raised")],
    ),
    Panel::lines(
        "Bytes of the log that wait",
        "bytes",
        &[q("sum(infra_observability_log_buffered_bytes)", "waiting")],
    ),
    Panel::lines(
        "Series that nobody declared, a second",
        "ops",
        &[
            q("sum(rate(infra_observability_overflown_series_total[5m]))", "other label value"),
            q("sum(rate(infra_observability_refused_series_total[5m]))", "other metric"),
        ],
    ),
    Panel::lines(
        "Bytes that telemetry holds",
        "bytes",
        &[q("sum by (part) (infra_observability_held_bytes)", "{{part}}")],
    ),
    Panel::lines(
        "Processors that telemetry keeps busy",
        "short",
        &[q("sum(infra_observability_cost_ratio)", "log and encoding")],
    ),
    Panel::lines(
        "Withheld to keep the budget, a second",
        "ops",
        &[q("sum by (what) (rate(infra_observability_withheld_total[5m]))", "{{what}}")],
    ),
];
