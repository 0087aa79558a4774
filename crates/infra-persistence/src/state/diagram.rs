//! The picture of a machine: its declared transitions, with how often each was made.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{persistent::Persistent, statistics::TransitionStatistics};

/// A machine's transitions as a graph.
///
/// ```
/// # use infra_core::machine::StateMachine;
/// # use infra_persistence::state::{Diagram, Edge, Persistent};
/// # #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
/// # struct Door;
/// # impl StateMachine for Door {
/// #     type Command = ();
/// #     type Event = ();
/// #     type Refusal = ();
/// #     const NAME: &'static str = "door";
/// #     const SCHEMA_VERSION: u32 = 1;
/// #     fn decide(&self, _: ()) -> Result<Vec<()>, ()> { Ok(vec![]) }
/// #     fn evolve(&mut self, _: &()) {}
/// # }
/// # impl Persistent for Door {
/// #     const EDGES: &'static [Edge] = &[Edge::new("closed", "opened", "open")];
/// #     fn kind(_: &()) -> &'static str { "opened" }
/// #     fn phase(&self) -> &'static str { "closed" }
/// # }
/// assert!(Diagram::of::<Door>().mermaid().contains("closed --> open: opened"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagram {
    machine: &'static str,
    arrows: Vec<Arrow>,
}

/// One arrow of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Arrow {
    from: String,
    to: String,
    kinds: Vec<&'static str>,
    count: u64,
    is_declared: bool,
}

impl Diagram {
    /// Draws the declared transitions of a machine.
    pub fn of<M: Persistent>() -> Self {
        let mut arrows: BTreeMap<(&str, &str), Vec<&'static str>> = BTreeMap::new();
        for edge in M::EDGES {
            arrows.entry((edge.from, edge.to)).or_default().push(edge.kind);
        }
        let arrow = |((from, to), kinds): ((&str, &str), Vec<_>)| Arrow {
            from: from.to_owned(),
            to: to.to_owned(),
            kinds,
            count: 0,
            is_declared: true,
        };
        Self { machine: M::NAME, arrows: arrows.into_iter().map(arrow).collect() }
    }

    /// Adds how often each path was taken; a path that is not declared stands out.
    #[must_use]
    pub fn counted(mut self, statistics: &TransitionStatistics) -> Self {
        for (path, count) in statistics.paths() {
            let is_it = |arrow: &&mut Arrow| arrow.from == path.from && arrow.to == path.to;
            if let Some(arrow) = self.arrows.iter_mut().find(is_it) {
                arrow.count = *count;
                continue;
            }
            self.arrows.push(Arrow {
                from: path.from.clone(),
                to: path.to.clone(),
                kinds: Vec::new(),
                count: *count,
                is_declared: false,
            });
        }
        self
    }

    /// Writes it for Mermaid.
    pub fn mermaid(&self) -> String {
        let mut text = "stateDiagram-v2\n".to_owned();
        for arrow in &self.arrows {
            let (from, to) = (identifier(&arrow.from), identifier(&arrow.to));
            // Writing to a string never fails.
            let _written = writeln!(text, "    {from} --> {to}: {}", arrow.label());
        }
        text
    }

    /// Writes it for Graphviz.
    pub fn dot(&self) -> String {
        let mut text = format!("digraph {} {{\n", quoted(self.machine));
        for arrow in &self.arrows {
            let (from, to, label) =
                (quoted(&arrow.from), quoted(&arrow.to), quoted(&arrow.label()));
            let style = if arrow.is_declared { "solid" } else { "dashed" };
            let _written = writeln!(text, "    {from} -> {to} [label={label}, style={style}];");
        }
        text.push_str("}\n");
        text
    }

    /// Writes it as JSON: the machine and its arrows.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

impl Arrow {
    fn label(&self) -> String {
        let kinds =
            if self.is_declared { self.kinds.join(", ") } else { "not declared".to_owned() };
        if self.count == 0 { kinds } else { format!("{kinds} ({})", self.count) }
    }
}

fn identifier(phase: &str) -> String {
    let letter = |letter: char| if letter.is_alphanumeric() { letter } else { '_' };
    phase.chars().map(letter).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
