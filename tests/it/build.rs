//! What it takes to build the service: in the image, and with the oldest Rust that it names.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use toml::{Table, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
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
    let mut command = Command::new(env!("CARGO"));
    let metadata =
        command.args(["metadata", "--offline", "--no-deps", "--format-version=1"]).current_dir(folder.path());
    let Output { status, stdout, stderr } = metadata.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert!(String::from_utf8_lossy(&stdout).contains(r#""kind":["bin"]"#), "the binary is missing");
}

#[test]
fn the_lock_file_of_the_fuzz_targets_has_all_that_the_crate_depends_on() {
    let (package, lock): (Table, Table) =
        (text("Cargo.toml").parse().unwrap(), text("fuzz/Cargo.lock").parse().unwrap());
    let ours = lock["package"].as_array().unwrap().iter().find(|package| package["name"].as_str() == Some("auditlog"));
    // Where several versions are locked, a version follows the name.
    let name = |locked: &Value| locked.as_str().unwrap().split(' ').next().unwrap().to_owned();
    let locked: BTreeSet<String> = ours.unwrap()["dependencies"].as_array().unwrap().iter().map(name).collect();
    let named = ["dependencies", "build-dependencies"].map(|part| package[part].as_table().unwrap().keys().cloned());
    assert_eq!(locked, named.into_iter().flatten().collect(), "run `cargo metadata` in fuzz/");
}

/// Of a version, as far as it says: 1.91 is 1.91.0.
fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// The Cargo.toml of each package of the lock file that cargo has fetched; those for other platforms it has not.
fn manifests() -> Vec<Table> {
    let lock: Table = text("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let folders = packages
        .iter()
        .map(|package| format!("{}-{}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap()));
    let home = env::var_os("CARGO_HOME").map_or_else(|| env::home_dir().unwrap().join(".cargo"), PathBuf::from);
    let registries: Vec<_> =
        fs::read_dir(home.join("registry/src")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files = folders.filter_map(|folder| {
        registries.iter().map(|registry| registry.join(&folder).join("Cargo.toml")).find(|file| file.is_file())
    });
    files.map(|file| fs::read_to_string(file).unwrap().parse().unwrap()).collect()
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_package_names() {
    let package: Table = text("Cargo.toml").parse().unwrap();
    let ours = package["package"]["rust-version"].as_str().unwrap();
    let manifests = manifests();
    assert!(manifests.len() > 100, "only {} packages are where cargo keeps them", manifests.len());
    for package in manifests.iter().map(|manifest| &manifest["package"]) {
        let needed = package.get("rust-version").map_or("1", |version| version.as_str().unwrap());
        assert!(
            version(needed) <= version(ours),
            "{} needs Rust {needed}, and we name {ours}",
            package["name"].as_str().unwrap()
        );
    }
    assert!(text("Dockerfile").contains(&format!("FROM rust:{ours}-")), "the image is built with another Rust");
    assert!(text("README.md").contains(&format!("Rust {ours} or newer")), "the README names another Rust");
}
