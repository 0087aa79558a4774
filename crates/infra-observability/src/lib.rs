//! Logs, metrics and health of a realtime service.
