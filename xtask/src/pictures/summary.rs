//! The picture of all ratios: a dot for each comparison, on one axis.

use std::collections::BTreeMap;

use super::{
    report::Section,
    scale::Log,
    svg::{Canvas, MARGIN, WIDTH},
};

/// Where the axis begins and how long it is.
const LEFT: f64 = 150.0;
const LENGTH: f64 = 640.0;

/// How far apart dots are that lie on each other.
const STEP: f64 = 7.0;

/// A comparison: its ratio and what it is.
type Comparison = (f64, String);

/// Draws the ratios of all components.
pub(crate) fn picture(sections: &[Section]) -> String {
    let mut canvas = Canvas::new("Ours and others on the same work: every ratio");
    let all: Vec<(&str, Vec<Comparison>)> = sections
        .iter()
        .map(|section| (section.component.as_str(), comparisons(section)))
        .filter(|(_, comparisons)| !comparisons.is_empty())
        .collect();
    let ratios = all.iter().flat_map(|(_, comparisons)| comparisons).map(|(ratio, _)| *ratio);
    let scale = Log::new(ratios, LENGTH);
    let heights = all.iter().map(|(_, comparisons)| height(scale, comparisons));
    let top = legend(&mut canvas);
    let bottom = top + heights.sum::<f64>();
    axis(&mut canvas, scale, (top, bottom));
    let mut y = top;
    for (component, comparisons) in &all {
        y += height(scale, comparisons);
        draw(&mut canvas, scale, (component, comparisons), y);
    }
    canvas.finish(bottom + 46.0)
}

/// Returns the comparisons of a component, the least ratio first.
fn comparisons(section: &Section) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for group in &section.groups {
        for peer in &group.peers {
            let what = format!("{} beside {}", group.workload, peer.name);
            comparisons.extend(peer.ratio.map(|ratio| (ratio, format!("{what}: {ratio:.2}"))));
        }
    }
    comparisons.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    comparisons
}

fn legend(canvas: &mut Canvas) -> f64 {
    let notes = [
        "A dot is one comparison: a workload of ours beside one other system, or another setting of \
         ours. Many do less than ours does: the tables say what.",
        "The tick below a line is its middle dot; the count at the right is of its dots at 1 or above.",
    ];
    for (note, y) in notes.iter().zip([50.0, 67.0]) {
        canvas.text("note", (MARGIN, y), note);
    }
    96.0
}

fn axis(canvas: &mut Canvas, scale: Log, (top, bottom): (f64, f64)) {
    let middle = LEFT + scale.place(1.0);
    canvas.text("note end", (middle - 8.0, top - 6.0), "\u{2190} the other is better");
    canvas.text("note", (middle + 8.0, top - 6.0), "ours is better \u{2192}");
    for tick in scale.ticks() {
        let x = LEFT + scale.place(tick);
        canvas.line("tick", (x, top), (x, bottom));
        canvas.text("middle", (x, bottom + 16.0), &tick.to_string());
    }
    canvas.line("one", (middle, top - 16.0), (middle, bottom));
    let label = "ratio in our favour; 1 is the other system; each line is ten times the one before";
    canvas.text("middle", (LEFT + LENGTH / 2.0, bottom + 34.0), label);
}

/// Draws a component's dots upon the line at a height.
fn draw(
    canvas: &mut Canvas,
    scale: Log,
    (component, comparisons): (&str, &[Comparison]),
    bottom: f64,
) {
    canvas.line("row", (MARGIN, bottom), (WIDTH - MARGIN, bottom));
    canvas.text("heading", (MARGIN, bottom - 8.0), component);
    for ((ratio, what), (x, level)) in comparisons.iter().zip(stacked(scale, comparisons)) {
        let class = if *ratio < 1.0 { "against" } else { "for" };
        canvas.dot(class, (LEFT + x, bottom - 6.0 - level * STEP), what);
    }
    let n_for = comparisons.iter().filter(|(ratio, _)| 1.0 <= *ratio).count();
    let score = format!("{n_for} of {}", comparisons.len());
    canvas.text("end", (WIDTH - MARGIN, bottom - 8.0), &score);
    if let Some((ratio, _)) = comparisons.get(comparisons.len() / 2) {
        let x = LEFT + scale.place(*ratio);
        canvas.line("median", (x, bottom - 1.0), (x, bottom + 5.0));
    }
}

/// Returns where each dot lies: in the middle of which step from one, and how many lie below it.
fn stacked(scale: Log, comparisons: &[Comparison]) -> Vec<(f64, f64)> {
    let middle = scale.place(1.0);
    let mut levels: BTreeMap<String, f64> = BTreeMap::new();
    let mut places = Vec::new();
    for (ratio, _) in comparisons {
        let x = middle + ((scale.place(*ratio) - middle) / STEP).floor() * STEP + STEP / 2.0;
        let level = levels.entry(format!("{x:.1}")).or_insert(0.0);
        places.push((x, *level));
        *level += 1.0;
    }
    places
}

/// Returns how high a component's row is.
fn height(scale: Log, comparisons: &[Comparison]) -> f64 {
    let levels = stacked(scale, comparisons).into_iter().map(|(_, level)| level);
    (levels.fold(0.0, f64::max) * STEP + 18.0).max(30.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::report::{HEAD, read};

    fn of(ratios: &[f64]) -> Vec<Comparison> {
        ratios.iter().map(|ratio| (*ratio, String::new())).collect()
    }

    #[test]
    fn a_dot_lies_on_its_side_of_one_and_upon_those_of_its_step() {
        let ratios = [0.02, 0.97, 0.995, 1.0, 1.001, 90.0];
        let scale = Log::new(ratios, LENGTH);
        let places = stacked(scale, &of(&ratios));
        let middle = scale.place(1.0);
        for (ratio, (x, _)) in ratios.iter().zip(&places) {
            assert_eq!(*ratio < 1.0, *x < middle, "{ratio}");
            assert!((x - scale.place(*ratio)).abs() <= STEP, "{ratio}");
        }
        let levels: Vec<f64> = places.into_iter().map(|(_, level)| level).collect();
        assert_eq!(levels, [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_component_tells_how_many_of_its_ratios_are_at_least_one() {
        let rows = "| `w`: work | 10/s | one | 10/s | 1.00 | - | - |  |\n\
                    | `w`: work | 10/s | two | 100/s | 0.10 | - | - |  |\n\
                    | `w`: work | 10/s | none | 0/s | - | - | - |  |\n";
        let picture = picture(&read(&format!("## part\n\n{HEAD}{rows}")).unwrap());
        assert!(picture.contains(">part<") && picture.contains(">1 of 2<"), "{picture}");
        assert!(picture.contains("w beside two: 0.10") && !picture.contains("none"), "{picture}");
    }
}
