//! What is kept between runs: fitted encoders, and what they made of a data set.
//!
//! An entry's name is a hash of all it depends on: the program's version; for a fitted encoder its
//! parameters, the seed and the images it was fitted to; for encoded images the encoder's
//! parameters and state and the images. An entry ends with the SHA-256 of the rest. Only encoders
//! that have to be fitted are kept; encoded images only if they are spike times without targets
//! and making them took longer than [`WORTH_KEEPING`]. Nothing in here changes a result: an entry
//! that is damaged is made anew, and one that cannot be written is no reason to end a run. Beyond
//! [`LIMIT`] the entries that were not used for the longest time are removed.

use crate::encode::{Encoder, FittedEncoder, Tick};
use crate::error::{Error, Result};
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Pixels, Shape, Times};
use crate::state::State;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Version of what is kept, and of the program; part of every name.
const VERSION: &str = concat!("3 ", env!("CARGO_PKG_VERSION"));

/// Most bytes that all entries take together.
const LIMIT: u64 = 4_000_000_000;

/// Images that are encoded faster are encoded again.
const WORTH_KEEPING: Duration = Duration::from_secs(1);

/// A folder of entries, or none.
pub(crate) struct Cache<'a>(Option<&'a Path>);

impl<'a> Cache<'a> {
    /// The cache in `dir` for what `encoder` makes.
    pub(crate) fn new(dir: Option<&'a Path>, encoder: &Encoder) -> Self {
        Self(dir.filter(|_| encoder.needs_fit()))
    }

    /// Fits the encoder to `images`; true if it came from the cache.
    ///
    /// # Errors
    ///
    /// As [`Encoder::fit`].
    pub(crate) fn fit(
        &self,
        encoder: &Encoder,
        images: &Images,
        seed: Seed,
        tick: Tick<'_>,
    ) -> Result<(Box<dyn FittedEncoder>, bool)> {
        let Some(dir) = self.0 else { return Ok((encoder.fit(images, seed, tick)?, false)) };
        let mut name = hash_of("encoder", encoder, images);
        name.update(seed.0.to_le_bytes());
        let path = dir.join(format!("{}.safetensors", hex(name)));
        let kept = std::fs::read(&path).ok().and_then(|bytes| {
            let (bytes, sum) = bytes.split_last_chunk::<32>()?;
            if Sha256::digest(bytes)[..] != *sum {
                return None;
            }
            let (state, _) = State::from_safetensors(bytes).ok()?;
            encoder.restore(images.shape, &state).ok()
        });
        if let Some(fitted) = kept {
            touch(&path);
            return Ok((fitted, true));
        }
        let fitted = encoder.fit(images, seed, tick)?;
        let bytes = fitted.state().to_safetensors(&BTreeMap::new());
        keep(dir, &path, |file| {
            file.write_all(&bytes)?;
            file.write_all(&Sha256::digest(&bytes))
        });
        Ok((fitted, false))
    }

    /// Encodes `images`; true if the result came from the cache.
    ///
    /// # Errors
    ///
    /// As [`FittedEncoder::encode`].
    pub(crate) fn encode(
        &self,
        encoder: &Encoder,
        fitted: &dyn FittedEncoder,
        images: &Images,
        tick: Tick<'_>,
    ) -> Result<(Inputs, bool)> {
        let Some(dir) = self.0 else { return Ok((fitted.encode(images, tick)?, false)) };
        let mut name = hash_of("inputs", encoder, images);
        name.update(fitted.state().to_safetensors(&BTreeMap::new()));
        let path = dir.join(format!("{}.times", hex(name)));
        if let Ok(times) = File::open(&path).map_err(|_| ()).and_then(|f| read(f).map_err(|_| ()))
            && times.shape == fitted.shape()
            && times.len() == images.len()
        {
            touch(&path);
            return Ok((Inputs::Times(times), true));
        }
        let start = Instant::now();
        let inputs = fitted.encode(images, tick)?;
        if let Inputs::Times(times) = &inputs {
            let has_targets = !std::ptr::eq(times.targets(), times);
            if !has_targets && start.elapsed() >= WORTH_KEEPING {
                keep(dir, &path, |file| write(times, file));
            }
        }
        Ok((inputs, false))
    }
}

/// Hashes what every entry depends on.
fn hash_of(what: &str, encoder: &Encoder, images: &Images) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(format!("{what} {VERSION} {:?} ", images.shape));
    hash.update(serde_json::to_string(encoder).expect("parameters are JSON"));
    match &images.pixels {
        Pixels::Bytes(p) => hash.update(p),
        Pixels::Counts(p) => {
            hash.update("counts ");
            hash.update(p);
        }
        Pixels::Floats(p) => p.iter().for_each(|x| hash.update(x.to_le_bytes())),
    }
    hash
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Marks an entry as used now.
fn touch(path: &Path) {
    let file = File::options().append(true).open(path);
    // An entry whose time cannot be set is removed earlier, that is all.
    let _ = file.and_then(|f| f.set_modified(SystemTime::now()));
}

/// Adds an entry and makes room. Nothing is synced: a torn entry is found out when it is read.
fn keep(dir: &Path, path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) {
    let written = || -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file =
            tempfile::Builder::new().prefix(".writing-").suffix(".tmp").tempfile_in(dir)?;
        write(file.as_file_mut())?;
        file.persist(path)?;
        remove_oldest(dir, LIMIT)
    };
    // What a full or read-only disk does not take is made again in the next run.
    let _ = written();
}

/// Removes the entries that were not used for the longest time, until the rest fits.
fn remove_oldest(dir: &Path, limit: u64) -> io::Result<()> {
    let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let (path, data) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
        let extension = path.extension().and_then(|e| e.to_str());
        if matches!(extension, Some("safetensors" | "times" | "tmp")) && data.is_file() {
            entries.push((data.modified()?, data.len(), path));
        }
    }
    entries.sort();
    let mut total: u64 = entries.iter().map(|e| e.1).sum();
    for (_, size, path) in entries {
        if total <= limit {
            break;
        }
        std::fs::remove_file(path)?;
        total -= size;
    }
    Ok(())
}

/// First bytes of a file of spike times.
const MAGIC: &[u8; 16] = b"spiketrain times";

/// Values that are converted and hashed at once.
const CHUNK: usize = 1 << 18;

/// Writes spike times, little-endian: [`MAGIC`]; five `u64`: channels, rows, columns, samples,
/// events; the number of each sample's events as `u32`; neurons as `u16`; times as `f32`; the
/// SHA-256 of all that.
fn write(times: &Times, file: &mut File) -> io::Result<()> {
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes)
    };
    put(MAGIC)?;
    let Shape { channels, height, width } = times.shape;
    for n in [channels, height, width, times.len(), times.n_events()] {
        put(&(n as u64).to_le_bytes())?;
    }
    let lengths: Vec<[u8; 4]> =
        (0..times.len()).map(|i| (times.sample(i).len() as u32).to_le_bytes()).collect();
    put(lengths.as_flattened())?;
    let all = times.all();
    for chunk in all.neurons.chunks(CHUNK) {
        put(chunk.iter().map(|n| n.to_le_bytes()).collect::<Vec<_>>().as_flattened())?;
    }
    for chunk in all.times.chunks(CHUNK) {
        put(chunk.iter().map(|t| t.to_le_bytes()).collect::<Vec<_>>().as_flattened())?;
    }
    file.write_all(&hash.finalize())
}

/// Reads what [`write`] wrote.
fn read(mut file: File) -> Result<Times> {
    let wrong = |what: &str| Error::data(format!("kept spike times: {what}"));
    let failed = |e: io::Error| wrong(&e.to_string());
    let size = file.metadata().map_err(failed)?.len();
    let mut hash = Sha256::new();
    let mut head = [0u8; 56];
    file.read_exact(&mut head).map_err(failed)?;
    hash.update(head);
    let (magic, numbers) = head.split_at(16);
    let mut numbers = numbers.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
    let mut next = || numbers.next().expect("the head holds five numbers");
    let [channels, height, width, n_samples, n_events] = [next(), next(), next(), next(), next()];
    let expected = [(n_samples, 4), (n_events, 6)]
        .iter()
        .try_fold(56 + 32, |sum: u64, (n, bytes)| sum.checked_add(n.checked_mul(*bytes)?));
    if magic != MAGIC || expected != Some(size) {
        return Err(wrong("the size does not fit the head"));
    }
    let lengths = values(&mut file, &mut hash, n_samples as usize, u32::from_le_bytes);
    let lengths = lengths.map_err(failed)?;
    let neurons =
        values(&mut file, &mut hash, n_events as usize, u16::from_le_bytes).map_err(failed)?;
    let times =
        values(&mut file, &mut hash, n_events as usize, f32::from_le_bytes).map_err(failed)?;
    let mut sum = [0u8; 32];
    file.read_exact(&mut sum).map_err(failed)?;
    if hash.finalize()[..] != sum {
        return Err(wrong("the checksum differs"));
    }
    let shape = Shape::new(channels as usize, height as usize, width as usize);
    Times::from_parts(shape, lengths.iter().map(|&n| n as usize), neurons, times)
}

/// Reads and hashes `n` values.
fn values<T, const N: usize>(
    file: &mut File,
    hash: &mut Sha256,
    n: usize,
    of_bytes: impl Fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    let mut out = Vec::with_capacity(n);
    let mut buffer = vec![0u8; N * CHUNK.min(n)];
    while out.len() < n {
        let bytes = &mut buffer[..N * CHUNK.min(n - out.len())];
        file.read_exact(bytes)?;
        hash.update(&*bytes);
        out.extend(bytes.as_chunks::<N>().0.iter().map(|b| of_bytes(*b)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::stdp_csnn::Params;

    fn draw(n: usize) -> Times {
        let mut stream = Seed(1).stream("test", n as u64);
        let mut times = Times::new(Shape::new(2, 3, 4)).unwrap();
        for _ in 0..n {
            let dense: Vec<f32> = (0..24).map(|_| 1.5 * stream.uniform()).collect();
            times.push_dense(&dense, 1.0);
        }
        times
    }

    fn kept(dir: &Path, name: &str, times: &Times) -> PathBuf {
        let path = dir.join(name);
        keep(dir, &path, |file| write(times, file));
        path
    }

    #[test]
    fn spike_times_come_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for n in [0, 1, 50] {
            let times = draw(n);
            let path = kept(dir.path(), "a.times", &times);
            assert_eq!(read(File::open(&path).unwrap()).unwrap(), times);
            let whole = std::fs::read(&path).unwrap();
            for at in (0..whole.len()).step_by(7) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                std::fs::write(&path, &bytes).unwrap();
                assert!(read(File::open(&path).unwrap()).is_err(), "byte {at} of {n} samples");
                std::fs::write(&path, &whole[..at]).unwrap();
                assert!(read(File::open(&path).unwrap()).is_err(), "cut at {at} of {n} samples");
            }
        }
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a.times", "b.safetensors", "c.times"];
        let paths = names.map(|name| kept(dir.path(), name, &draw(5)));
        for (path, age) in paths.iter().zip([30, 20, 10]) {
            let time = SystemTime::now() - Duration::from_secs(age);
            File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        }
        let other = dir.path().join("other.txt");
        std::fs::write(&other, [0; 10_000]).unwrap();
        touch(&paths[0]);
        let size = paths[0].metadata().unwrap().len();
        remove_oldest(dir.path(), 2 * size).unwrap();
        assert_eq!(paths.each_ref().map(|p| p.exists()), [true, false, true]);
        remove_oldest(dir.path(), 0).unwrap();
        assert!(paths.iter().all(|p| !p.exists()) && other.exists());
    }

    #[test]
    fn a_damaged_entry_is_made_anew_and_a_name_depends_on_everything() {
        let dir = tempfile::tempdir().unwrap();
        let params = Params { n_filters: 4, epochs: 1, ..Default::default() };
        let encoder = Encoder::StdpCsnn(params.clone());
        let mut stream = Seed(2).stream("test", 0);
        let pixels: Vec<u8> = (0..20 * 144).map(|_| stream.below(256) as u8).collect();
        let images = Images::from_bytes(Shape::new(1, 12, 12), pixels);
        let cache = Cache::new(Some(dir.path()), &encoder);
        let fit = |encoder: &Encoder, seed: u64| {
            cache.fit(encoder, &images, Seed(seed), &mut |_, _| Ok(())).unwrap()
        };
        let (first, was_kept) = fit(&encoder, 1);
        assert!(!was_kept);
        let (second, was_kept) = fit(&encoder, 1);
        assert!(was_kept && first.state() == second.state());
        assert!(!fit(&encoder, 2).1);
        assert!(!fit(&Encoder::StdpCsnn(Params { pool: 2, ..params.clone() }), 1).1);
        let mut name = hash_of("encoder", &encoder, &images);
        name.update(1u64.to_le_bytes());
        let path = dir.path().join(format!("{}.safetensors", hex(name)));
        let whole = std::fs::read(&path).unwrap();
        let flipped = (0..whole.len()).step_by(37).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        });
        for damaged in flipped.chain([whole[..whole.len() - 1].to_vec(), b"damaged".to_vec()]) {
            std::fs::write(&path, damaged).unwrap();
            let (anew, was_kept) = fit(&encoder, 1);
            assert!(!was_kept && anew.state() == first.state());
            assert!(fit(&encoder, 1).1);
        }
        let inputs = first.encode(&images, &mut |_, _| Ok(())).unwrap();
        let encode =
            || cache.encode(&encoder, first.as_ref(), &images, &mut |_, _| Ok(())).unwrap();
        // Fast, so not kept; then kept by hand.
        assert_eq!((encode(), encode()), ((inputs.clone(), false), (inputs.clone(), false)));
        let mut name = hash_of("inputs", &encoder, &images);
        name.update(first.state().to_safetensors(&BTreeMap::new()));
        let path = kept(dir.path(), &format!("{}.times", hex(name)), inputs.as_times());
        assert_eq!(encode(), (inputs.clone(), true));
        std::fs::write(path, b"damaged").unwrap();
        assert_eq!(encode(), (inputs, false));
    }
}
