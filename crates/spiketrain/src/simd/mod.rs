//! Vector instructions, found at run time: the one place where kernels are compiled more than once.
//!
//! A kernel is one body of ordinary code. [`dispatch`] compiles it once per level of instructions
//! and defines a function that calls the copy for the machine's [`Simd`]:
//!
//! ```text
//! dispatch! {
//!     /// `out += factor · x`, 16 lanes at a time.
//!     fn add_scaled(factor: f32, x: &[Block], out: &mut [Block]) = add_scaled_body::<V>;
//! }
//!
//! #[inline(always)]
//! fn add_scaled_body<V: Vector>(factor: f32, x: &[Block], out: &mut [Block]) {
//!     for (out, x) in out.iter_mut().zip(x) {
//!         V::read(out).plus(V::read(x).times(V::splat(factor))).write(out);
//!     }
//! }
//!
//! add_scaled(Simd::best(), 0.5, x, out);
//! ```
//!
//! `V` stands for the level's type of a block of 16 lanes. A body that is left to the compiler's
//! vectoriser does without it: `= add_scaled_body;`. The body and everything it calls in its loops
//! must be `#[inline(always)]`, or it is compiled for the plain machine; closures and iterator
//! adaptors over `V` are not always inlined, so write plain loops over `V`.
//!
//! **Levels.** Portable code; AVX2 with FMA and POPCNT; AVX-512 F (with all three). A [`Simd`] of a
//! level exists only where all its features were detected; tests walk [`Simd::available`].
//!
//! **The same bits.** The compiler never fuses a multiplication and an addition by itself, so a
//! body of operations per lane gives the same bits at every level, whatever its vectors' width.
//! Fusing is a choice of the body: [`Vector::plus_fused`] rounds once at every level (in software,
//! slowly, where a machine without the instruction runs portable code), [`Vector::plus_product`]
//! rounds once where that is fast and twice elsewhere, so that levels agree to rounding only.
//! Kernels whose results are kept or compared between machines use the first or none.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Lanes of one block.
pub(crate) const LANES: usize = 16;

/// One block of lanes in memory.
pub(crate) type Block = [f32; LANES];

/// A block on a cache line of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) Block);

/// Vector instructions that this machine was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

/// What a [`Simd`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only portable code there"))]
pub(crate) enum Level {
    Portable,
    Avx2,
    Avx512,
}

impl Default for Simd {
    fn default() -> Self {
        Self::best()
    }
}

impl Simd {
    /// Every level this machine has, the plain one first.
    pub fn available() -> Vec<Simd> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "nothing to add"))]
        let mut found = vec![Simd(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("popcnt") {
                found.push(Simd(Level::Avx2));
                if has!("avx512f") {
                    found.push(Simd(Level::Avx512));
                }
            }
        }
        found
    }

    /// The widest level this machine has.
    pub fn best() -> Simd {
        *Self::available().last().expect("the plain level is always there")
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}

/// Reads as many lanes as `from` has, and zeros.
#[inline(always)]
pub(crate) fn load_lanes<V: Vector, const N: usize>(from: &[f32]) -> [V; N] {
    #[cold]
    fn fill<const N: usize>(from: &[f32], lanes: &mut [Block; N]) {
        lanes.as_flattened_mut()[..from.len()].copy_from_slice(from);
    }
    let mut lanes;
    let mut from = from;
    if from.len() < N * LANES {
        lanes = [[0.0; LANES]; N];
        fill(from, &mut lanes);
        from = lanes.as_flattened();
    }
    let mut sums = [V::splat(0.0); N];
    for (block, sum) in sums.iter_mut().enumerate() {
        // SAFETY: there are at least `N` blocks.
        *sum = unsafe { V::load(from.as_ptr().add(block * LANES)) };
    }
    sums
}

/// Writes as many lanes as `out` has.
#[inline(always)]
pub(crate) fn store_lanes<V: Vector, const N: usize>(sums: &[V; N], out: &mut [f32]) {
    if out.len() == N * LANES {
        for (block, sum) in sums.iter().enumerate() {
            // SAFETY: `out` holds `N` blocks.
            unsafe { sum.store(out.as_mut_ptr().add(block * LANES)) };
        }
    } else {
        let mut lanes = [[0.0f32; LANES]; N];
        for (sum, block) in sums.iter().zip(&mut lanes) {
            sum.write(block);
        }
        out.copy_from_slice(&lanes.as_flattened()[..out.len()]);
    }
}

/// Asks for 64 values from `at` on ahead of their use; they need not be there.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32], at: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in 0..4 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = values.as_ptr().wrapping_add(at + line * LANES);
        // SAFETY: the instruction reads nothing a program could see and takes every address.
        unsafe { _mm_prefetch(line.cast(), _MM_HINT_T0) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (values, at);
}

/// Defines `$name(simd, …)`, which calls `$body(…)` compiled for the level; see the module.
macro_rules! dispatch {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:expr;
    ) => {
        $(#[$doc])*
        $vis fn $name(simd: $crate::simd::Simd, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,popcnt")]
            fn avx2($($arg: $type),*) $(-> $result)? {
                #[allow(dead_code, reason = "not every body names it")]
                type V = $crate::simd::Avx2;
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma,popcnt")]
            fn avx512($($arg: $type),*) $(-> $result)? {
                #[allow(dead_code, reason = "not every body names it")]
                type V = $crate::simd::Avx512;
                $body($($arg),*)
            }
            #[allow(dead_code, reason = "not every body names it")]
            type V = $crate::simd::Portable;
            match simd.level() {
                // SAFETY: a `Simd` of this level exists only where the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                _ => $body($($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;

/// A block in registers. Its functions may be called only in bodies of [`dispatch`], which sees to
/// it that the machine has the instructions. All but [`Vector::plus_product`] give the same bits
/// at every level.
pub(crate) trait Vector: Copy {
    /// The level whose instructions these are; bodies choose sizes by it.
    const LEVEL: Level;
    /// Rows of an outer product that fit into the registers, for 1 to 4 blocks a row.
    const ROWS: [usize; 4];
    /// All lanes `x`.
    fn splat(x: f32) -> Self;
    /// From memory.
    ///
    /// # Safety
    ///
    /// 16 values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// To memory.
    ///
    /// # Safety
    ///
    /// 16 values can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// From a block.
    #[inline(always)]
    fn read(block: &Block) -> Self {
        // SAFETY: a block holds 16 values.
        unsafe { Self::load(block.as_ptr()) }
    }
    /// To a block.
    #[inline(always)]
    fn write(self, block: &mut Block) {
        // SAFETY: a block holds 16 values.
        unsafe { self.store(block.as_mut_ptr()) }
    }
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
    /// `self − other`.
    fn minus(self, other: Self) -> Self;
    /// `self · other`.
    fn times(self, other: Self) -> Self;
    /// `self + a · b`, rounded once where that is fast, else twice.
    fn plus_product(self, a: Self, b: Self) -> Self;
    /// `self + a · b`, rounded once.
    fn plus_fused(self, a: Self, b: Self) -> Self;
    /// `self` where it is below `other`, else `other`.
    fn min(self, other: Self) -> Self;
    /// `|self|`.
    fn abs(self) -> Self;
    /// `self` where it is above `low`, else `low`; then the same with `high`.
    fn clip(self, low: Self, high: Self) -> Self;
    /// One bit a lane where `self > other`.
    fn above(self, other: Self) -> u32;
    /// One bit a lane where `self ≥ other`.
    fn at_least(self, other: Self) -> u32;
    /// `yes` where `self ≤ other`, else `no`.
    fn at_most(self, other: Self, yes: Self, no: Self) -> Self;
    /// `yes` where `self > other`, else `no`.
    fn where_above(self, other: Self, yes: Self, no: Self) -> Self;
    /// `self + 1` in those lanes whose bit is set.
    fn plus_bits(self, bits: u32) -> Self;
    /// Writes `base + bit` for each of the lowest 16 bits that is set, in ascending order.
    ///
    /// # Safety
    ///
    /// 16 values can be written at `to`, whatever the number of bits.
    unsafe fn write_bits(bits: u32, base: u32, to: *mut u32);
}

/// [`Vector::write_bits`] one bit after another.
///
/// # Safety
///
/// As many values can be written at `to` as bits are set.
#[inline(always)]
unsafe fn write_each_bit(mut bits: u32, base: u32, mut to: *mut u32) {
    while bits != 0 {
        // SAFETY: the caller's promise.
        unsafe {
            *to = base + bits.trailing_zeros();
            to = to.add(1);
        }
        bits &= bits - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of every operation: signs, ties, infinities, a NaN, and sums that a fused step rounds
    /// otherwise than two steps.
    const A: Block = [
        0.1,
        -0.3,
        0.0,
        -0.0,
        1e-30,
        f32::INFINITY,
        2.5,
        -7.0,
        f32::NAN,
        1e20,
        -0.7,
        3.3,
        0.5,
        0.25,
        -1.0,
        1.000_000_1,
    ];
    const B: Block = [
        0.1,
        0.3,
        -0.0,
        0.0,
        1e30,
        1.0,
        2.5,
        -7.5,
        1.3,
        1e-20,
        0.7,
        0.333,
        -0.5,
        0.2,
        -1.0,
        1.000_000_1,
    ];
    const C: Block = [0.4; LANES];

    /// All operations on the three blocks.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Results {
        values: Vec<u32>,
        above: u32,
        at_least: u32,
        bits: Vec<u32>,
        product: Block,
    }

    /// A NaN's bits are nobody's promise.
    fn bits(x: f32) -> u32 {
        if x.is_nan() { 1 } else { x.to_bits() }
    }

    dispatch! {
        fn every_operation(out: &mut Results) = every_operation_body::<V>;
    }

    #[inline(always)]
    fn every_operation_body<V: Vector>(out: &mut Results) {
        let (a, b, c) = (V::read(&A), V::read(&B), V::read(&C));
        let all = [
            a.plus(b),
            a.minus(b),
            a.times(b),
            c.plus_fused(a, b),
            a.min(b),
            a.abs(),
            a.clip(V::splat(-0.5), V::splat(1.0)),
            a.at_most(b, c, a),
            a.where_above(b, c, b),
            a.plus_bits(0b1100_0000_0001_0110),
        ];
        for value in all {
            let mut block = [0.0; LANES];
            value.write(&mut block);
            out.values.extend(block.map(bits));
        }
        (out.above, out.at_least) = (a.above(b), a.at_least(b));
        c.plus_product(a, b).write(&mut out.product);
        let mut bits = [7; LANES];
        // SAFETY: there is room for 16 values.
        unsafe { V::write_bits(0b1000_0000_0001_0100, 100, bits.as_mut_ptr()) };
        out.bits.extend(&bits[..3]);
    }

    dispatch! {
        fn through_lanes(from: &[f32], to: &mut [f32]) = through_lanes_body::<V>;
    }

    #[inline(always)]
    fn through_lanes_body<V: Vector>(from: &[f32], to: &mut [f32]) {
        prefetch(from, 0);
        prefetch(from, usize::MAX / 8);
        let lanes: [V; 2] = load_lanes(from);
        store_lanes(&lanes, to);
    }

    #[test]
    fn as_many_lanes_as_there_are() {
        let from: Vec<f32> = (1..40).map(|i| i as f32).collect();
        for (simd, (n_from, n_to)) in Simd::available()
            .into_iter()
            .flat_map(|simd| [(32, 32), (39, 32), (5, 32), (32, 17), (0, 3)].map(|n| (simd, n)))
        {
            let mut to = vec![9.0; n_to];
            through_lanes(simd, &from[..n_from], &mut to);
            let want: Vec<f32> =
                (0..n_to).map(|i| if i < n_from { from[i] } else { 0.0 }).collect();
            assert_eq!(to, want, "{simd:?} {n_from} {n_to}");
        }
    }

    #[test]
    fn levels_give_the_same_bits() {
        let results = Simd::available().into_iter().map(|simd| {
            let mut out = Results::default();
            every_operation(simd, &mut out);
            for l in 0..LANES {
                let (once, twice) = (A[l].mul_add(B[l], C[l]), A[l] * B[l] + C[l]);
                let is_one = [once, twice].contains(&out.product[l]);
                assert!(is_one || once.is_nan() && out.product[l].is_nan(), "{simd:?}");
            }
            Results { product: C, ..out }
        });
        let results: Vec<Results> = results.collect();
        assert_eq!(results[0].bits, [102, 104, 115]);
        let each = |f: fn(usize) -> f32| -> Vec<u32> { (0..LANES).map(|l| bits(f(l))).collect() };
        let added = each(|l| A[l] + f32::from(u8::from(0b1100_0000_0001_0110 >> l & 1 == 1)));
        assert_eq!(results[0].values[9 * LANES..10 * LANES], added);
        let chosen = each(|l| if A[l] > B[l] { C[l] } else { B[l] });
        assert_eq!(results[0].values[8 * LANES..9 * LANES], chosen);
        let chosen = each(|l| if A[l] <= B[l] { C[l] } else { A[l] });
        assert_eq!(results[0].values[7 * LANES..8 * LANES], chosen);
        assert_eq!(results[0].above, (0..LANES).map(|l| u32::from(A[l] > B[l]) << l).sum::<u32>());
        let at_least = (0..LANES).map(|l| u32::from(A[l] >= B[l]) << l).sum::<u32>();
        assert_eq!(results[0].at_least, at_least);
        let fused = each(|l| A[l].mul_add(B[l], C[l]));
        assert_eq!(results[0].values[3 * LANES..4 * LANES], fused);
        results.iter().for_each(|r| assert_eq!(*r, results[0]));
    }
}
