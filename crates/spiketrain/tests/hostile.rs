//! Damaged and malicious files: every reader refuses them without a panic, and never asks for
//! memory that the bytes at hand do not justify.

use proptest::prelude::*;
use spiketrain::data::{arrays, cifar, idx, png as png_folder};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

/// Largest single allocation allowed, in bytes. The files here have at most a few thousand
/// bytes, which unpack to at most some 1,000 times as much.
const MOST: usize = 8 << 20;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
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

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn idx_file() -> Vec<u8> {
    let head = [2051u32, 2, 3, 3].iter().flat_map(|n| n.to_be_bytes());
    head.chain(0..18).collect()
}

fn png_file(color: png::ColorType) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 3, 2);
    encoder.set_color(color);
    let data: Vec<u8> = (0..6 * color.samples() as u8).collect();
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

fn npy_file() -> Vec<u8> {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 2), }\n";
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend([0; 16]);
    out
}

fn npz_file() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("train_images.npy", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&npy_file()).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Reads `bytes` in every way there is for bytes of that kind.
fn read(kind: usize, bytes: &[u8]) {
    let on_disk = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let _ = arrays::Params::of(name.into()).load(dir.path());
    };
    match kind {
        0 => {
            let _ = (idx::read_images("x", bytes), idx::read_labels("x", bytes, 10));
            let _ = idx::read_images("x", &gzip(bytes));
        }
        1 | 2 => drop(png_folder::read("x", bytes)),
        3 => {
            let _ = cifar::read_archive("x", bytes);
            let _ = cifar::read_archive("x", gzip(bytes).as_slice());
        }
        4 => on_disk("a.npy"),
        _ => on_disk("a.npz"),
    }
}

fn whole(kind: usize) -> Vec<u8> {
    match kind {
        0 => idx_file(),
        1 => png_file(png::ColorType::Rgb),
        2 => png_file(png::ColorType::Grayscale),
        3 => tar_file(),
        4 => npy_file(),
        _ => npz_file(),
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

#[test]
fn allocations_are_noted() {
    let n = std::hint::black_box(12_345);
    assert!(largest(|| drop(std::hint::black_box(vec![0u8; n]))) >= n);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn random_bytes(kind in 0usize..6, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(largest(|| read(kind, &bytes)) < MOST);
    }

    #[test]
    fn mutated_files(
        kind in 0usize..6,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in 0usize..40,
    ) {
        let mut bytes = whole(kind);
        for (at, byte) in changes {
            let n = bytes.len();
            bytes[at.index(n)] = byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        if matches!(kind, 1 | 2) {
            mend_png(&mut bytes);
        }
        prop_assert!(largest(|| read(kind, &bytes)) < MOST);
    }

    /// Sizes in headers, changed to anything.
    #[test]
    fn sizes_that_lie(kind in 0usize..4, sizes: [u32; 3]) {
        let mut bytes = whole(kind);
        match kind {
            0 => sizes.iter().enumerate().for_each(|(i, s)| {
                bytes[4 + 4 * i..8 + 4 * i].copy_from_slice(&s.to_be_bytes());
            }),
            1 | 2 => {
                bytes[16..20].copy_from_slice(&sizes[0].to_be_bytes());
                bytes[20..24].copy_from_slice(&sizes[1].to_be_bytes());
                mend_png(&mut bytes);
            }
            _ => bytes[124..135].copy_from_slice(format!("{:011o}", sizes[0]).as_bytes()),
        }
        prop_assert!(largest(|| read(kind, &bytes)) < MOST);
    }
}
