//! The alerts for Prometheus. Each has an entry of its name in docs/operations.md.

use infra_observability::{
    alert::Severity::{self, Critical, Error, Warning},
    generate::{
        Case,
        Compare::{self, Above, Below},
        Prometheus,
    },
};

/// What the tests give: a series with its values, a minute apart.
type Series = &'static [(&'static str, &'static str)];

struct Alert {
    name: &'static str,
    severity: Severity,
    summary: &'static str,
    query: &'static str,
    bad: (Compare, f64),
    minutes: u32,
    firing: Series,
    quiet: Series,
}

impl Alert {
    const fn rule(self) -> Prometheus {
        Prometheus {
            name: self.name,
            severity: self.severity,
            summary: self.summary,
            query: self.query,
            compare: self.bad.0,
            bound: self.bad.1,
            minutes: self.minutes,
            firing: Case(self.firing),
            quiet: Case(self.quiet),
        }
    }
}

/// Every alert.
pub const ALERTS: &[Prometheus] = &[
    Alert {
        name: "ServerDown",
        severity: Critical,
        summary: "A server does not answer the scraper.",
        query: "min(up{job=\"game-server\"})",
        bad: (Below, 1.0),
        minutes: 1,
        firing: &[("up{job=\"game-server\"}", "1x9 0x500")],
        quiet: &[("up{job=\"game-server\"}", "1x500")],
    }
    .rule(),
    Alert {
        name: "ServerNotReady",
        severity: Critical,
        summary: "A server takes no new work.",
        query: "min(infra_health_ready)",
        bad: (Below, 1.0),
        minutes: 1,
        firing: &[("infra_health_ready", "1x9 0x500")],
        quiet: &[("infra_health_ready", "1x500")],
    }
    .rule(),
    Alert {
        name: "ChecksFailing",
        severity: Warning,
        summary: "A health check is down.",
        query: "max(infra_health_failing_checks)",
        bad: (Above, 0.0),
        minutes: 2,
        firing: &[("infra_health_failing_checks", "0x9 1x500")],
        quiet: &[("infra_health_failing_checks", "0x500")],
    }
    .rule(),
    Alert {
        name: "EventStorePoisoned",
        severity: Critical,
        summary: "The event store takes nothing more, since a write or sync has failed.",
        query: "max(infra_events_poisoned)",
        bad: (Above, 0.0),
        minutes: 0,
        firing: &[("infra_events_poisoned", "0x9 1x500")],
        quiet: &[("infra_events_poisoned", "0x500")],
    }
    .rule(),
    Alert {
        name: "DocumentStorePoisoned",
        severity: Critical,
        summary: "The document store takes nothing more, since a write or sync has failed.",
        query: "max(infra_persistence_poisoned)",
        bad: (Above, 0.0),
        minutes: 0,
        firing: &[("infra_persistence_poisoned", "0x9 1x500")],
        quiet: &[("infra_persistence_poisoned", "0x500")],
    }
    .rule(),
    Alert {
        name: "AppendsFailing",
        severity: Error,
        summary: "Events of rooms are not stored.",
        query: "sum(rate(infra_events_appends_total{outcome=\"failed\"}[5m]))",
        bad: (Above, 0.0),
        minutes: 1,
        firing: &[("infra_events_appends_total{outcome=\"failed\"}", "0+6x500")],
        quiet: &[
            ("infra_events_appends_total{outcome=\"failed\"}", "3x500"),
            ("infra_events_appends_total{outcome=\"written\"}", "0+600x500"),
        ],
    }
    .rule(),
    Alert {
        name: "AppendsSlow",
        severity: Warning,
        summary: "One append in a hundred takes longer than 250 ms.",
        query: "game:append_seconds:p99_5m",
        bad: (Above, 0.25),
        minutes: 5,
        firing: &[
            ("infra_game_append_seconds_bucket{le=\"0.25\"}", "0+9x500"),
            ("infra_game_append_seconds_bucket{le=\"0.5\"}", "0+10x500"),
            ("infra_game_append_seconds_bucket{le=\"+Inf\"}", "0+10x500"),
        ],
        quiet: &[
            ("infra_game_append_seconds_bucket{le=\"0.01\"}", "0+1000x500"),
            ("infra_game_append_seconds_bucket{le=\"+Inf\"}", "0+1001x500"),
        ],
    }
    .rule(),
    Alert {
        name: "ActionBudgetBurnsFast",
        severity: Error,
        summary: "So many actions are slow that the budget of a month is gone within two days.",
        query: "game:slow_actions:fast_burn",
        bad: (Above, 14.4),
        minutes: 2,
        firing: &[
            ("infra_game_action_seconds_bucket{actor=\"person\",le=\"0.1\"}", "0+80x500"),
            ("infra_game_action_seconds_count{actor=\"person\"}", "0+100x500"),
        ],
        quiet: &[
            ("infra_game_action_seconds_bucket{actor=\"person\",le=\"0.1\"}", "0+999x500"),
            ("infra_game_action_seconds_count{actor=\"person\"}", "0+1000x500"),
        ],
    }
    .rule(),
    Alert {
        name: "ActionBudgetBurnsSlow",
        severity: Warning,
        summary: "So many actions are slow that the budget of a month is gone within five days.",
        query: "game:slow_actions:slow_burn",
        bad: (Above, 6.0),
        minutes: 15,
        firing: &[
            ("infra_game_action_seconds_bucket{actor=\"person\",le=\"0.1\"}", "0+92x500"),
            ("infra_game_action_seconds_count{actor=\"person\"}", "0+100x500"),
        ],
        quiet: &[
            ("infra_game_action_seconds_bucket{actor=\"person\",le=\"0.1\"}", "0+95x500"),
            ("infra_game_action_seconds_count{actor=\"person\"}", "0+100x500"),
        ],
    }
    .rule(),
    Alert {
        name: "GamesAbandoned",
        severity: Warning,
        summary: "More than half of the games that ended within an hour were given up.",
        query: "sum(rate(infra_game_ended_total{ending=\"abandoned\"}[1h])) / sum(rate(infra_game_ended_total[1h]))",
        bad: (Above, 0.5),
        minutes: 15,
        firing: &[
            ("infra_game_ended_total{ending=\"abandoned\"}", "0+6x500"),
            ("infra_game_ended_total{ending=\"completed\"}", "0+4x500"),
        ],
        quiet: &[
            ("infra_game_ended_total{ending=\"abandoned\"}", "0+1x500"),
            ("infra_game_ended_total{ending=\"completed\"}", "0+9x500"),
        ],
    }
    .rule(),
    Alert {
        name: "HandlerPanics",
        severity: Error,
        summary: "Handling a message of a client has panicked.",
        query: "sum(rate(infra_ws_handler_panics_total[5m]))",
        bad: (Above, 0.0),
        minutes: 0,
        firing: &[("infra_ws_handler_panics_total", "0+1x500")],
        quiet: &[("infra_ws_handler_panics_total", "1x500")],
    }
    .rule(),
    Alert {
        name: "FramesDropped",
        severity: Warning,
        summary: "Clients are too slow for what is sent to them.",
        query: "sum(rate(infra_ws_undelivered_total{fate=\"dropped\"}[5m]))",
        bad: (Above, 10.0),
        minutes: 5,
        firing: &[("infra_ws_undelivered_total{fate=\"dropped\"}", "0+1200x500")],
        quiet: &[("infra_ws_undelivered_total{fate=\"dropped\"}", "0+60x500")],
    }
    .rule(),
    Alert {
        name: "ConnectionsRefused",
        severity: Warning,
        summary: "Connections are refused at their limit.",
        query: "sum(rate(infra_ws_refused_total{reason=\"limit\"}[5m]))",
        bad: (Above, 1.0),
        minutes: 5,
        firing: &[("infra_ws_refused_total{reason=\"limit\"}", "0+120x500")],
        quiet: &[
            ("infra_ws_refused_total{reason=\"limit\"}", "0+6x500"),
            ("infra_ws_refused_total{reason=\"origin\"}", "0+600x500"),
        ],
    }
    .rule(),
    Alert {
        name: "PlayersThrottled",
        severity: Warning,
        summary: "The rate limiter refuses more than ten requests a second.",
        query: "sum(rate(infra_game_throttled_total[5m]))",
        bad: (Above, 10.0),
        minutes: 5,
        firing: &[("infra_game_throttled_total", "0+1200x500")],
        quiet: &[("infra_game_throttled_total", "0+60x500")],
    }
    .rule(),
    Alert {
        name: "LimitStoreLost",
        severity: Warning,
        summary: "The shared store of the rate limiter is lost; each server limits by itself.",
        query: "max(infra_ratelimit_store_lost)",
        bad: (Above, 0.0),
        minutes: 1,
        firing: &[("infra_ratelimit_store_lost", "0x9 1x500")],
        quiet: &[("infra_ratelimit_store_lost", "0x500")],
    }
    .rule(),
    Alert {
        name: "BreakerOpen",
        severity: Error,
        summary: "A store fails and is left alone.",
        query: "sum(infra_resilience_breakers{state=~\"open|half_open\"})",
        bad: (Above, 0.0),
        minutes: 1,
        firing: &[
            ("infra_resilience_breakers{state=\"open\"}", "0x9 1x500"),
            ("infra_resilience_breakers{state=\"half_open\"}", "0x500"),
        ],
        quiet: &[
            ("infra_resilience_breakers{state=\"closed\"}", "3x500"),
            ("infra_resilience_breakers{state=\"open\"}", "0x500"),
        ],
    }
    .rule(),
    Alert {
        name: "CallsShed",
        severity: Warning,
        summary: "More than one call a second is shed, for want of places, time or memory.",
        query: "sum(rate(infra_resilience_refused_total{reason=~\"queue_full|waited_too_long|displaced|load|memory_soft|memory_hard|keys_full|pool_exhausted\"}[5m]))",
        bad: (Above, 1.0),
        minutes: 5,
        firing: &[
            ("infra_resilience_refused_total{reason=\"queue_full\"}", "0+60x500"),
            ("infra_resilience_refused_total{reason=\"memory_soft\"}", "0+60x500"),
        ],
        quiet: &[
            ("infra_resilience_refused_total{reason=\"queue_full\"}", "0+6x500"),
            ("infra_resilience_refused_total{reason=\"breaker_open\"}", "0+600x500"),
        ],
    }
    .rule(),
    Alert {
        name: "ArchiveBehind",
        severity: Warning,
        summary: "More than a thousand entities wait for the archive.",
        query: "max(infra_persistence_hand_overs_waiting)",
        bad: (Above, 1_000.0),
        minutes: 10,
        firing: &[("infra_persistence_hand_overs_waiting", "0+10x500")],
        quiet: &[("infra_persistence_hand_overs_waiting", "0+2x500")],
    }
    .rule(),
    Alert {
        name: "BusMessagesMissed",
        severity: Warning,
        summary: "Subscribers of the message bus are too slow and miss messages.",
        query: "sum(rate(infra_messaging_missed_total[5m]))",
        bad: (Above, 1.0),
        minutes: 5,
        firing: &[("infra_messaging_missed_total", "0+120x500")],
        quiet: &[("infra_messaging_missed_total", "0+6x500")],
    }
    .rule(),
    Alert {
        name: "MemoryHigh",
        severity: Warning,
        summary: "A server holds more than 1,000 MiB in memory.",
        query: "max(process_resident_memory_bytes)",
        bad: (Above, 1_048_576_000.0),
        minutes: 5,
        firing: &[("process_resident_memory_bytes", "1100000000x500")],
        quiet: &[("process_resident_memory_bytes", "900000000x500")],
    }
    .rule(),
    Alert {
        name: "MemoryGrows",
        severity: Warning,
        summary: "The memory of a server grows by more than 50 MiB an hour.",
        query: "max(deriv(process_resident_memory_bytes[1h])) * 3600",
        bad: (Above, 52_428_800.0),
        minutes: 60,
        firing: &[("process_resident_memory_bytes", "100000000+1000000x500")],
        quiet: &[("process_resident_memory_bytes", "100000000+100000x500")],
    }
    .rule(),
    Alert {
        name: "DescriptorsScarce",
        severity: Error,
        summary: "More than eight of ten file descriptors are open.",
        query: "max(process_open_fds / process_max_fds)",
        bad: (Above, 0.8),
        minutes: 5,
        firing: &[("process_open_fds", "900x500"), ("process_max_fds", "1024x500")],
        quiet: &[("process_open_fds", "90x500"), ("process_max_fds", "1024x500")],
    }
    .rule(),
    Alert {
        name: "WorkersBusy",
        severity: Warning,
        summary: "The worker threads have no time left.",
        query: "max(rate(infra_runtime_busy_seconds_total[5m]) / infra_runtime_workers)",
        bad: (Above, 0.9),
        minutes: 10,
        firing: &[
            ("infra_runtime_busy_seconds_total", "0+118x500"),
            ("infra_runtime_workers", "2x500"),
        ],
        quiet: &[
            ("infra_runtime_busy_seconds_total", "0+60x500"),
            ("infra_runtime_workers", "2x500"),
        ],
    }
    .rule(),
    Alert {
        name: "LogLinesLost",
        severity: Warning,
        summary: "Lines of the log are lost.",
        query: "sum(rate(infra_observability_log_lines_total{fate=~\"dropped|failed\"}[5m]))",
        bad: (Above, 0.0),
        minutes: 1,
        firing: &[("infra_observability_log_lines_total{fate=\"dropped\"}", "0+60x500")],
        quiet: &[
            ("infra_observability_log_lines_total{fate=\"dropped\"}", "5x500"),
            ("infra_observability_log_lines_total{fate=\"written\"}", "0+600x500"),
        ],
    }
    .rule(),
    Alert {
        name: "SpansLost",
        severity: Warning,
        summary: "Spans do not reach the collector.",
        query: "sum(rate(infra_observability_exported_total{signal=\"traces\",fate=~\"dropped|failed\"}[5m]))",
        bad: (Above, 0.0),
        minutes: 5,
        firing: &[(
            "infra_observability_exported_total{signal=\"traces\",fate=\"failed\"}",
            "0+60x500",
        )],
        quiet: &[
            ("infra_observability_exported_total{signal=\"traces\",fate=\"failed\"}", "5x500"),
            ("infra_observability_exported_total{signal=\"logs\",fate=\"failed\"}", "0+60x500"),
        ],
    }
    .rule(),
    Alert {
        name: "LogRecordsLost",
        severity: Warning,
        summary: "Entries of the log do not reach the collector.",
        query: "sum(rate(infra_observability_exported_total{signal=\"logs\",fate=~\"dropped|failed\"}[5m]))",
        bad: (Above, 0.0),
        minutes: 5,
        firing: &[("infra_observability_exported_total{signal=\"logs\",fate=\"failed\"}", "0+60x500")],
        quiet: &[
            ("infra_observability_exported_total{signal=\"logs\",fate=\"failed\"}", "5x500"),
            ("infra_observability_exported_total{signal=\"traces\",fate=\"failed\"}", "0+60x500"),
        ],
    }
    .rule(),
    Alert {
        name: "TelemetryWithheld",
        severity: Warning,
        summary: "Telemetry is over its budget: log entries, traces or exemplars are withheld.",
        query: "max(infra_observability_withholding)",
        bad: (Above, 0.0),
        minutes: 5,
        firing: &[("infra_observability_withholding", "0x9 1x500")],
        quiet: &[("infra_observability_withholding", "0x9 1x3 0x500")],
    }
    .rule(),
    Alert {
        name: "LabelsOverflow",
        severity: Warning,
        summary: "A metric was asked for a label value, or a series, that nobody declared.",
        query: "sum(rate(infra_observability_overflown_series_total[5m])) + sum(rate(infra_observability_refused_series_total[5m]))",
        bad: (Above, 0.0),
        minutes: 5,
        firing: &[
            ("infra_observability_overflown_series_total", "0+1x500"),
            ("infra_observability_refused_series_total", "0x500"),
        ],
        quiet: &[
            ("infra_observability_overflown_series_total", "2x500"),
            ("infra_observability_refused_series_total", "1x500"),
        ],
    }
    .rule(),
];
