//! Ports and vocabulary shared by the infra crates.
