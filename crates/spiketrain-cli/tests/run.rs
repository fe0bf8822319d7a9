//! The program as a user runs it: whole runs in child processes.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// A run of a second: few digits, few filters, few epochs.
const SMALL: &[&str] = &[
    "data.mnist-mini.n_train=600",
    "data.mnist-mini.n_test=100",
    "encode.stdp-csnn.epochs=5",
    "encode.stdp-csnn.n_filters=16",
    "method.s2stdp.threshold=25.0",
    "train.epochs=6",
    "train.patience=0",
];

fn spiketrain(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spiketrain"));
    command.current_dir(dir).args(args);
    command
}

fn train(dir: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = spiketrain(dir, &["train", "--no-cache", "--quiet", "--out", out]);
    SMALL.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    command.args(more);
    command
}

fn checkpoint(dir: &Path, run: &str) -> Vec<u8> {
    std::fs::read(dir.join(run).join("last.safetensors")).expect("a checkpoint")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn must_pass(output: &Output) {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn one_two_and_three_threads_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for threads in ["1", "2", "3"] {
        must_pass(&train(dir.path(), threads, &["--threads", threads]).output().unwrap());
    }
    let first = checkpoint(dir.path(), "1");
    assert!(first == checkpoint(dir.path(), "2") && first == checkpoint(dir.path(), "3"));
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    must_pass(&train(dir.path(), "whole", &[]).output().unwrap());
    let whole = start.elapsed();
    let expected = checkpoint(dir.path(), "whole");
    let mut n_interrupted = 0;
    // Moments spread over the run; which of them are hit depends on the machine.
    for share in [5u32, 30, 55, 70, 80, 90] {
        let run = format!("killed-{share}");
        let mut child = train(dir.path(), &run, &[]).spawn().unwrap();
        std::thread::sleep(whole * share / 100);
        child.kill().unwrap();
        n_interrupted += u32::from(!child.wait().unwrap().success());
        if !dir.path().join(&run).join("last.safetensors").exists() {
            continue;
        }
        let output = spiketrain(dir.path(), &["resume", &run, "--quiet", "--no-cache"]).output();
        must_pass(&output.unwrap());
        assert!(checkpoint(dir.path(), &run) == expected, "killed after {share} % of a run");
    }
    assert!(n_interrupted > 0, "no run was killed before its end");
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_the_run_goes_on_to_the_same_bytes() {
    interrupted_by("-INT");
}

#[cfg(unix)]
#[test]
fn so_does_a_request_to_end() {
    interrupted_by("-TERM");
}

#[cfg(unix)]
fn interrupted_by(signal: &str) {
    let dir = tempfile::tempdir().unwrap();
    let long = ["--set", "train.epochs=400"];
    must_pass(&train(dir.path(), "whole", &long).output().unwrap());
    let child = train(dir.path(), "cut", &long).spawn().unwrap();
    let log = dir.path().join("cut/events.jsonl");
    // The interrupt comes once an epoch is done, long before the last of 400.
    while !std::fs::read_to_string(&log).is_ok_and(|t| t.contains("epoch_end")) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = spiketrain(dir.path(), &["resume", "cut", "--no-cache"]).output().unwrap();
    assert_eq!(second.status.code(), Some(2), "two processes in one run folder");
    assert!(text(&second.stderr).contains("another process"), "{}", text(&second.stderr));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stopped = std::fs::read_to_string(&log).unwrap();
    assert!(stopped.lines().last().unwrap().contains("\"reason\":\"interrupted\",\"seconds\":"));
    let go_on = ["resume", "cut", "--quiet", "--no-cache"];
    must_pass(&spiketrain(dir.path(), &go_on).output().unwrap());
    assert!(checkpoint(dir.path(), "cut") == checkpoint(dir.path(), "whole"));
}

#[test]
fn a_run_that_has_ended_goes_on_to_the_bytes_of_a_longer_one() {
    let dir = tempfile::tempdir().unwrap();
    must_pass(&train(dir.path(), "long", &[]).output().unwrap());
    must_pass(&train(dir.path(), "short", &["--set", "train.epochs=2"]).output().unwrap());
    let longer = |epochs: &str| {
        let args = ["resume", "short", "--quiet", "--no-cache", "--epochs", epochs];
        spiketrain(dir.path(), &args).output().unwrap()
    };
    assert_eq!(longer("1").status.code(), Some(2), "fewer than it has done");
    must_pass(&longer("6"));
    assert!(checkpoint(dir.path(), "short") == checkpoint(dir.path(), "long"));
    let recipes = ["short", "long"]
        .map(|run| std::fs::read_to_string(dir.path().join(run).join("recipe.toml")).unwrap());
    assert_eq!(recipes[0], recipes[1]);
}

#[test]
fn json_ends_with_the_figures_and_eval_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let output = train(dir.path(), "run", &["--json"]).output().unwrap();
    must_pass(&output);
    let stdout = text(&output.stdout);
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|l| serde_json::from_str(l).expect("one JSON object a line")).collect();
    let last = lines.last().unwrap();
    assert_eq!((last["run"].as_str(), last["epochs"].as_u64()), (Some("run"), Some(6)));
    assert!(last["seconds"].as_f64().unwrap() > 0.0);
    let written: Vec<(&str, u64)> = lines
        .iter()
        .filter(|l| l["event"] == "checkpoint" && l["epoch"] == 1)
        .map(|l| (l["file"].as_str().unwrap(), l["epoch"].as_u64().unwrap()))
        .collect();
    let order = [("best.safetensors", 1), ("last.safetensors", 1)];
    assert_eq!(written, order, "a crash between the two must not lose the best");
    let eval = ["eval", "run", "--json", "--no-cache", "--predictions", "answers.csv"];
    let output = spiketrain(dir.path(), &eval).output().unwrap();
    let eval: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(eval["test"]["accuracy"], last["test_accuracy"]);
    let table = std::fs::read_to_string(dir.path().join("answers.csv")).unwrap();
    let mut rows = table.lines().map(|l| l.split(',').collect::<Vec<_>>());
    assert_eq!(rows.next().unwrap()[..3], ["sample", "label", "class"]);
    let right: Vec<bool> = rows.map(|row| row[1] == row[2]).collect();
    let share = right.iter().filter(|&&r| r).count() as f64 / right.len() as f64;
    assert_eq!((right.len(), Some(share)), (100, eval["test"]["accuracy"].as_f64()));
    assert!(last["test_accuracy"].as_f64().unwrap() > 0.3, "{last}");
}

#[test]
fn compare_trains_recipes_and_reads_runs() {
    let dir = tempfile::tempdir().unwrap();
    must_pass(&train(dir.path(), "old", &[]).output().unwrap());
    let mut args = vec!["compare", "old", "s2stdp-digits", "--out=both", "--no-cache", "--json"];
    args.extend(SMALL.iter().flat_map(|set| ["--set", set]));
    let output = spiketrain(dir.path(), &args).output().unwrap();
    must_pass(&output);
    let stdout = text(&output.stdout);
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let runs = last["runs"].as_array().unwrap();
    let names: Vec<&str> = runs.iter().map(|r| r["run"].as_str().unwrap()).collect();
    assert_eq!(names, ["old", "s2stdp-digits"]);
    assert!(runs.iter().all(|r| r["figure"] == "accuracy"));
    assert_eq!(runs[0]["n_presented"], runs[1]["n_presented"], "the same budget");
    assert_eq!(runs[0]["value"], runs[1]["value"], "the same recipe");
    let page = std::fs::read_to_string(dir.path().join("both/compare.html")).unwrap();
    assert!(page.contains("Accuracy over seconds of training") && !page.contains("<script"));
    must_pass(&spiketrain(dir.path(), &args).output().unwrap());
    args.extend(["--seed", "7"]);
    let again = spiketrain(dir.path(), &args).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "a run of another recipe is not replaced unasked");
    let args = ["compare", "old", "s2stdp-digits:nope", "--out=both"];
    let wrong = text(&spiketrain(dir.path(), &args).output().unwrap().stderr);
    assert!(wrong.contains("no variant"), "{wrong}");
    let wrong =
        text(&spiketrain(dir.path(), &["compare", "s2stdp-dgits"]).output().unwrap().stderr);
    assert!(wrong.contains("no run folder") && wrong.contains("s2stdp-digits"), "{wrong}");
}

#[test]
fn bench_measures_each_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let mut args =
        vec!["bench", "s2stdp", "--samples=50", "--threads=1,2", "--seconds=0", "--json"];
    args.extend(SMALL.iter().flat_map(|set| ["--set", set]));
    let output = spiketrain(dir.path(), &args).output().unwrap();
    must_pass(&output);
    let threads: Vec<u64> = text(&output.stdout)
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("one JSON object a line"))
        .map(|row| {
            assert!(row["throughput"]["trained_per_second"].as_f64().unwrap() > 0.0);
            row["throughput"]["threads"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(threads, [1, 2]);
    assert!(!dir.path().join("runs").exists(), "a benchmark writes nothing");
    let wrong = spiketrain(dir.path(), &["bench", "no-such-method"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn what_exists_is_refused_and_what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    must_pass(&train(dir.path(), "run", &[]).output().unwrap());
    let refused = train(dir.path(), "run", &[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--force"), "{}", text(&refused.stderr));
    must_pass(&train(dir.path(), "run", &["--force"]).output().unwrap());
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    std::fs::write(dir.path().join("mine/notes.txt"), "keep").unwrap();
    let kept = train(dir.path(), "mine", &["--force"]).output().unwrap();
    assert_eq!(kept.status.code(), Some(2));
    assert!(dir.path().join("mine/notes.txt").exists(), "--force removes only runs");
    std::fs::write(dir.path().join("run/thesis.txt"), "keep").unwrap();
    let kept = train(dir.path(), "run", &["--force"]).output().unwrap();
    assert!(text(&kept.stderr).contains("thesis.txt"), "{}", text(&kept.stderr));
    std::fs::remove_file(dir.path().join("run/thesis.txt")).unwrap();
    for wrong in [["--threads", "0"], ["--folds", "10"], ["--folds", "0,0"]] {
        let refused = train(dir.path(), "run", &["--force", wrong[0], wrong[1]]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
        assert!(dir.path().join("run/last.safetensors").exists(), "{wrong:?} removed the run");
    }
    let nothing = spiketrain(dir.path(), &["resume", "mine"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("there is no checkpoint"));
    let absent = spiketrain(dir.path(), &["train", "s2stdp-mnist", "--data-dir", "none"]).output();
    assert_eq!(absent.unwrap().status.code(), Some(3));
    assert!(!dir.path().join("runs").exists(), "a run that cannot start leaves nothing");
    let wrong = train(dir.path(), "x", &["--set", "method.s2stdp.gapp=1"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("`gap`"), "{}", text(&wrong.stderr));
}

#[test]
fn folds_have_seeds_of_their_own_and_a_mean() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--folds", "1,3", "--set", "seed=5", "--set", "train.epochs=1"];
    let output = train(dir.path(), "run", &more).output().unwrap();
    must_pass(&output);
    assert!(text(&output.stdout).contains("2 folds: test accuracy "), "{}", text(&output.stdout));
    for (fold, seed) in [(1, 6), (3, 8)] {
        let recipe = dir.path().join(format!("run/fold-{fold}/recipe.toml"));
        let recipe = std::fs::read_to_string(recipe).unwrap();
        assert!(recipe.contains(&format!("seed = {seed}\n")), "{recipe}");
        assert!(recipe.contains(&format!("fold = {fold}\n")), "{recipe}");
    }
    let folds = std::fs::read(dir.path().join("run/folds.json")).unwrap();
    let folds: serde_json::Value = serde_json::from_slice(&folds).unwrap();
    assert_eq!(folds["figure"], "test_accuracy");
    let figures: Vec<f64> =
        folds["folds"].as_array().unwrap().iter().map(|f| f.as_f64().unwrap()).collect();
    assert!((folds["mean"].as_f64().unwrap() - (figures[0] + figures[1]) / 2.0).abs() < 1e-12);
    must_pass(&train(dir.path(), "run", &["--force", "--folds", "1"]).output().unwrap());
    assert!(!dir.path().join("run/fold-3").exists(), "--force replaces all folds");
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_stops_the_run_and_nothing_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let run = |mut command: Command| {
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    };
    let output = run(train(dir.path(), "cut", &["--json"]));
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    must_pass(
        &spiketrain(dir.path(), &["resume", "cut", "--quiet", "--no-cache"]).output().unwrap(),
    );
    let output = run(spiketrain(dir.path(), &["check"]));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}
