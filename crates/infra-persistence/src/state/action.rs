//! What is being done to a machine, and by whom.

use std::borrow::Cow;

/// What is being done and by whom, for the log of transitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    name: Cow<'static, str>,
    actor: Option<String>,
    notes: Vec<(&'static str, String)>,
}

impl Action {
    /// Creates an action without an actor: the system's own.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), actor: None, notes: Vec::new() }
    }

    /// Names who acts.
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Adds a note of the caller's own, which stands in the metadata of each event of the action.
    ///
    /// Names that begin with `state-` belong to this crate: such a note is not kept.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.notes.push((name, value.into()));
        self
    }

    pub(super) fn notes(&self) -> &[(&'static str, String)] {
        &self.notes
    }

    /// Returns the action's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns who acts.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }
}
