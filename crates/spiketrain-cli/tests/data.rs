//! `spiketrain data` as a user runs it. Nothing here needs a connection.

use std::path::Path;
use std::process::Command;

/// Exit code, standard output and standard error.
fn spiketrain(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_spiketrain"))
        .current_dir(dir)
        .env_remove("SPIKETRAIN_DATA")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// An array of bytes as NumPy writes it.
fn write_npy(path: &Path, shape: &str, values: &[u8]) {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend(values);
    std::fs::write(path, npy).unwrap();
}

#[test]
fn the_list_says_where_each_set_comes_from() {
    let (code, out, _) = spiketrain(Path::new("."), &["data", "list"]);
    assert_eq!(code, 0);
    for part in ["mnist-mini", "bundled", "spiketrain data fetch cifar10", "by hand: ", "CC BY-SA"]
    {
        assert!(out.contains(part), "{out}");
    }
}

#[test]
fn info_reads_sets_with_and_without_labels() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = spiketrain(dir.path(), &["data", "info", "mnist-mini"]);
    assert_eq!(code, 0);
    assert!(out.contains("samples of 1×28×28") && out.contains("train   5000 samples"), "{out}");
    assert!(out.contains("values from 0 to 1, mean 0.13"), "{out}");
    write_npy(&dir.path().join("own.npy"), "(1, 1, 2)", &[1, 2]);
    let (code, out, err) = spiketrain(dir.path(), &["data", "info", "arrays", "own.npy"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("samples of 1×1×2") && out.contains("1 samples, no labels"), "{out}");
}

#[test]
fn data_without_labels_and_test_images_go_through_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..8 * 144).map(|i: u32| (i * i % 251) as u8).collect();
    write_npy(&dir.path().join("own.npy"), "(8, 12, 12)", &pixels);
    let (code, out, err) = spiketrain(
        dir.path(),
        &[
            "train",
            "event-stdp-digits",
            "--json",
            "--set",
            "data.arrays.path=own.npy",
            "--set",
            "train.epochs=1",
            "--set",
            "validation.folds=4",
        ],
    );
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\"n_train\":6,\"n_valid\":2,\"n_test\":0,\"classes\":[]"), "{out}");
    assert!(out.lines().last().unwrap().contains("\"test_accuracy\":null"), "{out}");
    assert!(dir.path().join("runs/event-stdp-digits/report.html").is_file());
}

/// Sequences of frames enter a clocked network step by step; a network of other steps and a method
/// that reads spike times refuse them.
#[test]
fn sequences_of_frames_go_through_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let mine = dir.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    let events: Vec<u8> = (0..8 * 3 * 2 * 64).map(|i: u32| (i * i % 251 / 200) as u8).collect();
    for part in ["train", "test"] {
        write_npy(&mine.join(format!("{part}_images.npy")), "(8, 3, 2, 8, 8)", &events);
        write_npy(&mine.join(format!("{part}_labels.npy")), "(8,)", &[0, 1, 0, 1, 0, 1, 0, 1]);
    }
    let run = |recipe: &str, sets: &[&str]| {
        let mut args = vec!["train", recipe, "--json", "--force"];
        let data = ["data.arrays={path=\"mine\",counts=true}", "encode={frames={}}"];
        data.iter().chain(sets).for_each(|&set| args.extend(["--set", set]));
        spiketrain(dir.path(), &args)
    };
    let small = ["train.epochs=1", "method.bptt.network.small-conv.channels=[4,4,4]"];
    let (code, out, err) = run("bptt-digits", &[&small[..], &["method.bptt.n_steps=3"]].concat());
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\"n_train\":8,\"n_valid\":0,\"n_test\":8"), "{out}");
    let (code, _, err) = run("bptt-digits", &[&small[..], &["method.bptt.n_steps=2"]].concat());
    assert_eq!(code, 2, "{err}");
    let expected = "arrays: samples have 3 frames, method.bptt.n_steps is 2; expected as many";
    assert!(err.contains(expected), "{err}");
    let (code, _, err) = run("s2stdp-digits", &[]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("allowed: an encoder that gives spike times"), "{err}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let fails = |args: &[&str], code: i32, part: &str| {
        let (found, _, err) = spiketrain(dir.path(), args);
        assert_eq!(found, code, "{err}");
        assert!(err.contains(part), "{err}");
    };
    fails(&["data", "fetch", "nothing"], 2, "allowed is mnist-mini, mnist, ");
    fails(&["data", "fetch", "mnist-mini"], 2, "bundled");
    fails(&["data", "fetch", "natural"], 2, "by hand");
    fails(&["data", "info", "arrays"], 2, "needs a path");
    fails(&["data", "info", "cifar10", "--data-dir", folder], 3, "no folder with cifar10");
    write_npy(&dir.path().join("own.npy"), "(2, 8, 8)", &[9; 128]);
    let choice = ["--set", "data.arrays.path=own.npy", "--set", "encode.latency={}"];
    let train = [["train", "--quiet"].as_slice(), &choice].concat();
    fails(&train, 2, "classes");
    std::fs::create_dir(dir.path().join("mnist")).unwrap();
    std::fs::write(dir.path().join("mnist/train-images-idx3-ubyte.gz"), "other").unwrap();
    let mine = "remove it to download it again";
    fails(&["data", "fetch", "mnist", "--data-dir", folder], 3, mine);
}
