//! Which vector instructions the machine has. Every kernel is one generic body of plain
//! multiplications and additions per lane, compiled once per instruction set, so that all paths
//! give the same bits.

/// Lanes of one block; a row of weights is a whole number of blocks.
pub(crate) const LANES: usize = 16;

/// One block of lanes, one neuron each.
pub(crate) type Block = [f32; LANES];

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

/// Compiles `$body::<BLOCKS>` for every instruction set and defines `$name(simd, n_blocks, …)`,
/// which calls the right one.
macro_rules! dispatch {
    ($name:ident, $body:ident, ($($arg:ident: $type:ty),* $(,)?)) => {
        fn $name(simd: $crate::times::Simd, n_blocks: usize, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<const BLOCKS: usize>($($arg: $type),*) {
                $body::<BLOCKS>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            fn avx512<const BLOCKS: usize>($($arg: $type),*) {
                $body::<BLOCKS>($($arg),*);
            }
            fn run<const BLOCKS: usize>(simd: $crate::times::Simd, $($arg: $type),*) {
                use $crate::times::simd::Level;
                match simd.level() {
                    Level::Portable => $body::<BLOCKS>($($arg),*),
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
