//! The picture of one component: our bar and those of its peers, workload by workload.

use super::{
    report::{Better, Figure, Group, Section},
    scale::Linear,
    svg::{Canvas, MARGIN, WIDTH, wrapped},
};

/// Where the bars begin.
const LEFT: f64 = 372.0;

/// How long the longest is; right of it is room for its figure.
const LENGTH: f64 = 420.0;

/// How high a line of text is.
const LINE: f64 = 15.0;

/// The most signs of a name's line, and of a heading's.
const NAME: usize = 56;
const HEADING: usize = 140;

/// Draws a component's workloads.
pub(crate) fn picture(section: &Section) -> String {
    let Section { component, groups } = section;
    let mut canvas = Canvas::new(&format!("{component}: ours and others on the same work"));
    let mut top = legend(&mut canvas);
    for group in groups {
        top = draw(&mut canvas, group, top);
    }
    canvas.finish(top)
}

fn legend(canvas: &mut Canvas) -> f64 {
    for (class, x, name) in [("ours", MARGIN, "ours"), ("peer", MARGIN + 60.0, "the other system")]
    {
        canvas.bar(class, (x, 43.0), (12.0, 10.0));
        canvas.text("note", (x + 17.0, 52.0), name);
    }
    canvas.line("ours", (MARGIN + 190.0, 42.0), (MARGIN + 190.0, 54.0));
    canvas.text("note", (MARGIN + 197.0, 52.0), "where our bar ends");
    let axis = "Bars begin at zero, and each workload has its own axis. In brackets: the ratio, \
                above 1 in our favour.";
    canvas.text("note", (MARGIN, 71.0), axis);
    92.0
}

/// Draws a workload from a height on, and returns where the next one begins.
fn draw(canvas: &mut Canvas, group: &Group, top: f64) -> f64 {
    let better = match group.better {
        Better::More => "longer is better",
        Better::Less => "shorter is better",
    };
    let mut y = top;
    canvas.line("rule", (MARGIN, y), (WIDTH - MARGIN, y));
    for line in wrapped(&format!("{}: {} ({better})", group.workload, group.what), HEADING) {
        y += LINE + 2.0;
        canvas.text("heading", (MARGIN, y), &line);
    }
    y += 8.0;
    let figures = group.peers.iter().map(|peer| peer.figure.value);
    let scale = Linear::new(figures.fold(group.ours.value, f64::max), LENGTH);
    let (first, ours) = (y, LEFT + scale.length(group.ours.value));
    y += row(canvas, ("ours", "ours"), (scale, y), &group.ours);
    let peers = y;
    for peer in &group.peers {
        y += row(canvas, ("peer", &peer.name), (scale, y), &peer.figure);
    }
    canvas.line("zero", (LEFT, first - 2.0), (LEFT, y));
    canvas.line("ours", (ours, peers - 2.0), (ours, y));
    // They are written over the lines.
    write_figures(canvas, group, (scale, first));
    y + 10.0
}

fn write_figures(canvas: &mut Canvas, group: &Group, (scale, first): (Linear, f64)) {
    let mut y = first;
    let mut write = |figure: &Figure, text: &str, name: &str| {
        canvas.text("value", (LEFT + scale.length(figure.value) + 6.0, y + 11.0), text);
        y += height(name);
    };
    write(&group.ours, &group.ours.text, "ours");
    for peer in &group.peers {
        let ratio = peer.ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2})"));
        write(&peer.figure, &format!("{}{ratio}", peer.figure.text), &peer.name);
    }
}

/// Draws a name and its bar, and returns how high the row is.
fn row(
    canvas: &mut Canvas,
    (class, name): (&str, &str),
    (scale, top): (Linear, f64),
    figure: &Figure,
) -> f64 {
    canvas.bar(class, (LEFT, top), (scale.length(figure.value), 12.0));
    let mut y = top;
    for line in wrapped(name, NAME) {
        canvas.text("end", (LEFT - 8.0, y + 11.0), &line);
        y += LINE;
    }
    height(name)
}

/// Returns how high the row of a name is.
fn height(name: &str) -> f64 {
    wrapped(name, NAME).iter().map(|_| LINE).sum::<f64>() + 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::report::{HEAD, read};

    /// Returns the lengths of the bars of a class, below the legend.
    fn lengths(picture: &str, class: &str) -> Vec<f64> {
        let bars =
            picture.lines().filter(|line| line.starts_with(&format!("<rect class=\"{class}\"")));
        let length = |line: &str| -> f64 {
            let (_, rest) = line.split_once("width=\"").unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        bars.skip(1).map(length).collect()
    }

    #[test]
    fn bars_are_drawn_in_proportion_and_named() {
        let rows = "| `w`: work | 25/s | one | 50/s | 0.50 | - | - |  |\n\
                    | `w`: work | 25/s | two, which does less | 100/s | 0.25 | - | - |  |\n\
                    | `x`: work | 3ms | three | 0ms | - | - | - |  |\n";
        let sections = read(&format!("## one\n\n{HEAD}{rows}")).unwrap();
        let picture = picture(&sections[0]);
        assert_eq!(lengths(&picture, "ours"), [LENGTH / 4.0, LENGTH]);
        assert_eq!(lengths(&picture, "peer"), [LENGTH / 2.0, LENGTH, 0.5]);
        for text in
            [">two, which does less<", ">100/s (0.25)<", ">0ms<", "work (shorter is better)<"]
        {
            assert!(picture.contains(text), "{text}: {picture}");
        }
    }
}
