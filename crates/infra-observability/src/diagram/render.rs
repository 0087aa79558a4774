//! A diagram as text that other programs draw: Mermaid and Graphviz DOT.

use std::fmt::Write;

use super::{View, live::Edge};

/// The text formats of a diagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// For Mermaid, as GitHub and GitLab show it.
    Mermaid,
    /// For Graphviz.
    Dot,
}

impl Picture {
    /// Draws a view.
    pub fn draw(self, view: &View) -> String {
        match self {
            Self::Mermaid => mermaid(view),
            Self::Dot => dot(view),
        }
    }
}

// Writing to a `String` cannot fail, so the results below are not looked at.

/// Draws a view as a Mermaid state diagram, with counts.
pub fn mermaid(view: &View) -> String {
    let mut text = String::from("stateDiagram-v2\n");
    for node in &view.nodes {
        let _ = writeln!(text, "    {} : {} ({} active)", node.id, node.id, node.active);
    }
    if let Some(first) = view.nodes.first() {
        let _ = writeln!(text, "    [*] --> {}", first.id);
    }
    for edge in &view.edges {
        let _ = writeln!(text, "    {} --> {} : {}", edge.from, edge.to, label(edge));
    }
    text
}

/// Draws a view for Graphviz; the redder a way, the more of it fails.
pub fn dot(view: &View) -> String {
    let mut text = format!("digraph \"{}\" {{\n    rankdir=LR;\n", escape(view.name));
    for node in &view.nodes {
        let id = escape(node.id);
        let _ = writeln!(text, "    \"{id}\" [label=\"{id}\\n{} active\"];", node.active);
    }
    for edge in &view.edges {
        let (from, to) = (escape(edge.from), escape(edge.to));
        // From black to red, as hue, saturation and value.
        let heat = format!("0.000 {:.3} {:.3}", 1.0_f64, edge.error_rate.clamp(0.0, 1.0));
        let label = label(edge);
        let _ = writeln!(text, "    \"{from}\" -> \"{to}\" [label=\"{label}\", color=\"{heat}\"];");
    }
    text.push_str("}\n");
    text
}

fn label(edge: &Edge) -> String {
    let failed = if edge.failed == 0 { String::new() } else { format!(", {} failed", edge.failed) };
    format!("{}{failed}", edge.succeeded)
}

fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#)
}
