//! The linear transformations of Winograd's convolution, one axis at a time, for tiles with the
//! points 0, ±1, ∞ (2×2 outputs of a 3×3 kernel) and 0, ±1, ±2, ∞ (4×4 outputs of a 3×3 kernel, 2×2
//! of a 5×5 kernel).

use crate::simd::Vector;

/// A transformation of tiles of `FROM` × `FROM` values, first along one axis, then the other.
pub(super) trait Transform<const FROM: usize, const TO: usize> {
    /// Along one axis, T x.
    fn along<V: Vector>(x: [V; FROM]) -> [V; TO];
    /// Along both, T x Tᵀ.
    fn both<V: Vector>(x: [[V; FROM]; FROM]) -> [[V; TO]; TO];
}

/// One column of an array of rows. Indices are literals, here and below, so that arrays of vectors
/// become registers.
macro_rules! column {
    ($rows:ident, $c:tt, [$($r:tt)*]) => { [$($rows[$r][$c]),*] };
}

/// Defines `both` by `along` for the given indices.
macro_rules! both {
    ($from_size:literal to $to_size:literal, $from:tt, [$($c:tt)*], [$($r:tt)*]) => {
        #[inline(always)]
        fn both<V: Vector>(x: [[V; $from_size]; $from_size]) -> [[V; $to_size]; $to_size] {
            let columns = [$(<Self as Transform<$from_size, $to_size>>::along(column!(x, $c, $from))),*];
            [$(<Self as Transform<$from_size, $to_size>>::along(column!(columns, $r, $from))),*]
        }
    };
}

/// A square of blocks.
pub(super) trait Square<V: Vector, const N: usize>: Sized {
    /// From memory, with steps between rows and columns.
    ///
    /// # Safety
    ///
    /// A block can be read at every place.
    unsafe fn load(from: *const f32, row: usize, column: usize) -> Self;
    /// From a pointer for each block, `at` values behind it.
    ///
    /// # Safety
    ///
    /// A block can be read behind every pointer.
    unsafe fn gather(from: &[[*const f32; N]; N], at: usize) -> Self;
    /// To memory.
    ///
    /// # Safety
    ///
    /// A block can be written at every place.
    unsafe fn store(self, to: *mut f32, row: usize, column: usize);
    /// Every block plus `first`.
    fn plus(self, first: V) -> Self;
}

macro_rules! row {
    ($from:ident, $row:ident, $column:ident, $r:tt, [$($c:tt)*]) => {
        [$(V::load($from.add($r * $row + $c * $column))),*]
    };
}
macro_rules! gathered_row {
    ($from:ident, $at:ident, $r:tt, [$($c:tt)*]) => { [$(V::load($from[$r][$c].add($at))),*] };
}
macro_rules! store_row {
    ($self:ident, $to:ident, $row:ident, $column:ident, $r:tt, [$($c:tt)*]) => {
        $($self[$r][$c].store($to.add($r * $row + $c * $column));)*
    };
}
macro_rules! row_plus {
    ($self:ident, $first:ident, $r:tt, [$($c:tt)*]) => { [$($self[$r][$c].plus($first)),*] };
}
macro_rules! square {
    ($n:literal, [$($r:tt)*], $columns:tt) => {
        impl<V: Vector> Square<V, $n> for [[V; $n]; $n] {
            #[inline(always)]
            unsafe fn load(from: *const f32, row: usize, column: usize) -> Self {
                // SAFETY: the caller's promise.
                unsafe { [$(row!(from, row, column, $r, $columns)),*] }
            }
            #[inline(always)]
            unsafe fn gather(from: &[[*const f32; $n]; $n], at: usize) -> Self {
                // SAFETY: the caller's promise.
                unsafe { [$(gathered_row!(from, at, $r, $columns)),*] }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32, row: usize, column: usize) {
                // SAFETY: the caller's promise.
                unsafe { $(store_row!(self, to, row, column, $r, $columns);)* }
            }
            #[inline(always)]
            fn plus(self, first: V) -> Self {
                [$(row_plus!(self, first, $r, $columns)),*]
            }
        }
    };
}
square!(2, [0 1], [0 1]);
square!(3, [0 1 2], [0 1 2]);
square!(4, [0 1 2 3], [0 1 2 3]);
square!(5, [0 1 2 3 4], [0 1 2 3 4]);
square!(6, [0 1 2 3 4 5], [0 1 2 3 4 5]);

/// Bᵀ d of an input.
pub(super) struct OfInput;

impl Transform<4, 4> for OfInput {
    both!(4 to 4, [0 1 2 3], [0 1 2 3], [0 1 2 3]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
        [a.minus(c), b.plus(c), c.minus(b), b.minus(d)]
    }
}

impl Transform<6, 6> for OfInput {
    both!(6 to 6, [0 1 2 3 4 5], [0 1 2 3 4 5], [0 1 2 3 4 5]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d, e, f]: [V; 6]) -> [V; 6] {
        let (four, minus_four, minus_five) = (V::splat(4.0), V::splat(-4.0), V::splat(-5.0));
        let (even, odd) = (e.plus_product(minus_four, c), d.plus_product(minus_four, b));
        let (difference, half) = (e.minus(c), d.minus(b));
        let twice = half.plus(half);
        [
            e.plus_product(four, a).plus_product(minus_five, c),
            even.plus(odd),
            even.minus(odd),
            difference.plus(twice),
            difference.minus(twice),
            f.plus_product(four, b).plus_product(minus_five, d),
        ]
    }
}

/// Aᵀ m of products, to outputs.
pub(super) struct ToOutput;

impl Transform<4, 2> for ToOutput {
    both!(4 to 2, [0 1 2 3], [0 1 2 3], [0 1]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 2] {
        [a.plus(b).plus(c), b.minus(c).minus(d)]
    }
}

impl Transform<6, 4> for ToOutput {
    both!(6 to 4, [0 1 2 3 4 5], [0 1 2 3 4 5], [0 1 2 3]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {
        let (even, odd, far_even, far_odd) = (b.plus(c), b.minus(c), d.plus(e), d.minus(e));
        [
            a.plus(even).plus(far_even),
            odd.plus_product(V::splat(2.0), far_odd),
            even.plus_product(V::splat(4.0), far_even),
            f.plus(odd).plus_product(V::splat(8.0), far_odd),
        ]
    }
}

impl Transform<6, 2> for ToOutput {
    both!(6 to 2, [0 1 2 3 4 5], [0 1 2 3 4 5], [0 1]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d, e, f]: [V; 6]) -> [V; 2] {
        let (even, odd, far_even, far_odd) = (b.plus(c), b.minus(c), d.plus(e), d.minus(e));
        [a.plus(even).plus(far_even), f.plus(odd).plus_product(V::splat(2.0), far_odd)]
    }
}

/// A y of an output's gradient.
pub(super) struct OfOutput;

impl Transform<2, 4> for OfOutput {
    both!(2 to 4, [0 1], [0 1], [0 1 2 3]);
    #[inline(always)]
    fn along<V: Vector>([a, b]: [V; 2]) -> [V; 4] {
        [a, a.plus(b), a.minus(b), V::splat(0.0).minus(b)]
    }
}

impl Transform<4, 6> for OfOutput {
    both!(4 to 6, [0 1 2 3], [0 1 2 3], [0 1 2 3 4 5]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 6] {
        let (even, odd) = (a.plus(c), b.plus(d));
        let far_even = a.plus_product(V::splat(4.0), c);
        let far_odd = b.plus(b).plus_product(V::splat(8.0), d);
        [a, even.plus(odd), even.minus(odd), far_even.plus(far_odd), far_even.minus(far_odd), d]
    }
}

impl Transform<2, 6> for OfOutput {
    both!(2 to 6, [0 1], [0 1], [0 1 2 3 4 5]);
    #[inline(always)]
    fn along<V: Vector>([a, b]: [V; 2]) -> [V; 6] {
        let twice = b.plus(b);
        [a, a.plus(b), a.minus(b), a.plus(twice), a.minus(twice), b]
    }
}

/// G g of a kernel.
pub(super) struct OfKernel;

impl Transform<3, 4> for OfKernel {
    both!(3 to 4, [0 1 2], [0 1 2], [0 1 2 3]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c]: [V; 3]) -> [V; 4] {
        let (half, sum) = (V::splat(0.5), a.plus(c));
        [a, half.times(sum.plus(b)), half.times(sum.minus(b)), c]
    }
}

impl Transform<3, 6> for OfKernel {
    both!(3 to 6, [0 1 2], [0 1 2], [0 1 2 3 4 5]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c]: [V; 3]) -> [V; 6] {
        let (sum, sixth) = (a.plus(c), V::splat(-1.0 / 6.0));
        let far = a.plus_product(V::splat(4.0), c);
        let (twice, fraction) = (b.plus(b), V::splat(1.0 / 24.0));
        [
            V::splat(0.25).times(a),
            sixth.times(sum.plus(b)),
            sixth.times(sum.minus(b)),
            fraction.times(far.plus(twice)),
            fraction.times(far.minus(twice)),
            c,
        ]
    }
}

impl Transform<5, 6> for OfKernel {
    both!(5 to 6, [0 1 2 3 4], [0 1 2 3 4], [0 1 2 3 4 5]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d, e]: [V; 5]) -> [V; 6] {
        let (sixth, fraction) = (V::splat(-1.0 / 6.0), V::splat(1.0 / 24.0));
        let (even, odd) = (a.plus(c).plus(e), b.plus(d));
        let far_even = a.plus_product(V::splat(4.0), c).plus_product(V::splat(16.0), e);
        let far_odd = b.plus(b).plus_product(V::splat(8.0), d);
        [
            V::splat(0.25).times(a),
            sixth.times(even.plus(odd)),
            sixth.times(even.minus(odd)),
            fraction.times(far_even.plus(far_odd)),
            fraction.times(far_even.minus(far_odd)),
            e,
        ]
    }
}

/// Gᵀ u of the products' gradient, to the kernel's.
pub(super) struct ToKernel;

impl Transform<4, 3> for ToKernel {
    both!(4 to 3, [0 1 2 3], [0 1 2 3], [0 1 2]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 3] {
        let half = V::splat(0.5);
        let sum = half.times(b.plus(c));
        [a.plus(sum), half.times(b.minus(c)), sum.plus(d)]
    }
}

impl Transform<6, 3> for ToKernel {
    both!(6 to 3, [0 1 2 3 4 5], [0 1 2 3 4 5], [0 1 2]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d, e, f]: [V; 6]) -> [V; 3] {
        let (sum, difference) = (b.plus(c), b.minus(c));
        let (far_sum, far_difference) = (d.plus(e), d.minus(e));
        let sixth = V::splat(1.0 / 6.0);
        [
            V::splat(0.25)
                .times(a)
                .minus(sixth.times(sum))
                .plus_product(V::splat(1.0 / 24.0), far_sum),
            V::splat(1.0 / 12.0).times(far_difference).minus(sixth.times(difference)),
            f.plus_product(sixth, far_sum.minus(sum)),
        ]
    }
}

impl Transform<6, 5> for ToKernel {
    both!(6 to 5, [0 1 2 3 4 5], [0 1 2 3 4 5], [0 1 2 3 4]);
    #[inline(always)]
    fn along<V: Vector>([a, b, c, d, e, f]: [V; 6]) -> [V; 5] {
        let (sixth, fraction) = (V::splat(-1.0 / 6.0), V::splat(1.0 / 24.0));
        let (sum, difference) = (sixth.times(b.plus(c)), sixth.times(b.minus(c)));
        let (far_sum, far_difference) = (fraction.times(d.plus(e)), fraction.times(d.minus(e)));
        [
            sum.plus(far_sum).plus_product(V::splat(0.25), a),
            difference.plus_product(V::splat(2.0), far_difference),
            sum.plus_product(V::splat(4.0), far_sum),
            difference.plus_product(V::splat(8.0), far_difference),
            f.plus(sum).plus_product(V::splat(16.0), far_sum),
        ]
    }
}
