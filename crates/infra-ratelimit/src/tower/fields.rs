//! The fields that tell a client of its limit: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-11), and `Retry-After` (RFC 9110).

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use infra_core::limit::Decision;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Adds the fields of a decision; those of another limit that are there already stay.
pub(super) fn add(headers: &mut HeaderMap, decision: &Decision) {
    if decision.capacity == 0 {
        return;
    }
    let name = name(decision.limit);
    let mut policy = format!("\"{name}\";q={}", decision.capacity);
    // Writing into a string cannot fail.
    let _written = match whole_seconds(decision.window) {
        0 => write!(policy, ";qu=\"concurrent-requests\""),
        seconds => write!(policy, ";w={seconds}"),
    };
    let mut limit = format!("\"{name}\";r={}", decision.remaining);
    let reset = decision.retry_after().unwrap_or(decision.reset);
    let _written = write!(limit, ";t={}", whole_seconds(reset));
    for (field, text) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.append(field, value);
        }
    }
    if let Some(pause) = decision.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(pause).max(1)));
    }
}

/// Rounds up: who comes back in time must be admitted.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(0 < duration.subsec_nanos())
}

/// Returns a limit's name as it can stand in a string of RFC 9651 and of JSON.
pub(super) fn name(limit: &str) -> String {
    let is_plain = |letter: &char| {
        (letter.is_ascii_graphic() || *letter == ' ') && !matches!(letter, '"' | '\\')
    };
    limit.chars().filter(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use infra_core::limit::Verdict;

    use super::*;

    fn fields(verdict: Verdict, window: u64) -> [Option<String>; 3] {
        let mut headers = HeaderMap::new();
        let decision = Decision {
            verdict,
            limit: "pl\"ay\\er\n",
            capacity: 120,
            remaining: 7,
            reset: Duration::from_millis(1_200),
            window: Duration::from_secs(window),
        };
        add(&mut headers, &decision);
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        ["ratelimit-policy", "ratelimit", "retry-after"].map(text)
    }

    fn some(texts: [&str; 3]) -> [Option<String>; 3] {
        texts.map(|text| (!text.is_empty()).then(|| text.to_owned()))
    }

    #[test]
    fn waits_are_rounded_up_and_names_are_strings() {
        let policy = "\"player\";q=120;w=60";
        assert_eq!(fields(Verdict::Admitted, 60), some([policy, "\"player\";r=7;t=2", ""]));
        let pause = Verdict::RetryAfter(Duration::from_millis(3));
        assert_eq!(fields(pause, 60), some([policy, "\"player\";r=7;t=1", "1"]));
        let held = "\"player\";q=120;qu=\"concurrent-requests\"";
        assert_eq!(fields(Verdict::Never, 0), some([held, "\"player\";r=7;t=2", ""]));
    }
}
