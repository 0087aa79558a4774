//! The themes that options are grouped by, in the help and in the reference.

/// Options that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// What it is called.
    pub title: &'static str,
    /// What there is to say of all of them.
    pub about: &'static str,
    /// Their names.
    pub options: &'static [&'static str],
}

/// Every theme; each option stands in one of them.
pub const THEMES: &[Theme] = &[
    Theme {
        title: "Listeners",
        about: "Where players and operators connect, and who may. On another address than loopback \
                `allow-origin` and `admin-token` are required.",
        options: &["addr", "admin-addr", "admin-token", "allow-origin", "trust-proxy", "grace"],
    },
    Theme {
        title: "Storage",
        about: "Where things are kept, and how others are told. [operations.md](operations.md#where-things-are-kept) \
                says what each choice guarantees.",
        options: &[
            "config",
            "data",
            "events",
            "recovery",
            "documents",
            "archive",
            "bus",
            "queues",
            "cache",
        ],
    },
    Theme {
        title: "Log and traces",
        about: "What is written down, and where it goes.",
        options: &[
            "log",
            "log-format",
            "log-folder",
            "log-rotation",
            "log-kept",
            "otlp",
            "otlp-logs",
            "trace-share",
        ],
    },
    Theme {
        title: "The game",
        about: "The times of a room whose host names none, and the bounds of every game, which are those of the \
                day when its room was created. A game that reaches one ends with the scores so far \
                (`game_ended` with `limit`); before a round was scored, or before the game, the room is closed \
                (`room_abandoned` with the reason `limit`).",
        options: &[
            "bot-delay",
            "round-pause",
            "timeouts",
            "game-minutes",
            "game-rounds",
            "game-events",
            "game-bytes",
        ],
    },
    Theme {
        title: "How much there may be",
        about: "What is beyond it is refused as `overloaded`.",
        options: &[
            "rooms",
            "connections",
            "connections-per-address",
            "connections-per-player",
            "spectators",
            "resume-events",
        ],
    },
    Theme {
        title: "How often",
        about: "What is beyond it is refused as `rate_limited` \
                ([protocol.md](protocol.md#14-limits-and-costs)).",
        options: &[
            "limits",
            "limiter",
            "limiter-nodes",
            "limit-player",
            "limit-room",
            "limit-arrivals",
            "limit-requests",
            "limit-input",
            "limit-chat",
            "limit-control",
            "limit-messages",
        ],
    },
    Theme {
        title: "Components",
        about: "Times and sizes that most servers leave as they are.",
        options: &[
            "heartbeat",
            "token-hours",
            "room-linger",
            "room-idle",
            "snapshot-events",
            "store-patience",
            "event-segment",
            "disk-low",
        ],
    },
];
