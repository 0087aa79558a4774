//! The files of the page and of the dashboard, embedded in the binary.

/// A file that a browser asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Where it is: `/` or a slash and its name.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

/// The policy that every asset is served with: nothing from elsewhere, nothing inline.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! asset {
    ($path:literal, $content_type:expr, $file:literal) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../web/", $file)),
        }
    };
}

/// The files of the game's page, for the public listener.
pub const GAME: &[Asset] = &[
    asset!("/", HTML, "index.html"),
    asset!("/style.css", CSS, "style.css"),
    asset!("/table.css", CSS, "table.css"),
    asset!("/icon.svg", PICTURE, "icon.svg"),
    asset!("/app.js", SCRIPT, "app.js"),
    asset!("/best.js", SCRIPT, "best.js"),
    asset!("/client.js", SCRIPT, "client.js"),
    Asset { path: "/link.js", content_type: SCRIPT, bytes: infra_ws::browser::LINK.as_bytes() },
    asset!("/dom.js", SCRIPT, "dom.js"),
    asset!("/fold.js", SCRIPT, "fold.js"),
    asset!("/glyphs.js", SCRIPT, "glyphs.js"),
    asset!("/hand.js", SCRIPT, "hand.js"),
    asset!("/lobby.js", SCRIPT, "lobby.js"),
    asset!("/pieces.js", SCRIPT, "pieces.js"),
    asset!("/replay.js", SCRIPT, "replay.js"),
    asset!("/rules.js", SCRIPT, "rules.js"),
    asset!("/table.js", SCRIPT, "table.js"),
    asset!("/talk.js", SCRIPT, "talk.js"),
    asset!("/words.js", SCRIPT, "words.js"),
];

/// The files of the dashboard, for the admin listener.
pub const DASHBOARD: &[Asset] = &[
    asset!("/dashboard", HTML, "dashboard/index.html"),
    asset!("/dashboard/dashboard.css", CSS, "dashboard/dashboard.css"),
    asset!("/dashboard/dashboard.js", SCRIPT, "dashboard/dashboard.js"),
    asset!("/dashboard/admin.js", SCRIPT, "dashboard/admin.js"),
    asset!("/dashboard/charts.js", SCRIPT, "dashboard/charts.js"),
    asset!("/dashboard/diagram.js", SCRIPT, "dashboard/diagram.js"),
    asset!("/dashboard/live.js", SCRIPT, "dashboard/live.js"),
    asset!("/dashboard/inside.js", SCRIPT, "dashboard/inside.js"),
    asset!("/dashboard/observed.js", SCRIPT, "dashboard/observed.js"),
    asset!("/dashboard/room.js", SCRIPT, "dashboard/room.js"),
    asset!("/dashboard/travel.js", SCRIPT, "dashboard/travel.js"),
    asset!("/icon.svg", PICTURE, "icon.svg"),
    asset!("/dom.js", SCRIPT, "dom.js"),
    asset!("/glyphs.js", SCRIPT, "glyphs.js"),
    asset!("/pieces.js", SCRIPT, "pieces.js"),
    asset!("/rules.js", SCRIPT, "rules.js"),
    asset!("/words.js", SCRIPT, "words.js"),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn text(asset: &Asset) -> &'static str {
        str::from_utf8(asset.bytes).unwrap()
    }

    /// Returns what stands between each `before` and the next `after`.
    fn between<'a>(text: &'a str, before: &str, after: char) -> Vec<&'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
    }

    fn folder(of: &str) -> &str {
        of.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Returns the paths that an asset asks the server for.
    fn wanted(asset: &Asset) -> Vec<String> {
        let text = text(asset);
        let mut paths: Vec<String> = ["src=\"", "href=\""]
            .iter()
            .flat_map(|attribute| between(text, attribute, '"'))
            .filter(|path| asset.content_type == HTML && path.starts_with('/'))
            .map(str::to_owned)
            .collect();
        if asset.content_type == SCRIPT {
            for module in between(text, " from \"", '"') {
                let beside = module.strip_prefix("./");
                let beside = beside.map(|name| format!("{}/{name}", folder(asset.path)));
                let whole = module.starts_with('/').then(|| module.to_owned());
                paths.push(beside.or(whole).unwrap_or_else(|| panic!("{module}")));
            }
        }
        paths
    }

    #[test]
    fn whatever_a_file_asks_for_is_served_beside_it() {
        for listener in [GAME, DASHBOARD] {
            let served: BTreeSet<&str> = listener.iter().map(|asset| asset.path).collect();
            assert_eq!(served.len(), listener.len());
            let mut asked: BTreeSet<String> = listener.iter().flat_map(wanted).collect();
            assert!(asked.iter().all(|path| served.contains(path.as_str())), "{asked:?}");
            asked.extend(["/".to_owned(), "/dashboard".to_owned()]);
            assert!(served.iter().all(|path| asked.contains(*path)), "{served:?} {asked:?}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        for folder in [web.clone(), web.join("dashboard")] {
            for entry in fs::read_dir(folder).unwrap() {
                let file = entry.unwrap().path();
                if file.is_file() {
                    let bytes = fs::read(&file).unwrap();
                    let is_embedded = GAME.iter().chain(DASHBOARD).any(|one| one.bytes == bytes);
                    assert!(is_embedded, "{}", file.display());
                }
            }
        }
    }

    #[test]
    fn no_page_holds_script_or_style_of_its_own() {
        for asset in GAME.iter().chain(DASHBOARD).filter(|asset| asset.content_type == HTML) {
            let text = text(asset);
            assert!(!text.contains("style=") && !text.contains("<style"), "{}", asset.path);
            for tag in between(text, "<", '>') {
                let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
                assert!(!tag.split_whitespace().any(is_handler), "{tag}");
            }
            for script in between(text, "<script", '<') {
                let (tag, content) = script.split_once('>').unwrap();
                assert!(tag.contains(" src=") && content.is_empty(), "{script}");
            }
        }
    }

    #[test]
    fn no_script_makes_html_or_code_out_of_text() {
        let ways = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "srcdoc",
            "createContextualFragment",
            "setHTML",
        ];
        for asset in GAME.iter().chain(DASHBOARD).filter(|asset| asset.content_type == SCRIPT) {
            for way in ways {
                assert!(!text(asset).contains(way), "{way} in {}", asset.path);
            }
        }
    }

    #[test]
    fn no_file_asks_for_anything_from_elsewhere() {
        for asset in GAME.iter().chain(DASHBOARD) {
            let text = text(asset).replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{}", asset.path);
        }
    }
}
