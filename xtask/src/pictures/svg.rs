//! What the pictures are drawn with: text and shapes whose colours follow the reader's light or dark.

/// How wide every picture is.
pub(crate) const WIDTH: f64 = 960.0;

/// The space at its edges.
pub(crate) const MARGIN: f64 = 16.0;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}
text.title{font-size:17px;font-weight:600}
text.heading{font-weight:600}
text.note{fill:#57606a}
text.end{text-anchor:end}
text.middle{text-anchor:middle;fill:#57606a}
text.value{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
.paper{fill:#fff}
.ours,.for{fill:#0969da}
.peer{fill:#a8b1bb}
.against{fill:#d4600a}
line{stroke:#d0d7de}
line.zero,line.one{stroke:#57606a}
line.ours{stroke:#0969da;stroke-dasharray:3 3}
line.median{stroke:#1f2328;stroke-width:2}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}
text.note,text.middle{fill:#9aa4af}
text.value{stroke:#0d1117}
.paper{fill:#0d1117}
.ours,.for{fill:#58a6ff}
.peer{fill:#59636e}
.against{fill:#f0883e}
line{stroke:#30363d}
line.zero,line.one{stroke:#9aa4af}
line.ours{stroke:#58a6ff}
line.median{stroke:#e6edf3}
}";

/// A place, from the upper left.
pub(crate) type Place = (f64, f64);

/// A picture that is being drawn.
#[derive(Debug)]
pub(crate) struct Canvas {
    title: String,
    elements: Vec<String>,
}

impl Canvas {
    /// Creates one with its title, which is drawn too.
    pub(crate) fn new(title: &str) -> Self {
        let mut canvas = Self { title: escaped(title), elements: Vec::new() };
        canvas.text("title", (MARGIN, 28.0), title);
        canvas
    }

    /// Writes a line of text; its place is where its base begins.
    pub(crate) fn text(&mut self, class: &str, (x, y): Place, text: &str) {
        let text = escaped(text);
        self.elements.push(format!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    /// Draws a bar to the right of a place; one of next to nothing still shows where it is.
    pub(crate) fn bar(&mut self, class: &str, (x, y): Place, (length, height): (f64, f64)) {
        let length = length.max(0.5);
        self.elements.push(format!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{length:.1}" height="{height:.1}"/>"#
        ));
    }

    /// Draws a line.
    pub(crate) fn line(&mut self, class: &str, (x1, y1): Place, (x2, y2): Place) {
        self.elements.push(format!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    /// Draws a dot that tells what it is where a pointer rests on it.
    pub(crate) fn dot(&mut self, class: &str, (x, y): Place, told: &str) {
        let told = escaped(told);
        self.elements.push(format!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="3.2"><title>{told}</title></circle>"#
        ));
    }

    /// Returns the picture, cut off below a height.
    pub(crate) fn finish(self, height: f64) -> String {
        let Self { title, elements } = self;
        let elements = elements.join("\n");
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{WIDTH}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
             {elements}\n</svg>\n"
        )
    }
}

/// Breaks a text into lines of at most so many signs, where no word is longer.
pub(crate) fn wrapped(text: &str, n_signs: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= n_signs => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_only_text() {
        let mut canvas = Canvas::new("a & b");
        canvas.text("note", (1.0, 2.0), "RwLock<HashMap>");
        canvas.dot("for", (1.0, 2.0), "\"<script>\"");
        let picture = canvas.finish(100.0);
        assert!(picture.contains("RwLock&lt;HashMap&gt;") && picture.contains("a &amp; b"));
        assert!(!picture.contains("<script"), "{picture}");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("a bare  group-commit loop", 12), ["a bare", "group-commit", "loop"]);
        assert_eq!(wrapped("unbreakable", 3), ["unbreakable"]);
        assert!(wrapped("", 3).is_empty());
    }
}
