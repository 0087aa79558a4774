//! Pictures of docs/benchmarks.md, drawn from its tables, so that no figure is written twice.
//!
//! Each component whose table has peers gets one with bars, and all of them one with their ratios.

mod bars;
mod report;
mod scale;
mod summary;
mod svg;

use std::fs;

pub(crate) use self::report::HEAD;
use crate::shell;

/// The name of the picture of all ratios.
const SUMMARY: &str = "bench-summary.svg";

/// Returns the line of the page that shows a component's picture.
pub(crate) fn link(component: &str) -> String {
    format!("![Bars of the table of {component}](pictures/{})", name(component))
}

/// Draws every picture of the page anew and removes those of components that are gone.
///
/// # Errors
///
/// A figure of the page that cannot be read, with its line, and what the file system fails with.
pub(crate) fn write() -> Result<(), String> {
    let pictures = files(&read_page()?)?;
    let folder = shell::root().join("docs/pictures");
    for name in drawn()? {
        if !pictures.iter().any(|(picture, _)| *picture == name) {
            fs::remove_file(folder.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    for (name, text) in &pictures {
        fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
    }
    println!("{} pictures written to {}", pictures.len(), folder.display());
    Ok(())
}

fn name(component: &str) -> String {
    format!("bench-{component}.svg")
}

/// Draws the pictures of a page: their names and texts.
fn files(page: &str) -> Result<Vec<(String, String)>, String> {
    let sections = report::read(page).map_err(|error| format!("docs/benchmarks.md: {error}"))?;
    let with_peers: Vec<_> =
        sections.into_iter().filter(|section| !section.groups.is_empty()).collect();
    let of_one = with_peers.iter().map(|one| (name(&one.component), bars::picture(one)));
    let of_all = (SUMMARY.to_owned(), summary::picture(&with_peers));
    Ok(of_one.chain([of_all]).collect())
}

fn read_page() -> Result<String, String> {
    let path = shell::root().join("docs/benchmarks.md");
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the names of the pictures that are there.
fn drawn() -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let folder = shell::root().join("docs/pictures");
    for file in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let file = file.map_err(|error| error.to_string())?;
        names.extend(file.file_name().into_string());
    }
    names.retain(|name| name.starts_with("bench-"));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_are_those_of_the_page() {
        let page = read_page().unwrap();
        let pictures = files(&page).unwrap();
        for (name, text) in &pictures {
            let drawn = fs::read_to_string(shell::root().join("docs/pictures").join(name)).ok();
            let is_current = drawn.as_ref() == Some(text);
            assert!(is_current, "{name} is stale: cargo xtask bench --pictures");
            assert!(page.contains(&format!("](pictures/{name})")), "{name} is not shown");
        }
        assert_eq!(drawn().unwrap().len(), pictures.len(), "one is of no component");
    }

    #[test]
    fn a_picture_is_small_and_runs_nothing() {
        for (name, text) in files(&read_page().unwrap()).unwrap() {
            assert!(text.len() < 64_000, "{name}: {} bytes", text.len());
            for active in ["<script", "<foreignObject", "href", "@import", "onload"] {
                assert!(!text.contains(active), "{name}: {active}");
            }
        }
    }

    #[test]
    fn a_component_without_peers_has_no_picture() {
        let row = |peer: &str| format!("| `w`: work | 2/s | p | {peer} | - | - | - |  |\n");
        let page = |peer: &str| format!("## one\n\n{}{}", HEAD, row(peer));
        let names = |page: &str| -> Vec<String> {
            files(page).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&page("1/s")), ["bench-one.svg", SUMMARY]);
        assert_eq!(names(&page("-")), [SUMMARY]);
    }
}
