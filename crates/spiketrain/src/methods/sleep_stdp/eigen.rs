//! Eigenvalues and eigenvectors of any symmetric matrix, degenerate ones included.

use nalgebra::{DMatrix, Dyn, SymmetricEigen};

/// Sweeps of Jacobi rotations at most; a handful is enough.
const JACOBI_SWEEPS: usize = 50;

/// Eigenvalues and eigenvectors of a symmetric matrix. The library's QR iteration divides 0 by 0 on
/// some matrices; these go to the slower method of Jacobi, which cannot.
pub(super) fn eigen(matrix: DMatrix<f64>) -> SymmetricEigen<f64, Dyn> {
    let eigen = SymmetricEigen::new(matrix.clone());
    let mut values = eigen.eigenvalues.iter().chain(eigen.eigenvectors.iter());
    if values.all(|x| x.is_finite()) { eigen } else { jacobi(matrix) }
}

/// Cyclic Jacobi rotations until nothing is left beside the diagonal (G. H. Golub, C. F. Van Loan,
/// "Matrix Computations", 4th edition, 2013, section 8.5).
fn jacobi(mut a: DMatrix<f64>) -> SymmetricEigen<f64, Dyn> {
    let n = a.nrows();
    let mut vectors = DMatrix::identity(n, n);
    let rotate = |m: &mut DMatrix<f64>, p: usize, q: usize, cos: f64, sin: f64| {
        for i in 0..n {
            let (x, y) = (m[(i, p)], m[(i, q)]);
            (m[(i, p)], m[(i, q)]) = (cos * x - sin * y, sin * x + cos * y);
        }
    };
    let negligible = 1e-15 * a.diagonal().iter().fold(0.0, |most: f64, d| most.max(d.abs()));
    for _ in 0..JACOBI_SWEEPS {
        let mut is_diagonal = true;
        for q in 1..n {
            for p in 0..q {
                if a[(p, q)].abs() <= negligible {
                    continue;
                }
                is_diagonal = false;
                let ratio = (a[(q, q)] - a[(p, p)]) / (2.0 * a[(p, q)]);
                let tan = 1.0f64.copysign(ratio) / (ratio.abs() + libm::sqrt(1.0 + ratio * ratio));
                let cos = 1.0 / libm::sqrt(1.0 + tan * tan);
                let sin = tan * cos;
                rotate(&mut a, p, q, cos, sin);
                for j in 0..n {
                    let (x, y) = (a[(p, j)], a[(q, j)]);
                    (a[(p, j)], a[(q, j)]) = (cos * x - sin * y, sin * x + cos * y);
                }
                rotate(&mut vectors, p, q, cos, sin);
            }
        }
        if is_diagonal {
            break;
        }
    }
    SymmetricEigen { eigenvalues: a.diagonal(), eigenvectors: vectors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    /// Complains unless `found` is of `matrix`.
    fn assert_of(found: &SymmetricEigen<f64, Dyn>, matrix: &DMatrix<f64>, what: &str) {
        let n = matrix.nrows();
        let error = (found.recompose() - matrix).amax() / matrix.amax();
        assert!(error < 1e-12, "{what}: {error}");
        let error =
            (found.eigenvectors.tr_mul(&found.eigenvectors) - DMatrix::identity(n, n)).amax();
        assert!(error < 1e-12, "{what}: {error}");
    }

    #[test]
    fn the_method_of_jacobi_finds_eigenvalues_and_vectors() {
        let mut stream = Seed(3).stream("matrix", 0);
        let x = DMatrix::from_fn(30, 12, |_, j| if j == 4 { 0.0 } else { stream.normal(0.0, 1.0) });
        let matrix = x.tr_mul(&x);
        let found = jacobi(matrix.clone());
        assert_of(&found, &matrix, "jacobi");
        let sorted = |e: &SymmetricEigen<f64, Dyn>| {
            let mut values = e.eigenvalues.as_slice().to_vec();
            values.sort_by(f64::total_cmp);
            values
        };
        let pairs = sorted(&found).into_iter().zip(sorted(&SymmetricEigen::new(matrix)));
        pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-11, "{a} against {b}"));
    }

    /// Rates of 250 neurons, every other silent and the rest nearly so: most eigenvalues are 0, and
    /// beside the diagonal the library's iteration comes to numbers whose squares are 0.
    #[test]
    fn nearly_silent_networks_have_eigenvectors() {
        for seed in 0..5 {
            let mut stream = Seed(seed).stream("rates", 0);
            let mut standard = DMatrix::from_fn(50, 250, |_, neuron| {
                let fires = neuron % 2 == 1 && stream.uniform_f64() < 0.01;
                f64::from(u8::from(fires))
            });
            for mut rates in standard.column_iter_mut().filter(|c| c.amax() > 0.0) {
                let mean = rates.mean();
                rates.add_scalar_mut(-mean);
                let deviation = libm::sqrt(rates.norm_squared() / 50.0);
                rates.unscale_mut(deviation);
            }
            let matrix = standard.tr_mul(&standard);
            assert_of(&eigen(matrix.clone()), &matrix, &format!("seed {seed}"));
        }
    }
}
