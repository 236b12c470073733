//! What it takes to build the service: in the image, and with the oldest Rust that it names.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// What cargo knows of the package in `folder`.
fn metadata(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO"));
    let Output { status, stdout, stderr } = command
        .args(["metadata", "--offline", "--format-version=1"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

/// What the Dockerfile copies from here.
fn copied() -> Vec<String> {
    let dockerfile = text("Dockerfile");
    let copies =
        dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|copy| !copy.contains("--from="));
    let sources = copies.flat_map(|copy| copy.rsplit_once(' ').unwrap().0.split(' ').map(str::to_owned));
    sources.collect()
}

#[test]
fn the_image_is_built_from_all_that_cargo_wants_to_see() {
    let folder = tempfile::tempdir().unwrap();
    let not_ignored = text(".dockerignore");
    for source in copied() {
        assert!(not_ignored.lines().any(|line| line == format!("!{source}")), ".dockerignore hides {source}");
        let status = Command::new("cp").arg("-r").arg(root().join(&source)).arg(folder.path()).status().unwrap();
        assert!(status.success());
    }
    // Fails if a file of a target that Cargo.toml names is missing.
    let package = &metadata(folder.path(), &["--no-deps"])["packages"][0];
    let targets = package["targets"].as_array().unwrap();
    assert!(targets.iter().any(|target| target["name"] == "auditlog" && target["kind"][0] == "bin"), "{targets:?}");
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_package_names() {
    let metadata = metadata(root(), &["--locked"]);
    let version = |text: &str| text.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    let packages: Vec<_> = metadata["packages"].as_array().unwrap().iter().collect();
    let ours = packages.iter().find(|package| package["name"] == "auditlog").unwrap()["rust_version"].as_str().unwrap();
    for package in &packages {
        let needed = package["rust_version"].as_str().unwrap_or("1");
        assert!(version(needed) <= version(ours), "{} needs Rust {needed}, and we name {ours}", package["id"]);
    }
    assert!(text("Dockerfile").contains(&format!("FROM rust:{ours}-")), "the image is built with another Rust");
    assert!(text("README.md").contains(&format!("Rust {ours} or newer")), "the README names another Rust");
}
