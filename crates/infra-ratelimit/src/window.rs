//! How much in which time: the value that windows are made of.

use std::{num::NonZeroU32, time::Duration};

use infra_core::{Error, Result};

use crate::quota::YEAR;

/// What a window admits, and how long it is.
///
/// ```
/// use std::time::Duration;
/// use infra_ratelimit::Window;
///
/// let window = Window::new(20, Duration::from_secs(60))?;
/// assert_eq!(window, Window::per_minute(20)?);
/// assert!(Window::new(20, Duration::ZERO).is_err());
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    capacity: NonZeroU32,
    length: Duration,
}

impl Window {
    /// Creates a window that admits `capacity` within `length`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if either is zero, or if it is longer than a
    /// year.
    pub fn new(capacity: u32, length: Duration) -> Result<Self> {
        let refuse = |detail: String| Error::invalid("declare window", detail);
        let capacity =
            NonZeroU32::new(capacity).ok_or_else(|| refuse("a capacity of zero".to_owned()))?;
        if length.is_zero() {
            return Err(refuse("a window without time".to_owned()));
        }
        if YEAR < length {
            return Err(refuse(format!("{length:?} is more than a year")));
        }
        Ok(Self { capacity, length })
    }

    /// Creates a window of a second.
    ///
    /// # Errors
    ///
    /// As for [`Window::new`].
    pub fn per_second(capacity: u32) -> Result<Self> {
        Self::new(capacity, Duration::from_secs(1))
    }

    /// Creates a window of a minute.
    ///
    /// # Errors
    ///
    /// As for [`Window::new`].
    pub fn per_minute(capacity: u32) -> Result<Self> {
        Self::new(capacity, Duration::from_mins(1))
    }

    /// Returns what the window admits.
    pub const fn capacity(&self) -> u32 {
        self.capacity.get()
    }

    /// Returns how long it is.
    pub const fn length(&self) -> Duration {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let refused = |capacity, length| Window::new(capacity, length).unwrap_err().to_string();
        assert!(refused(0, Duration::from_secs(1)).contains("a capacity of zero"));
        assert!(refused(1, Duration::ZERO).contains("without time"));
        assert!(refused(1, YEAR * 2).contains("more than a year"));
        assert!(Window::per_second(0).is_err() && Window::per_minute(0).is_err());
    }
}
