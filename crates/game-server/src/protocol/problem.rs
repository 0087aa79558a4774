//! Why an HTTP request failed, as RFC 9457 has it.

use serde::{Deserialize, Serialize};

/// Why an HTTP request failed: the body of `application/problem+json` (RFC 9457), of the type
/// `about:blank`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// Why, for programs, where the status does not say it all: `unauthorized`, `no_such_room`,
    /// `no_such_event`, `bad_room_code`, `bad_offset`, `bad_level`, `no_log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
