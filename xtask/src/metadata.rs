//! What cargo knows of the workspace.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::shell;

/// The workspace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// A dependency as a manifest names it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// Asks cargo.
pub(crate) fn read() -> Result<Metadata, String> {
    let args = ["metadata", "--format-version", "1", "--no-deps", "--locked"];
    let text = shell::read(&mut shell::command("cargo", &args))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}
