//! What a network learns: named arrays, and gradients in the same order.

use super::shards::Workspaces;
use crate::error::Result;
use crate::state::State;
use rayon::prelude::*;

/// Values that one thread works on at once where every value stands for itself.
pub(super) const AT_ONCE: usize = 1 << 16;

/// What a parameter is; optimisers treat kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Weight of a convolution or a linear layer.
    Weight,
    /// Bias of a convolution or a linear layer.
    Bias,
    /// Scale, shift or step factor of a normalisation.
    Norm,
    /// A firing threshold.
    Threshold,
}

/// One learned array.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in a checkpoint.
    pub name: String,
    /// Extents, slowest first; a convolution's weight is `[out, in, kernel_row, kernel_column]`.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: Kind,
    /// Values, last index fastest.
    pub values: Vec<f32>,
}

/// Index of a parameter in its [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterId(pub usize);

/// All parameters of a network, in the order of its layers.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// The parameters.
    pub list: Vec<Parameter>,
}

impl Parameters {
    /// Adds one.
    pub fn add(
        &mut self,
        name: String,
        shape: &[usize],
        kind: Kind,
        values: Vec<f32>,
    ) -> ParameterId {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: values fill the shape");
        self.list.push(Parameter { name, shape: shape.to_vec(), kind, values });
        ParameterId(self.list.len() - 1)
    }

    /// Values of one.
    pub fn get(&self, id: ParameterId) -> &[f32] {
        &self.list[id.0].values
    }

    /// Number of learned values.
    pub fn n_values(&self) -> usize {
        self.list.iter().map(|p| p.values.len()).sum()
    }

    /// A gradient of zeros in memory that is used again.
    pub fn zeros_in(&self, workspaces: &Workspaces) -> Gradients {
        let zeros = |p: &Parameter| {
            let mut values = workspaces.take(p.values.len());
            values.fill(0.0);
            values
        };
        Gradients { list: self.list.iter().map(zeros).collect() }
    }

    /// A gradient of zeros.
    pub fn zeros(&self) -> Gradients {
        Gradients { list: self.list.iter().map(|p| vec![0.0; p.values.len()]).collect() }
    }

    /// The values by name.
    pub fn state(&self) -> State {
        let mut state = State::new();
        for p in &self.list {
            state.put(&p.name, &p.shape, p.values.clone());
        }
        state
    }

    /// Puts back what [`Parameters::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        for p in &mut self.list {
            p.values.copy_from_slice(state.get(&p.name, &p.shape)?);
        }
        Ok(())
    }
}

/// One gradient for each of the [`Parameters`], in their order.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The gradients.
    pub list: Vec<Vec<f32>>,
}

impl Gradients {
    /// Gives its memory back.
    pub fn recycle(self, workspaces: &Workspaces) {
        self.list.into_iter().for_each(|values| workspaces.give(values));
    }

    /// Gradient of one parameter.
    pub fn get(&self, id: ParameterId) -> &[f32] {
        &self.list[id.0]
    }

    /// Gradient of one parameter, to be added to.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [f32] {
        &mut self.list[id.0]
    }

    /// Adds `values` to the gradient of one parameter.
    pub fn add(&mut self, id: ParameterId, values: impl IntoIterator<Item = f64>) {
        self.list[id.0].iter_mut().zip(values).for_each(|(g, v)| *g += v as f32);
    }

    /// Euclidean norm of the gradient of one parameter.
    pub fn norm(&self, id: ParameterId) -> f64 {
        let parts: Vec<f64> = self.list[id.0].par_chunks(AT_ONCE).map(sum_of_squares).collect();
        parts.iter().sum::<f64>().sqrt()
    }

    /// Adds `factor` times other gradients.
    pub fn add_scaled(&mut self, other: &Gradients, factor: f32) {
        for (own, other) in self.list.iter_mut().zip(&other.list) {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += factor * other);
        }
    }

    /// Multiplies everything by `factor`.
    pub fn scale(&mut self, factor: f32) {
        self.list.iter_mut().flatten().for_each(|g| *g *= factor);
    }

    /// Scales everything down so that the Euclidean norm of all gradients together is at most
    /// `most`; returns the norm before.
    pub fn clip(&mut self, most: f64) -> f64 {
        let norm =
            (0..self.list.len()).map(|i| self.norm(ParameterId(i)).powi(2)).sum::<f64>().sqrt();
        if norm > most {
            self.scale((most / norm) as f32);
        }
        norm
    }
}

/// Σ g², in eight sums side by side.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    for values in values.chunks(8) {
        for (sum, &g) in sums.iter_mut().zip(values) {
            *sum += f64::from(g) * f64::from(g);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_the_direction() {
        let mut gradients = Gradients { list: vec![vec![3.0], vec![0.0, 4.0]] };
        assert_eq!(gradients.clip(10.0), 5.0);
        assert_eq!(gradients.list, [vec![3.0], vec![0.0, 4.0]]);
        gradients.clip(1.0);
        assert!((gradients.list[0][0] - 0.6).abs() < 1e-6);
    }
}
