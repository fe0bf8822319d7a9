//! Damaged and malicious files: every reader refuses them without a panic, and never asks for
//! memory that the bytes at hand do not justify.

use proptest::collection;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use spiketrain::checkpoint::{Checkpoint, Counters};
use spiketrain::data::{Data, DataDirs, Limits, arrays, cifar, idx, n_mnist, png as png_folder};
use spiketrain::event::{BarRow, Curve, Event, Figure, Histogram, LOG_VERSION, RasterPanel};
use spiketrain::{State, report};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use zip::CompressionMethod::{self, Deflated, Stored};

/// Largest single allocation allowed, in bytes. The files here have at most a few thousand
/// bytes, which unpack to at most some 1,000 times as much, or promise what they do not hold.
const MOST: usize = 8 << 20;

/// What numbers in a text are changed to.
const NUMBERS: [&str; 9] =
    ["", "0", "3", "-1", "0.5", "1e300", "null", "4294967295", "18446744073709551615"];

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };

    /// A pool of one thread, the one that asks for it.
    static THIS_THREAD: rayon::ThreadPool =
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
}

/// The system's allocator, noting each thread's largest request.
struct Noting;

#[global_allocator]
static ALLOCATOR: Noting = Noting;

fn note(n: usize) {
    // A thread that ends has no cell any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(n)));
}

// SAFETY: every call goes to the system's allocator unchanged; noting allocates nothing, since
// the cell is initialised at compile time and has no destructor.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

/// The largest single allocation while `work` runs.
fn largest(work: impl FnOnce()) -> usize {
    LARGEST.set(0);
    work();
    LARGEST.get()
}

/// The kinds of files that are read.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Idx,
    Png(png::ColorType),
    Tar,
    Npy,
    Npz(CompressionMethod),
    Recordings,
    Checkpoint,
    Log,
}

const KINDS: [Kind; 11] = [
    Kind::Idx,
    Kind::Png(png::ColorType::Rgb),
    Kind::Png(png::ColorType::Grayscale),
    Kind::Png(png::ColorType::Indexed),
    Kind::Tar,
    Kind::Npy,
    Kind::Npz(Stored),
    Kind::Npz(Deflated),
    Kind::Recordings,
    Kind::Checkpoint,
    Kind::Log,
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn idx_file(extents: [u32; 3], values: &[u8]) -> Vec<u8> {
    let head = [2051].into_iter().chain(extents).flat_map(u32::to_be_bytes);
    head.chain(values.iter().copied()).collect()
}

/// An image of 2×3 pixels; one with a palette has 1 bit a pixel.
fn png_file(color: png::ColorType) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 3, 2);
    encoder.set_color(color);
    let mut n_bytes = 6 * color.samples() as u8;
    if color == png::ColorType::Indexed {
        encoder.set_depth(png::BitDepth::One);
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
        n_bytes = 2;
    }
    let data: Vec<u8> = (0..n_bytes).collect();
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    out
}

fn tar_file() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["data_batch_1.bin", "test_batch.bin"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(20);
        tar.append_data(&mut header, name, [1; 20].as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// One of CIFAR-10's records, label and pixels 7, as packed by
/// `xz --delta=dist=1 --delta=dist=32 --lzma2=dict=4MiB`.
const XZ_FILE: &[u8] = include_bytes!("data/record.xz");

fn npy_file() -> Vec<u8> {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 2), }\n";
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend([0; 16]);
    out
}

fn zip_file(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for &(name, bytes) in files {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn npz_file(npy: &[u8], method: CompressionMethod) -> Vec<u8> {
    zip_file(&[("train_images.npy", npy)], method)
}

/// Two recordings of two events each.
fn recordings_file() -> Vec<u8> {
    let events = [1, 2, 128, 0, 9, 33, 0, 0, 1, 2];
    zip_file(&[("Train/7/00002.bin", &events), ("Train/0/00001.bin", &events)], Deflated)
}

/// Reads recordings, the same for training and test.
fn read_recordings(bytes: &[u8]) -> spiketrain::Result<spiketrain::data::Dataset> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("n-mnist");
    std::fs::create_dir(&folder).unwrap();
    for name in ["Train.zip", "Test.zip"] {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let params = n_mnist::Params { n_frames: 2, ..Default::default() };
    Data::NMnist(params).load(&DataDirs::new(Some(dir.path().into())))
}

fn checkpoint_file() -> Vec<u8> {
    let mut state = State::new();
    state.put("learner.w", &[2, 3], vec![0.5f32; 6]);
    state.put("learner.n", &[], vec![7u64]);
    let checkpoint =
        Checkpoint { recipe: "seed = 1\n".into(), counters: Counters::default(), state };
    let file = tempfile::NamedTempFile::new().unwrap();
    checkpoint.write(file.path()).unwrap();
    std::fs::read(file.path()).unwrap()
}

fn log_file() -> Vec<u8> {
    let text = String::from;
    let (title, caption) = (|| text("title"), || text("caption"));
    let histogram = || Histogram { label: text("t"), from: 0.0, to: 1.0, counts: vec![1, 2] };
    let curve = Curve { name: text("c"), x: vec![0.0, 1.0], y: vec![2.0, 3.0] };
    let panel = RasterPanel {
        label: text("p"),
        n_neurons: 2,
        names: vec![text("a"), text("b")],
        times: vec![0.25, 0.5],
        neurons: vec![0, 1],
        highlight: vec![1],
    };
    let metrics = || [("accuracy".to_owned(), 0.5), ("loss".to_owned(), 1.5)].into();
    let figures = [
        Figure::Images {
            title: title(),
            caption: caption(),
            height: 2,
            width: 1,
            channels: 1,
            images: vec![vec![0, 255]],
            labels: vec![text("i")],
        },
        Figure::Raster { title: title(), caption: caption(), panels: vec![panel] },
        Figure::Bars {
            title: title(),
            caption: caption(),
            categories: vec![text("x"), text("y")],
            rows: vec![BarRow { name: text("r"), values: vec![1.0, 2.0] }],
            y_label: text("y"),
        },
        Figure::Lines {
            title: title(),
            caption: caption(),
            x_label: text("x"),
            y_label: text("y"),
            curves: vec![curve],
        },
        Figure::Histograms { title: title(), caption: caption(), histograms: vec![histogram()] },
    ];
    let start = Event::RunStart {
        version: LOG_VERSION.into(),
        spiketrain: text("0.1.0"),
        run: text("run"),
        recipe: text("seed = 1\n"),
        method: text("bptt"),
        data: text("mnist-mini"),
        encoder: text("direct"),
        seed: 1,
        threads: 2,
        n_train: 30,
        n_valid: 0,
        n_test: 20,
        classes: vec![text("a"), text("b")],
        unix_time: 1_700_000_000,
        meanings: Default::default(),
    };
    let epochs = (0..2).flat_map(|epoch| {
        let end = Event::EpochEnd {
            closing_seconds: 0.0,
            epoch,
            seconds: 1.5,
            n_samples: 30,
            train: metrics(),
            valid: metrics(),
            metrics: [("layer0.rate".to_owned(), 0.25)].into(),
            series: [("layer0.rates".to_owned(), vec![0.25, 0.75])].into(),
        };
        [Event::EpochStart { epoch, n_batches: 3 }, end]
    });
    let test = Event::Test {
        metrics: metrics(),
        confusion: vec![vec![4, 6], vec![3, 7]],
        histograms: vec![histogram()],
    };
    let stage = Event::StageEnd { stage: text("load"), seconds: 0.5, cached: false };
    let events = [start, stage].into_iter().chain(epochs).chain([test]);
    let events = events.chain(figures.into_iter().map(|figure| Event::Figure { figure }));
    let events = events.chain([Event::RunEnd { epochs: 2, seconds: 4.0 }]);
    events
        .flat_map(|e| serde_json::to_string(&e).unwrap().into_bytes().into_iter().chain(*b"\n"))
        .collect()
}

/// Reads `bytes` in every way there is for bytes of that kind.
fn read(kind: Kind, bytes: &[u8]) {
    let on_disk = |name: &str, read: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read(&path);
    };
    let load = |path: &Path| drop(arrays::Params::of(path.into()).load(Path::new("nowhere")));
    match kind {
        Kind::Idx => {
            let _ = (idx::read_images("x", bytes), idx::read_labels("x", bytes, 10));
            let _ = idx::read_images("x", &gzip(bytes));
        }
        Kind::Png(_) => drop(png_folder::read("x", bytes)),
        Kind::Tar => {
            let _ = cifar::read_archive("x", bytes);
            let _ = cifar::read_archive("x", gzip(bytes).as_slice());
        }
        Kind::Npy => on_disk("a.npy", &load),
        Kind::Npz(_) => on_disk("a.npz", &load),
        Kind::Recordings => drop(read_recordings(bytes)),
        Kind::Checkpoint => on_disk("last.safetensors", &|path| drop(Checkpoint::read(path))),
        Kind::Log => on_disk("events.jsonl", &|path| {
            let _ = report::read_log(path).and_then(|events| report::render(&events));
        }),
    }
}

fn whole(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Idx => idx_file([2, 3, 3], &[7; 18]),
        Kind::Png(color) => png_file(color),
        Kind::Tar => tar_file(),
        Kind::Npy => npy_file(),
        Kind::Npz(method) => npz_file(&npy_file(), method),
        Kind::Recordings => recordings_file(),
        Kind::Checkpoint => checkpoint_file(),
        Kind::Log => log_file(),
    }
}

/// Makes a changed PNG header pass its checksum, so that what it promises is believed.
fn mend_png(bytes: &mut [u8]) {
    if bytes.len() >= 33 {
        let mut sum = flate2::Crc::new();
        sum.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    }
}

/// A PNG image whose header promises other extents.
fn png_that_promises(color: png::ColorType, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png_file(color);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    mend_png(&mut bytes);
    bytes
}

#[test]
fn allocations_are_noted() {
    let n = std::hint::black_box(12_345);
    assert!(largest(|| drop(std::hint::black_box(vec![0u8; n]))) >= n);
}

#[test]
fn whole_files_are_read() {
    assert!(png_folder::read("x", &png_file(png::ColorType::Indexed)).is_ok());
    assert!(idx::read_images("x", &idx_file([2, 3, 3], &[7; 18])).is_ok());
    assert_eq!(read_recordings(&recordings_file()).unwrap().train.labels, [0, 7]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.npz");
    for method in [Stored, Deflated] {
        std::fs::write(&path, npz_file(&npy_file(), method)).unwrap();
        assert!(arrays::Params::of(path.clone()).load(dir.path()).is_ok());
    }
    std::fs::write(&path, checkpoint_file()).unwrap();
    assert!(Checkpoint::read(&path).is_ok());
    std::fs::write(&path, log_file()).unwrap();
    let events = report::read_log(&path).unwrap();
    assert_eq!(events.len(), 13);
    assert!(report::render(&events).is_ok());
}

#[test]
fn idx_files_without_images_are_refused() {
    for extents in [[0, 28, 28], [0, u32::MAX, u32::MAX], [0, 0, 0], [1, 0, 28], [1, 28, 0]] {
        assert!(idx::read_images("x", &idx_file(extents, &[])).is_err(), "{extents:?}");
    }
}

/// A bit of a palette's image becomes three bytes.
#[test]
fn an_image_of_bits_that_would_not_fit_is_refused() {
    let mut bytes = png_that_promises(png::ColorType::Indexed, 100_000, 100_000);
    bytes.resize(1_300_000, 0);
    assert!(largest(|| assert!(png_folder::read("x", &bytes).is_err())) < MOST);
}

#[test]
fn what_unpacks_to_more_than_it_should_is_not_kept() {
    let zeros = vec![0; 32 << 20];
    let long = npz_file(&[npy_file(), zeros.clone()].concat(), Deflated);
    assert!(largest(|| read(Kind::Npz(Deflated), &long)) < MOST);
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader]
    {
        let mut header = tar::Header::new_gnu();
        header.set_path("data_batch_1.bin").unwrap();
        header.set_entry_type(kind);
        header.set_size(zeros.len() as u64);
        header.set_cksum();
        let long = gzip(&[header.as_bytes(), zeros.as_slice()].concat());
        let largest = largest(|| assert!(cifar::read_archive("x", long.as_slice()).is_err()));
        assert!(largest < MOST, "{kind:?}: {largest}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_bytes(kind in select(&KINDS[..]), bytes in collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(largest(|| read(kind, &bytes)) < MOST);
    }

    #[test]
    fn mutated_files(
        kind in select(&KINDS[..]),
        changes in collection::vec((any::<Index>(), any::<u8>()), 0..6),
        cut in 0usize..40,
    ) {
        let mut bytes = whole(kind);
        for (at, byte) in changes {
            let n = bytes.len();
            bytes[at.index(n)] = byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        if matches!(kind, Kind::Png(_)) {
            mend_png(&mut bytes);
        }
        prop_assert!(largest(|| read(kind, &bytes)) < MOST);
    }

    /// Sizes in headers, changed to anything.
    #[test]
    fn sizes_that_lie(kind in select(&KINDS[..5]), sizes: [u32; 3]) {
        let mut bytes = whole(kind);
        match kind {
            Kind::Idx => bytes = idx_file(sizes, &[7; 18]),
            Kind::Png(color) => bytes = png_that_promises(color, sizes[0], sizes[1]),
            _ => bytes[124..135].copy_from_slice(format!("{:011o}", sizes[0]).as_bytes()),
        }
        prop_assert!(largest(|| read(kind, &bytes)) < MOST);
    }

    /// Numbers in the text of checkpoints and logs, changed to others.
    #[test]
    fn numbers_that_lie(
        kind in select(&KINDS[9..]),
        changes in collection::vec((any::<Index>(), select(&NUMBERS[..])), 1..4),
    ) {
        let mut bytes = whole(kind);
        for (at, number) in changes {
            let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            let from = digits[at.index(digits.len())];
            let n = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
            bytes.splice(from..from + n, number.bytes());
        }
        prop_assert!(largest(|| read(kind, &bytes)) < MOST);
    }
}

proptest! {
    /// Packed files are read by all threads, which are this one here.
    #[test]
    fn mutated_xz(at: Index, byte: u8, cut in 0usize..90) {
        let mut bytes = XZ_FILE.to_vec();
        let n = bytes.len();
        bytes[at.index(n)] = byte;
        bytes.truncate(n - cut);
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cifar10");
        std::fs::create_dir(&folder).unwrap();
        for i in 1..6 {
            std::fs::write(folder.join(format!("data_batch_{i}.bin")), [7; 3073]).unwrap();
        }
        std::fs::write(folder.join("test_batch.bin.xz"), bytes).unwrap();
        let dirs = DataDirs { root: dir.path().into() };
        let load = || drop(Data::Cifar10(Limits::default()).load(&dirs));
        prop_assert!(THIS_THREAD.with(|pool| pool.install(|| largest(load))) < MOST);
    }
}
