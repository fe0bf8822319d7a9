//! Which vector instructions the machine has. Every kernel is one body, generic over a [`Vector`],
//! of plain multiplications and additions per lane (nothing is fused), compiled once per
//! instruction set, so that all paths give the same bits.

/// Lanes of one block; a row of weights is a whole number of blocks.
pub(crate) const LANES: usize = 16;

/// One block of lanes, one neuron each.
pub(crate) type Block = [f32; LANES];

/// A block on a cache line of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) Block);

/// Most blocks a kernel keeps in registers at once.
pub(crate) const MAX_BLOCKS: usize = 4;

/// A set of vector instructions that this machine was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Simd {
    /// Every set this machine has, the plain one first.
    pub fn available() -> Vec<Simd> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "nothing to add"))]
        let mut found = vec![Simd(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                found.push(Simd(Level::Avx2));
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                found.push(Simd(Level::Avx512));
            }
        }
        found
    }

    /// The widest set this machine has.
    pub fn best() -> Simd {
        *Self::available().last().expect("the plain set is always there")
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}

/// Compiles `$body::<V, BLOCKS>` for every instruction set and defines
/// `$name(simd, n_blocks, …)`, which calls the right one.
macro_rules! dispatch {
    ($name:ident, $body:ident, ($($arg:ident: $type:ty),* $(,)?)) => {
        fn $name(simd: $crate::times::Simd, n_blocks: usize, $($arg: $type),*) {
            use $crate::times::simd::{Level, Portable};
            #[cfg(target_arch = "x86_64")]
            use $crate::times::x86::{Avx2, Avx512};
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<const BLOCKS: usize>($($arg: $type),*) {
                $body::<Avx2, BLOCKS>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            fn avx512<const BLOCKS: usize>($($arg: $type),*) {
                $body::<Avx512, BLOCKS>($($arg),*);
            }
            fn run<const BLOCKS: usize>(simd: $crate::times::Simd, $($arg: $type),*) {
                match simd.level() {
                    Level::Portable => $body::<Portable, BLOCKS>($($arg),*),
                    // SAFETY: a `Simd` of this level exists only where the feature was detected.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => unsafe { avx2::<BLOCKS>($($arg),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => unsafe { avx512::<BLOCKS>($($arg),*) },
                }
            }
            match n_blocks {
                1 => run::<1>(simd, $($arg),*),
                2 => run::<2>(simd, $($arg),*),
                3 => run::<3>(simd, $($arg),*),
                4 => run::<4>(simd, $($arg),*),
                n => unreachable!("groups of 1 to 4 blocks, not {n}"),
            }
        }
    };
}
pub(crate) use dispatch;

/// A block in registers. Every operation is the same per lane in all implementations, to the bit.
pub(crate) trait Vector: Copy {
    /// All lanes `x`.
    fn splat(x: f32) -> Self;
    /// From memory.
    fn load(block: &Block) -> Self;
    /// To memory.
    fn store(self, block: &mut Block);
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
    /// `self · other`.
    fn times(self, other: Self) -> Self;
    /// `|self|`.
    fn abs(self) -> Self;
    /// `self` where it is above `low`, else `low`; then the same with `high`.
    fn clip(self, low: Self, high: Self) -> Self;
    /// One bit a lane where `self > other`.
    fn above(self, other: Self) -> u32;
    /// `yes` where `self ≤ other`, else `no`.
    fn at_most(self, other: Self, yes: Self, no: Self) -> Self;
}

/// A block as an array, for machines without known vector instructions.
#[derive(Clone, Copy)]
pub(crate) struct Portable(Block);

impl Portable {
    #[inline(always)]
    fn lanes(f: impl Fn(usize) -> f32) -> Self {
        Self(std::array::from_fn(f))
    }
}

impl Vector for Portable {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    fn load(block: &Block) -> Self {
        Self(*block)
    }
    #[inline(always)]
    fn store(self, block: &mut Block) {
        *block = self.0;
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self::lanes(|l| self.0[l] + other.0[l])
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self::lanes(|l| self.0[l] * other.0[l])
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self::lanes(|l| self.0[l].abs())
    }
    #[inline(always)]
    fn clip(self, low: Self, high: Self) -> Self {
        Self::lanes(|l| {
            let w = if self.0[l] > low.0[l] { self.0[l] } else { low.0[l] };
            if w < high.0[l] { w } else { high.0[l] }
        })
    }
    #[inline(always)]
    fn above(self, other: Self) -> u32 {
        (0..LANES).map(|l| u32::from(self.0[l] > other.0[l]) << l).sum()
    }
    #[inline(always)]
    fn at_most(self, other: Self, yes: Self, no: Self) -> Self {
        Self::lanes(|l| if self.0[l] <= other.0[l] { yes.0[l] } else { no.0[l] })
    }
}
