//! Reference numbers, compared one file after another.
//!
//! The files stand in `<folder>/<method>/*.safetensors`; the folder is the one beside this file,
//! or the one named by `SPIKETRAIN_GOLDEN`. Every size, parameter and kind of case is read from
//! the file, so files that were never seen before can be checked by pointing the variable at
//! them. A file of unknown kind is a failure. `cargo test --test golden -- --nocapture` prints
//! one line a file.

mod bptt;
mod csnn;
mod frames;
mod ltmd;
mod rate_bp;
mod s2stdp;
mod softhebb;
mod stidi_bp;
mod tebn;
mod temporal_autoencoder;
mod time_losses;

use spiketrain::{State, Stored};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One kind of case: which folder it stands in, how a file of it is recognised, how it is checked.
struct Kind {
    folder: &'static str,
    recognises: fn(&Golden) -> bool,
    check: fn(&Golden, &mut Comparison),
}

/// Every kind of case known, one list a method.
const KINDS: &[&[Kind]] = &[
    &s2stdp::KINDS,
    &csnn::KINDS,
    &softhebb::KINDS,
    &stidi_bp::KINDS,
    &temporal_autoencoder::KINDS,
    &bptt::KINDS,
    &tebn::KINDS,
    &ltmd::KINDS,
    &rate_bp::KINDS,
    &time_losses::KINDS,
];

/// One file: tensors and text entries.
pub(crate) struct Golden {
    /// The tensors.
    pub(crate) tensors: State,
    /// The text entries.
    pub(crate) metadata: BTreeMap<String, String>,
}

#[allow(dead_code, reason = "each kind of case uses a part of the readers")]
impl Golden {
    /// The metadata entry `config` as JSON, null without one.
    pub(crate) fn config(&self) -> serde_json::Value {
        self.metadata
            .get("config")
            .map_or(serde_json::Value::Null, |t| serde_json::from_str(t).expect("config is JSON"))
    }

    /// True if there is a tensor called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.array(name).is_ok()
    }

    /// Shape of the tensor `name`.
    pub(crate) fn shape(&self, name: &str) -> &[usize] {
        &self.tensors.array(name).unwrap_or_else(|e| panic!("{e}")).shape
    }

    /// Values of the tensor `name`, which must hold `T`.
    pub(crate) fn get<T: Stored>(&self, name: &str) -> &[T] {
        let array = self.tensors.array(name).unwrap_or_else(|e| panic!("{e}"));
        T::of(&array.values)
            .unwrap_or_else(|| panic!("{name} holds {}, not {}", array.values.type_name(), T::NAME))
    }
}

/// Collects how far a file's numbers are from ours.
#[derive(Default)]
pub(crate) struct Comparison {
    n_tensors: usize,
    worst: Option<(f64, String)>,
    failures: Vec<String>,
}

#[allow(dead_code, reason = "each kind of case uses a part of the comparisons")]
impl Comparison {
    /// Every value within `tolerance` of the reference (absolute).
    pub(crate) fn close<T: Copy + Into<f64>, U: Copy + Into<f64>>(
        &mut self,
        name: &str,
        ours: &[T],
        reference: &[U],
        tolerance: f64,
    ) {
        self.n_tensors += 1;
        if ours.len() != reference.len() {
            let (a, b) = (ours.len(), reference.len());
            self.failures.push(format!("{name}: {a} values against {b}"));
            return;
        }
        let mut largest = (0.0f64, 0);
        for (i, (&a, &b)) in ours.iter().zip(reference).enumerate() {
            let (a, b): (f64, f64) = (a.into(), b.into());
            let same = a == b || (a.is_nan() && b.is_nan());
            let deviation = if same { 0.0 } else { (a - b).abs() };
            if deviation.is_nan() || deviation > largest.0 {
                largest = (if deviation.is_nan() { f64::INFINITY } else { deviation }, i);
            }
        }
        let (deviation, at) = largest;
        if deviation > tolerance {
            let (a, b): (f64, f64) = (ours[at].into(), reference[at].into());
            self.failures.push(format!(
                "{name}[{at}]: {a} against {b}, deviation {deviation:.3e} above {tolerance:.1e}"
            ));
        }
        let share = if tolerance > 0.0 { deviation / tolerance } else { deviation };
        if self.worst.as_ref().is_none_or(|(s, _)| share > *s) {
            let text = if tolerance > 0.0 {
                format!("{deviation:.1e} of {tolerance:.1e} in {name}")
            } else {
                format!("{deviation:.1e}, must be exact, in {name}")
            };
            self.worst = Some((share, text));
        }
    }

    /// Every value within `share` of the reference's largest absolute value.
    pub(crate) fn close_to_max<T: Copy + Into<f64>, U: Copy + Into<f64>>(
        &mut self,
        name: &str,
        ours: &[T],
        reference: &[U],
        share: f64,
    ) {
        let max = reference.iter().map(|&x| x.into().abs()).fold(0.0, f64::max);
        self.close(name, ours, reference, share * max);
    }

    /// Every value equal to the reference.
    pub(crate) fn exact<T: Copy + Into<f64>, U: Copy + Into<f64>>(
        &mut self,
        name: &str,
        ours: &[T],
        reference: &[U],
    ) {
        self.close(name, ours, reference, 0.0);
    }
}

fn folder() -> PathBuf {
    std::env::var_os("SPIKETRAIN_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

/// Paths of `<folder>/<method>/*.safetensors`, in the order of names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("entry").path()).collect();
        paths.sort();
        paths
    };
    let methods = list(folder).into_iter().filter(|p| p.is_dir());
    let files = methods.flat_map(|m| list(&m));
    files.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect()
}

/// Compares one file; returns the line to print and the failures.
fn check(path: &Path) -> (String, Vec<String>) {
    let method = path.parent().and_then(Path::file_name).expect("a method's folder");
    let (method, name) =
        (method.to_string_lossy(), path.file_name().expect("file").to_string_lossy());
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (tensors, metadata) =
        State::from_safetensors(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let golden = Golden { tensors, metadata };
    let Some(kind) =
        KINDS.iter().copied().flatten().find(|k| k.folder == method && (k.recognises)(&golden))
    else {
        return (format!("{method} {name}: unknown kind"), vec!["a file of unknown kind".into()]);
    };
    let mut comparison = Comparison::default();
    (kind.check)(&golden, &mut comparison);
    if comparison.n_tensors == 0 {
        comparison.failures.push("nothing was compared".into());
    }
    let worst = comparison.worst.map_or_else(String::new, |(_, text)| text);
    let n = comparison.n_tensors;
    (format!("{method} {name}: {n} tensors, largest deviation {worst}"), comparison.failures)
}

#[test]
fn every_reference_file_agrees() {
    let folder = folder();
    let files = files(&folder);
    assert!(!files.is_empty(), "no reference files in {}", folder.display());
    let mut failures = Vec::new();
    for path in files {
        let (line, failed) = check(&path);
        println!("{line}");
        failures.extend(failed.into_iter().map(|f| format!("{}: {f}", path.display())));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn a_file_of_unknown_kind_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let method = dir.path().join("no-such-method");
    std::fs::create_dir(&method).unwrap();
    let path = method.join("case.safetensors");
    std::fs::write(&path, State::new().to_safetensors(&BTreeMap::new())).unwrap();
    assert_eq!(check(&path).1, ["a file of unknown kind"]);
}
