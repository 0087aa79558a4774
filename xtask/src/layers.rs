//! The dependency rule: components know the core and nobody else.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{
    args::{self, Asked},
    metadata::{self, Metadata, Package},
    shell,
};

const HELP: &str = "\
Usage: cargo xtask layers

Reads `cargo metadata` and xtask/layers.toml and refuses
  - a component that depends on another component,
  - infra-core or infra-testkit depending on a component,
  - anything depending on game-server, infra-conformance, benches or xtask,
  - infra-core depending on more than it may,
  - an external dependency without a line of reason,
  - features that are on by default.";

/// The parts of the rule that are data.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// The crates that must not know each other.
    components: BTreeSet<String>,
    /// The crates that may see several components; nothing depends on them.
    tops: BTreeSet<String>,
    /// What infra-core may depend on.
    core: BTreeSet<String>,
    /// Why each external dependency is there.
    reasons: BTreeMap<String, String>,
    /// Crates below 1.0 that may stand in public signatures, and why; each has a reason above.
    public: BTreeMap<String, String>,
}

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    match args::parse(words, &[], &[])? {
        Asked::Help => println!("{HELP}"),
        Asked::Run(_) => {
            let broken = judge(&metadata::read()?, &read_rules()?);
            if !broken.is_empty() {
                return Err(format!("the dependency rule is broken:\n  {}", broken.join("\n  ")));
            }
            println!("layers: the dependency rule holds");
        }
    }
    Ok(())
}

fn read_rules() -> Result<Rules, String> {
    let path = shell::root().join("xtask/layers.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

const CORE: &str = "infra-core";
const TESTKIT: &str = "infra-testkit";

/// Returns each broken rule, by name.
fn judge(metadata: &Metadata, rules: &Rules) -> Vec<String> {
    let members: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut broken = Vec::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            let is_dev = dependency.kind.as_deref() == Some("dev");
            let to = dependency.name.as_str();
            let why = if members.contains(to) {
                refuse_sibling(package, to, is_dev, rules)
            } else {
                refuse_external(package, to, is_dev, rules)
            };
            broken.extend(why.map(|why| format!("{} -> {to}: {why}", package.name)));
        }
        if package.features.get("default").is_some_and(|features| !features.is_empty()) {
            broken.push(format!("{}: features are on by default", package.name));
        }
    }
    let unused = rules.reasons.iter().filter(|(_, reason)| reason.trim().len() < 10);
    broken.extend(unused.map(|(name, _)| format!("layers.toml: {name} has no reason")));
    let unknown = rules.public.keys().filter(|name| !rules.reasons.contains_key(*name));
    broken.extend(unknown.map(|name| format!("layers.toml: {name} is public and not known")));
    broken
}

fn refuse_sibling(
    package: &Package,
    to: &str,
    is_dev: bool,
    rules: &Rules,
) -> Option<&'static str> {
    let from = package.name.as_str();
    let is_component = |name: &str| rules.components.contains(name);
    if rules.tops.contains(to) {
        return Some("nothing depends on this crate");
    }
    if is_dev && to == TESTKIT {
        return None;
    }
    if is_component(from) && is_component(to) {
        return Some("a component knows no other component");
    }
    if (from == CORE || from == TESTKIT) && is_component(to) {
        return Some("the core and the test kit know no component");
    }
    if to == TESTKIT && !rules.tops.contains(from) {
        return Some("the test kit is a dev-dependency");
    }
    None
}

fn refuse_external(
    package: &Package,
    to: &str,
    is_dev: bool,
    rules: &Rules,
) -> Option<&'static str> {
    if package.name == CORE && !is_dev && !rules.core.contains(to) {
        return Some("the core may not depend on it");
    }
    if !rules.reasons.contains_key(to) {
        return Some("layers.toml has no reason for it");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn real() -> (Metadata, Rules) {
        (metadata::read().unwrap(), read_rules().unwrap())
    }

    fn plant(metadata: &mut Metadata, from: &str, to: &str, kind: Option<&str>) {
        let package = metadata.packages.iter_mut().find(|package| package.name == from).unwrap();
        let (name, kind) = (to.to_owned(), kind.map(ToOwned::to_owned));
        package.dependencies.push(Dependency { name, kind });
    }

    #[test]
    fn the_workspace_keeps_the_dependency_rule() {
        let (metadata, rules) = real();
        assert_eq!(judge(&metadata, &rules), Vec::<String>::new());
    }

    #[test]
    fn a_planted_edge_between_two_components_is_refused_by_name() {
        let (mut metadata, rules) = real();
        plant(&mut metadata, "infra-ws", "infra-ratelimit", None);
        let wanted = "infra-ws -> infra-ratelimit: a component knows no other component";
        assert_eq!(judge(&metadata, &rules), [wanted]);
    }

    /// What three components need and infra-core cannot hold; see docs/decisions/0026.
    #[test]
    fn what_stands_in_several_components_is_the_same_in_each() {
        let read = |package: &str| {
            let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates");
            std::fs::read_to_string(format!("{crates}/{package}/src/postgres/line.rs")).unwrap()
        };
        for package in ["infra-persistence", "infra-messaging"] {
            assert_eq!(read(package), read("infra-events"), "{package}");
        }
    }

    #[test]
    fn each_other_rule_is_refused_too() {
        let cases = [
            ("infra-core", "infra-cache", None, "know no component"),
            ("infra-core", "regex", None, "may not depend on it"),
            ("infra-cache", "game-server", Some("dev"), "nothing depends on"),
            ("infra-cache", "infra-testkit", None, "is a dev-dependency"),
            ("infra-cache", "leftpad", None, "no reason for it"),
            ("infra-events", "infra-persistence", Some("dev"), "knows no other component"),
        ];
        for (from, to, kind, why) in cases {
            let (mut metadata, rules) = real();
            plant(&mut metadata, from, to, kind);
            let broken = judge(&metadata, &rules);
            assert!(broken.len() == 1 && broken[0].contains(why), "{broken:?}");
        }
        let (mut metadata, mut rules) = real();
        metadata.packages[0].features.insert("default".to_owned(), vec!["x".to_owned()]);
        rules.reasons.insert("tokio".to_owned(), String::new());
        assert_eq!(judge(&metadata, &rules).len(), 2);
    }
}
