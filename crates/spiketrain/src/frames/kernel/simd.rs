//! Sizes of the dense kernels' panels for each level of vector instructions. Levels agree to the
//! bit in sums of spikes, and to rounding in sums of products, which are fused where the machine
//! can.

use crate::simd::Level;
pub(super) use crate::simd::{LANES, Line, Vector, dispatch};

pub use crate::simd::Simd;

impl Simd {
    /// Output channels of a panel of the dense kernel.
    pub(super) fn panel(self) -> usize {
        if self.level() == Level::Avx512 { 4 * LANES } else { LANES }
    }

    /// True if nine blocks of sums fit into the registers.
    pub(super) fn keeps_nine(self) -> bool {
        self.panel() > LANES
    }
}
