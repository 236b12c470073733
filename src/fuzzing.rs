//! What the fuzzer feeds: one target for each way by which bytes come in from outside.
//!
//! A target takes any bytes and panics where a law is broken; the laws stand in the `laws` of the room that reads those
//! bytes. `fuzz/` runs the targets under libFuzzer. The tests run them on the bytes in `fuzz/seeds`, so that neither can
//! rot: every input that once broke a law is among them.

use crate::{auth, config, merkle, model, rpc};

/// The targets, by name; see [`Target`].
pub const TARGETS: [(&str, Target); 13] = [
    ("authorization", auth::jwt::laws::authorization),
    ("batch", rpc::laws::batch),
    ("checkpoint", merkle::laws::checkpoint),
    ("claims", auth::laws::claims),
    ("config", config::laws::config),
    ("export", rpc::laws::export),
    ("keys", auth::jwt::laws::keys),
    ("list", rpc::laws::list),
    ("metadata", rpc::laws::metadata),
    ("names", model::laws::names),
    ("note", rpc::laws::note),
    ("record", rpc::laws::record),
    ("token", auth::jwt::laws::token),
];

/// Takes any bytes, and panics where a law is broken.
pub type Target = fn(&[u8]);

/// Runs the target `name`.
///
/// # Panics
/// If a law is broken, or if there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of the table");
    target(bytes);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "fuzz", name].iter().collect()
    }

    fn names_in(path: &PathBuf) -> BTreeSet<String> {
        let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_target_has_a_program_and_seeds() {
        let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names_in(&folder("seeds")), targets);
        assert_eq!(names_in(&folder("fuzz_targets")), targets);
        let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
        for name in targets {
            assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        }
    }

    #[test]
    fn the_laws_hold_for_all_seeds() {
        for (name, target) in TARGETS {
            let mut count = 0;
            for entry in fs::read_dir(folder("seeds").join(name)).unwrap() {
                let path = entry.unwrap().path();
                // The last line before a panic names the input.
                eprintln!("{}", path.display());
                target(&fs::read(path).unwrap());
                count += 1;
            }
            assert!(count > 0, "{name} has no seeds");
        }
    }

    /// Cut off and changed in every place, a seed still breaks no law.
    #[test]
    fn the_laws_hold_for_what_is_left_of_a_seed() {
        for (name, target) in TARGETS {
            for entry in fs::read_dir(folder("seeds").join(name)).unwrap() {
                let path = entry.unwrap().path();
                eprintln!("{}", path.display());
                let seed = fs::read(path).unwrap();
                for at in (0..seed.len()).step_by(1 + seed.len() / 64) {
                    target(&seed[..at]);
                    let mut changed = seed.clone();
                    changed[at] ^= 0x41;
                    target(&changed);
                }
            }
        }
    }
}
