//! Counter-based random streams: every draw is a pure function of seed, purpose and index.
//!
//! The generator is Philox 4×32 with ten rounds (J. K. Salmon et al., "Parallel random numbers:
//! as easy as 1, 2, 3", SC 2011, doi:10.1145/2063384.2063405). The 64-bit seed is the key; the
//! 128-bit counter holds a block number (32 bits), a hash of the purpose (32 bits) and the index
//! (64 bits). No draw depends on scheduling, on other draws or on the number of threads.

use crate::elementary::{ln, sin_cos_turns};
use crate::simd::{Simd, dispatch};
use rand_core::{Infallible, TryRng, utils};

/// The seed of a run. Streams are made from it with [`Seed::stream`].
///
/// ```
/// use spiketrain::Seed;
/// let mut a = Seed(7).stream("shuffle", 3);
/// let mut b = Seed(7).stream("shuffle", 3);
/// assert_eq!(a.uniform(), b.uniform());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream for `purpose` and `index`; equal arguments give equal draws.
    pub fn stream(self, purpose: &str, index: u64) -> Stream {
        Stream {
            key: [self.0 as u32, (self.0 >> 32) as u32],
            counter: [0, fnv1a(purpose), index as u32, (index >> 32) as u32],
            buffer: [0; 4],
            used: 4,
        }
    }
}

/// FNV-1a of the purpose's name. Names in use are few; a test keeps them free of collisions.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// One named stream of random numbers. Implements `rand_core`'s generator traits.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    buffer: [u32; 4],
    used: usize,
}

impl Stream {
    /// 32 random bits.
    ///
    /// # Panics
    ///
    /// After 2³² blocks (6.4·10¹⁰ bytes), where the counter would repeat.
    #[inline]
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].checked_add(1).expect("a stream holds 2^32 blocks");
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    #[inline]
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    #[inline]
    pub fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.bits());
        let low = u64::from(self.bits());
        ((high << 32 | low) >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in `0..n` without bias (rejection of the incomplete last interval).
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "an empty range has no draw");
        loop {
            let product = u64::from(self.bits()) * u64::from(n);
            if (product as u32) >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }

    /// True with probability `p`.
    #[inline]
    pub fn chance(&mut self, p: f32) -> bool {
        self.uniform() < p
    }

    /// Normal with mean `mean` and standard deviation `std` (Box–Muller, one draw of two kept).
    #[inline]
    pub fn normal(&mut self, mean: f64, std: f64) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform_f64()));
        let angle = std::f64::consts::TAU * self.uniform_f64();
        mean + std * radius * libm::cos(angle)
    }

    /// Fills `out` with normal draws of mean 0 and standard deviation `std`, much faster than one
    /// by one (Box–Muller on 32-bit uniforms, both draws of a pair kept, 64 draws at a time).
    pub fn normals(&mut self, std: f64, out: &mut [f64]) {
        let simd = Simd::best();
        for chunk in out.chunks_mut(N_TOGETHER) {
            let mut bits = [0; N_TOGETHER];
            bits.iter_mut().for_each(|b| *b = self.bits());
            let mut draws = [0.0; N_TOGETHER];
            box_muller(simd, &bits, std, &mut draws);
            chunk.copy_from_slice(&draws[..chunk.len()]);
        }
    }

    /// Puts `items` into a uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

impl TryRng for Stream {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.bits())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        utils::next_u64_via_u32(self)
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        utils::fill_bytes_via_next_word(dst, || self.try_next_u32())
    }
}

/// Draws that are made together by [`Stream::normals`].
const N_TOGETHER: usize = 64;

dispatch! {
    fn box_muller(
        bits: &[u32; N_TOGETHER],
        std: f64,
        out: &mut [f64; N_TOGETHER],
    ) = box_muller_loop;
}

/// The first half of `bits` gives radii, the second angles; out come cosines, then sines.
#[inline(always)]
fn box_muller_loop(bits: &[u32; N_TOGETHER], std: f64, out: &mut [f64; N_TOGETHER]) {
    // A whole number below 2⁵², placed in the mantissa of 2⁵².
    let whole =
        |b: u32| f64::from_bits(0x4330_0000_0000_0000 | u64::from(b)) - 4_503_599_627_370_496.0;
    let (radii, angles) = bits.split_at(N_TOGETHER / 2);
    let (cosines, sines) = out.split_at_mut(N_TOGETHER / 2);
    for i in 0..N_TOGETHER / 2 {
        // The middle of an interval of 2⁻³², never 0.
        let u = (whole(radii[i]) + 0.5) * (1.0 / 4_294_967_296.0);
        let radius = std * (-2.0 * ln(u)).sqrt();
        let (sin, cos) = sin_cos_turns(whole(angles[i]) * (1.0 / 4_294_967_296.0));
        cosines[i] = radius * cos;
        sines[i] = radius * sin;
    }
}

/// One block of Philox 4×32-10.
fn philox4x32_10(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_matches_random123() {
        let check = |c, k, expected| assert_eq!(philox4x32_10(c, k), expected);
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn streams_differ_by_seed_purpose_and_index() {
        let first = |s: u64, p: &str, i| Seed(s).stream(p, i).bits();
        let base = first(1, "a", 0);
        assert_ne!(base, first(2, "a", 0));
        assert_ne!(base, first(1, "b", 0));
        assert_ne!(base, first(1, "a", 1));
        assert_ne!(base, first(1, "a", 1 << 32));
    }

    /// The texts between quotation marks in a file's code, line by line.
    fn literals(code: &str) -> impl Iterator<Item = &str> {
        let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
        lines.flat_map(|l| l.split('"').skip(1).step_by(2))
    }

    /// Whatever looks like a purpose counts as one: not all of them stand beside `stream`.
    #[test]
    fn purposes_do_not_collide() {
        let mut purposes = std::collections::BTreeSet::new();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("seed.rs")
                {
                    let code = std::fs::read_to_string(path).unwrap();
                    purposes.extend(literals(&code).filter(|l| is_purpose(l)).map(str::to_owned));
                }
            }
        }
        for part in ["shuffle", "s2stdp.dropout", "sleep-stdp.readout-input"] {
            assert!(purposes.contains(part), "{part}");
        }
        // Each layer with dropout has a purpose of its own.
        for layer in 0..256 {
            for engine in ["frames", "time-losses"] {
                purposes.insert(format!("{engine}.dropout.{layer}"));
            }
        }
        let mut seen = std::collections::BTreeMap::new();
        for purpose in &purposes {
            let other = seen.insert(fnv1a(purpose), purpose);
            assert!(other.is_none(), "{purpose} and {} have one hash", other.unwrap());
        }
    }

    fn is_purpose(text: &str) -> bool {
        !text.is_empty()
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
    }

    #[test]
    fn moments_of_uniform_and_normal() {
        let mut s = Seed(3).stream("test", 0);
        let n = 200_000;
        let mean = (0..n).map(|_| f64::from(s.uniform())).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 3e-3, "{mean}");
        let draws: Vec<f64> = (0..n).map(|_| s.normal(2.0, 3.0)).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let var = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!((mean - 2.0).abs() < 0.03 && (var.sqrt() - 3.0).abs() < 0.03, "{mean} {var}");
    }

    #[test]
    fn many_normals_have_their_moments_and_are_the_same_everywhere() {
        let mut s = Seed(4).stream("test", 0);
        let mut draws = vec![0.0; 200_001];
        s.normals(3.0, &mut draws);
        let n = draws.len() as f64;
        let moment = |k: i32| draws.iter().map(|x| (x / 3.0).powi(k)).sum::<f64>() / n;
        let found = [1, 2, 3, 4].map(moment);
        for (found, expected) in found.into_iter().zip([0.0, 1.0, 0.0, 3.0]) {
            assert!((found - expected).abs() < 0.05, "{found} against {expected}");
        }
        let both: f64 = draws.windows(33).map(|w| w[0] * w[32] / 9.0).sum::<f64>() / n;
        assert!(both.abs() < 0.01, "the two draws of a pair are independent: {both}");
        let bits = std::array::from_fn(|_| s.bits());
        let with = |simd| {
            let mut out = [0.0; N_TOGETHER];
            box_muller(simd, &bits, 2.0, &mut out);
            out
        };
        assert!(Simd::available().into_iter().all(|simd| with(simd) == with(Simd::best())));
    }

    #[test]
    fn below_is_uniform_and_shuffle_is_a_permutation() {
        let mut s = Seed(9).stream("test", 1);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[s.below(7) as usize] += 1);
        assert!(counts.iter().all(|&c| (9_600..10_400).contains(&c)), "{counts:?}");
        let mut items: Vec<u32> = (0..100).collect();
        s.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
