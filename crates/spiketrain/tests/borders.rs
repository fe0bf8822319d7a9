//! The borders of the house, held by reading its imports: the loop knows no method, kernels know
//! no files and no clocks, the two notations of spikes do not meet.

use std::path::{Path, PathBuf};

/// What no file of a place may name.
struct Border {
    /// File or folder below `src`.
    place: &'static str,
    /// Paths that must not occur in its code.
    forbidden: &'static [&'static str],
}

/// Files, clocks, threads of the operating system, environment, network.
const WORLD: &[&str] = &[
    "std::fs",
    "std::path",
    "std::time",
    "std::env",
    "std::net",
    "std::process",
    "Instant::now",
    "SystemTime",
    "println!",
];

const BORDERS: &[Border] = &[
    Border {
        place: "train.rs",
        forbidden: &["methods::", "s2stdp", "crate::times", "crate::frames"],
    },
    Border { place: "learner.rs", forbidden: &["methods", "crate::recipe", "crate::train"] },
    Border {
        place: "times",
        forbidden: &[
            "crate::frames",
            "crate::methods",
            "crate::encode",
            "crate::data",
            "crate::train",
            "crate::recipe",
            "crate::report",
            "crate::learner",
        ],
    },
    Border {
        place: "frames",
        forbidden: &[
            "crate::times",
            "crate::methods",
            "crate::encode",
            "crate::data",
            "crate::train",
            "crate::recipe",
            "crate::report",
        ],
    },
    Border {
        place: "methods",
        forbidden: &[
            "crate::train",
            "crate::recipe",
            "crate::data",
            "crate::report",
            "crate::checkpoint",
            "crate::runlog",
        ],
    },
    Border {
        place: "encode",
        forbidden: &["crate::methods", "crate::train", "crate::recipe", "crate::report"],
    },
    Border {
        place: "report",
        forbidden: &["crate::methods", "crate::train", "crate::times", "crate::frames"],
    },
    Border {
        place: "data",
        forbidden: &[
            "crate::methods",
            "crate::encode",
            "crate::train",
            "crate::times",
            "crate::frames",
        ],
    },
    Border { place: "simd", forbidden: &["crate::times", "crate::frames", "crate::encode"] },
    Border { place: "metrics", forbidden: &["crate::methods", "crate::train"] },
];

/// Places that touch neither files nor clocks.
const PURE: &[&str] = &[
    "augment",
    "elementary.rs",
    "times",
    "frames",
    "methods",
    "encode",
    "learner.rs",
    "metrics",
    "readout",
    "schedule.rs",
    "seed.rs",
    "simd",
    "spikes.rs",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Rust files at or below `path`, in the order of names; none if there is no such place.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    let inner = paths.iter().flat_map(|p| if p.is_dir() { files(p) } else { vec![p.clone()] });
    let is_code =
        |p: &PathBuf| p.extension().is_some_and(|e| e == "rs") && !p.ends_with("tests.rs");
    inner.filter(is_code).collect()
}

/// The code of a file: no comments, nothing from an inline test module on.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|l| l.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Where the code of a file names something in `forbidden`: line and name.
fn sightings(text: &str, forbidden: &[impl AsRef<str>]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (i, line) in code(text).lines().enumerate() {
        let names = forbidden.iter().map(AsRef::as_ref).filter(|f| line.contains(f));
        found.extend(names.map(|name| (i + 1, name.to_owned())));
    }
    found
}

/// Every place where a file of `place` names something in `forbidden`.
fn trespasses(place: &str, forbidden: &[impl AsRef<str>]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files(&source().join(place)) {
        let text = std::fs::read_to_string(&file).expect("a source file");
        for (line, name) in sightings(&text, forbidden) {
            found.push(format!("{}:{line} names {name}", file.display()));
        }
    }
    found
}

/// How code in the folder of the methods can name the method `name`, also in a list of imports.
fn ways_to_name(name: &str) -> [String; 3] {
    [format!("methods::{name}"), format!("super::{name}"), format!("{name}::")]
}

#[test]
fn no_place_knows_what_it_should_not() {
    let found: Vec<String> =
        BORDERS.iter().flat_map(|b| trespasses(b.place, b.forbidden)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn mathematics_touches_neither_files_nor_clocks() {
    assert!(PURE.iter().all(|p| source().join(p).exists()), "every place is there");
    let found: Vec<String> = PURE.iter().flat_map(|p| trespasses(p, WORLD)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_method_knows_another() {
    let folder = source().join("methods");
    let names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the methods")
        .map(|e| e.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into())
        .filter(|n| n != "mod")
        .collect();
    assert!(!names.is_empty());
    let mut found = Vec::new();
    for name in &names {
        let others: Vec<String> =
            names.iter().filter(|n| *n != name).flat_map(|n| ways_to_name(n)).collect();
        for place in [format!("methods/{name}"), format!("methods/{name}.rs")] {
            found.extend(trespasses(&place, &others));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_trespass_is_seen_and_comments_and_tests_are_not() {
    let text = "use crate::train::X; // crate::data\n#[cfg(test)]\nmod tests { use std::fs; }\n";
    assert_eq!(code(text).trim_end(), "use crate::train::X;");
    let tebn = ways_to_name("tebn");
    for import in ["super::tebn::X", "super::{bptt, tebn::X}", "crate::methods::tebn"] {
        assert!(!sightings(&format!("use {import};"), &tebn).is_empty(), "{import}");
    }
    assert!(sightings("const NAME: &str = \"tebn\";", &tebn).is_empty());
}
