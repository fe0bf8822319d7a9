//! The soft competition: shares of the neurons, eight at a time.

use crate::elementary::exp;

/// Neurons of one block; potentials are padded to whole blocks.
pub(super) const LANES: usize = 8;

/// Below this the exponential counts as 0; its value there is 10⁻³⁰⁴.
const LOWEST: f64 = -700.0;

/// Turns potentials into `exp(U − max U)`, in place, and returns their sum; a share is the
/// quotient of the two. Lanes of −∞ have no share.
#[inline(always)]
pub(super) fn exponentials(potentials: &mut [f64]) -> f64 {
    let mut max = [f64::NEG_INFINITY; LANES];
    let (blocks, rest) = potentials.as_chunks_mut::<LANES>();
    debug_assert!(rest.is_empty(), "whole blocks");
    for block in blocks.iter() {
        for l in 0..LANES {
            max[l] = if block[l] > max[l] { block[l] } else { max[l] };
        }
    }
    let max = max.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let mut sums = [0.0; LANES];
    for block in blocks {
        for l in 0..LANES {
            let u = block[l] - max;
            let e = exp(if u > LOWEST { u } else { LOWEST });
            block[l] = if u > LOWEST { e } else { 0.0 };
            sums[l] += block[l];
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_one_whatever_is_added_to_the_potentials() {
        let potentials: Vec<f64> = (0..16)
            .map(|i| if i < 11 { f64::from(i * i % 7) } else { f64::NEG_INFINITY })
            .collect();
        let shares = |offset: f64| {
            let mut u: Vec<f64> = potentials.iter().map(|u| u + offset).collect();
            let sum = exponentials(&mut u);
            u.iter().map(|e| e / sum).collect::<Vec<f64>>()
        };
        let base = shares(0.0);
        assert!((base.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert_eq!(base[11..], [0.0; 5]);
        let mut u = [0.0, -1e300, -701.0, f64::NEG_INFINITY, -1.0, -699.0, -2.0, 0.0];
        let e = libm::exp;
        let sum = exponentials(&mut u);
        assert_eq!((u[0], u[7], u[1..4].to_vec()), (1.0, 1.0, vec![0.0; 3]));
        assert!((sum / (2.0 + e(-1.0) + e(-2.0)) - 1.0).abs() < 1e-15 && u[5] > 0.0);
        for (a, b) in base.iter().zip(shares(-1234.5)) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }
}
