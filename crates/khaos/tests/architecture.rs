//! The house: which crate may know which.
#![allow(clippy::unwrap_used, reason = "a test says what is broken by panicking")]

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Dependencies point one way, and nobody reaches past his neighbour.
#[test]
fn the_edges_between_crates_are_those_of_the_design() {
    let allowed: BTreeSet<(&str, &str)> = [
        ("khaos", "khaos-adapters"),
        ("khaos", "khaos-control"),
        ("khaos", "khaos-core"),
        ("khaos", "khaos-twin"),
        ("khaos-adapters", "khaos-control"),
        ("khaos-twin", "khaos-control"),
        ("khaos-control", "khaos-core"),
        ("khaos-core", "khaos-stats"),
    ]
    .into();
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let edges: BTreeSet<(&str, &str)> = metadata
        .packages
        .iter()
        .flat_map(|package| {
            let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
            normal.map(|dependency| (package.name.as_str(), dependency.name.as_str()))
        })
        .filter(|(_, to)| ours.contains(to))
        .collect();
    assert_eq!(edges, allowed);
}

/// What decides knows no runtime, no files and no network; only the adapters know the world.
#[test]
fn foreign_things_stay_where_they_belong() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let needs = |krate: &str, names: &[&str]| -> Vec<String> {
        let package = metadata.packages.iter().find(|p| p.name.as_str() == krate).unwrap();
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        normal.map(|d| d.name.clone()).filter(|name| names.contains(&name.as_str())).collect()
    };
    let effects = ["tokio", "async-trait", "futures", "rusqlite", "reqwest", "clap"];
    assert!(needs("khaos-stats", &effects).is_empty());
    assert!(needs("khaos-core", &effects).is_empty());
    assert!(needs("khaos-control", &["rusqlite", "reqwest", "clap"]).is_empty());
    assert!(needs("khaos-twin", &["rusqlite", "reqwest", "clap", "khaos-adapters"]).is_empty());
    assert!(needs("khaos", &["rusqlite", "reqwest"]).is_empty());
}
