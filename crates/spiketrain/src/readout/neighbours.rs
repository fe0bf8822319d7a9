//! The class of most of the nearest training points.

use crate::error::Result;
use crate::state::State;

/// Points compared at once.
const LANES: usize = 16;

/// All training points, searched one after another: in tens of dimensions no tree saves work.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestNeighbours {
    k: usize,
    n_dimensions: usize,
    /// `[block of 16 points][dimension][point]`, padded with infinity.
    blocks: Vec<f32>,
    labels: Vec<u16>,
}

impl NearestNeighbours {
    /// Keeps `points[[sample]][[dimension]]`; the `k` nearest will vote.
    ///
    /// # Panics
    ///
    /// If there is not one label per point, or no point at all.
    pub fn fit(k: usize, n_dimensions: usize, points: &[f32], labels: &[u16]) -> Self {
        assert_eq!(points.len(), labels.len() * n_dimensions, "one label per point");
        assert!(k > 0 && !labels.is_empty(), "neighbours to ask");
        let n_blocks = labels.len().div_ceil(LANES);
        let mut blocks = vec![f32::INFINITY; n_blocks * LANES * n_dimensions];
        for (i, point) in points.chunks_exact(n_dimensions).enumerate() {
            let block = i / LANES * LANES * n_dimensions;
            point.iter().enumerate().for_each(|(d, &x)| blocks[block + d * LANES + i % LANES] = x);
        }
        Self { k: k.min(labels.len()), n_dimensions, blocks, labels: labels.to_vec() }
    }

    /// The class with most votes, of several the lowest. Of points at the same distance the
    /// earlier ones are nearer.
    pub fn class(&self, point: &[f32]) -> u16 {
        let mut nearest = vec![(f32::INFINITY, 0usize); self.k];
        for (b, block) in self.blocks.chunks_exact(LANES * self.n_dimensions).enumerate() {
            let mut distances = [0.0f32; LANES];
            for (row, &x) in block.chunks_exact(LANES).zip(point) {
                for l in 0..LANES {
                    distances[l] += (row[l] - x) * (row[l] - x);
                }
            }
            for (l, &distance) in distances.iter().enumerate() {
                if distance < nearest[self.k - 1].0 {
                    let at = nearest.partition_point(|n| n.0 <= distance);
                    nearest.pop();
                    nearest.insert(at, (distance, b * LANES + l));
                }
            }
        }
        let n_classes = self.labels.iter().max().map_or(0, |&l| usize::from(l) + 1);
        let mut votes = vec![0u32; n_classes];
        nearest.iter().for_each(|&(_, i)| votes[usize::from(self.labels[i])] += 1);
        super::largest(&votes) as u16
    }

    /// Points and labels.
    pub fn state(&self) -> State {
        let mut state = State::new();
        let n_blocks = self.blocks.len() / (LANES * self.n_dimensions);
        state.put("points", &[n_blocks, self.n_dimensions, LANES], self.blocks.clone());
        let labels: Vec<u32> = self.labels.iter().map(|&l| u32::from(l)).collect();
        state.put("labels", &[labels.len()], labels);
        state
    }

    /// Puts back what [`NearestNeighbours::state`] gave.
    ///
    /// # Errors
    ///
    /// If an array is missing or does not fit.
    pub fn restored(state: &State, k: usize, n_dimensions: usize) -> Result<Self> {
        let n = state.array("labels")?.values.len();
        let labels = state.get::<u32>("labels", &[n])?.iter().map(|&l| l as u16).collect();
        let shape = [n.div_ceil(LANES), n_dimensions, LANES];
        let blocks = state.get("points", &shape)?.to_vec();
        Ok(Self { k: k.min(n), n_dimensions, blocks, labels })
    }
}
