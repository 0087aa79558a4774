//! Times as the algorithms count them: nanoseconds since the clock's start.

use std::time::Duration;

/// Returns a duration in nanoseconds; what does not fit is the longest that does.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
