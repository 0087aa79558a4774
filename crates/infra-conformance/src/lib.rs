//! Tests that need several components.
