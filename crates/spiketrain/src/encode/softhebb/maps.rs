//! Feature maps of a group of images, and the geometry of convolution and pooling.

use super::Pool;
use crate::spikes::Shape;
use rayon::prelude::*;

/// Feature maps of several images, channels innermost: `[image, height, width, channel]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Maps {
    /// Number of images.
    pub n_images: usize,
    /// Shape of one image's maps.
    pub shape: Shape,
    /// The values.
    pub values: Vec<f32>,
}

impl Default for Maps {
    fn default() -> Self {
        Self { n_images: 0, shape: Shape::flat(0), values: Vec::new() }
    }
}

impl Maps {
    /// Maps from values in the order `[image, channel, height, width]`.
    ///
    /// # Panics
    ///
    /// If `values` is not a whole number of images.
    pub fn from_channels_first(shape: Shape, values: &[f32]) -> Self {
        let mut maps = Self::default();
        maps.resize(values.len() / shape.len(), shape);
        assert_eq!(maps.values.len(), values.len(), "values are whole images");
        let images =
            maps.values.chunks_exact_mut(shape.len()).zip(values.chunks_exact(shape.len()));
        images.for_each(|(out, image)| transpose(image, shape.height * shape.width, out));
        maps
    }

    /// The values in the order `[image, channel, height, width]`.
    pub fn to_channels_first(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.values.len()];
        let images = out.chunks_exact_mut(self.shape.len()).zip(self.images());
        images.for_each(|(out, image)| transpose(image, self.shape.channels, out));
        out
    }

    /// The maps of each image, `[height, width, channel]`.
    pub(super) fn images(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.shape.len())
    }

    /// Number of values of each channel.
    pub(super) fn n_positions(&self) -> usize {
        self.n_images * self.shape.height * self.shape.width
    }

    /// Makes room for other maps; the values are then anything.
    pub(super) fn resize(&mut self, n_images: usize, shape: Shape) {
        self.n_images = n_images;
        self.shape = shape;
        self.values.resize(n_images * shape.len(), 0.0);
    }
}

/// Transposes a matrix that has `columns` columns.
pub(super) fn transpose(matrix: &[f32], columns: usize, out: &mut [f32]) {
    let rows = matrix.len() / columns;
    for (r, row) in matrix.chunks_exact(columns).enumerate() {
        out[r..].iter_mut().step_by(rows).zip(row).for_each(|(o, &x)| *o = x);
    }
}

/// The input of every output position as one row, `[image, row, column][a, b, channel]`, for a
/// square `kernel` of odd size, stride 1 and borders that are mirrored without repeating the edge.
pub(super) fn unfold(maps: &Maps, kernel: usize, out: &mut Vec<f32>) {
    let Shape { channels, height, width } = maps.shape;
    let patch = kernel * kernel * channels;
    let pad = kernel / 2;
    out.resize(maps.n_positions() * patch, 0.0);
    let rows = out.par_chunks_exact_mut(width * patch).enumerate();
    rows.for_each(|(row, out)| {
        let (image, y) = (row / height, row % height);
        let image = &maps.values[image * maps.shape.len()..][..maps.shape.len()];
        for (x, out) in out.chunks_exact_mut(patch).enumerate() {
            for (a, out) in out.chunks_exact_mut(kernel * channels).enumerate() {
                let line = &image[mirror(y + a, pad, height) * width * channels..];
                if x >= pad && x + pad < width {
                    out.copy_from_slice(&line[(x - pad) * channels..][..kernel * channels]);
                    continue;
                }
                for (b, out) in out.chunks_exact_mut(channels).enumerate() {
                    let from = mirror(x + b, pad, width) * channels;
                    out.copy_from_slice(&line[from..from + channels]);
                }
            }
        }
    });
}

/// Position inside `0..n` of position `i - pad`, mirrored at the first and the last; `pad < n`.
fn mirror(i: usize, pad: usize, n: usize) -> usize {
    let inside = i.abs_diff(pad);
    if inside < n { inside } else { 2 * (n - 1) - inside }
}

/// Where a block pools.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) kind: Pool,
    pub(super) size: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Window {
    /// Extent after pooling, 0 if the window does not fit.
    pub(super) fn extent(self, n: usize) -> usize {
        (n + 2 * self.padding).checked_sub(self.size).map_or(0, |rest| rest / self.stride + 1)
    }

    /// Pools every map.
    pub(super) fn pool(self, maps: &Maps, out: &mut Maps) {
        let Shape { channels, height, width } = maps.shape;
        let shape = Shape::new(channels, self.extent(height), self.extent(width));
        out.resize(maps.n_images, shape);
        let images = out.values.par_chunks_exact_mut(shape.len());
        images.zip(maps.values.par_chunks_exact(maps.shape.len())).for_each(|(out, image)| {
            for (i, out) in out.chunks_exact_mut(channels).enumerate() {
                let rows = self.range(i / shape.width, height);
                let columns = self.range(i % shape.width, width);
                let inputs = rows.flat_map(|y| columns.clone().map(move |x| y * width + x));
                self.reduce(inputs.map(|p| &image[p * channels..][..channels]), out);
            }
        });
    }

    /// Input positions under output position `i`.
    fn range(self, i: usize, n: usize) -> std::ops::Range<usize> {
        let start = i * self.stride;
        start.saturating_sub(self.padding)..n.min((start + self.size).saturating_sub(self.padding))
    }

    fn reduce<'a>(self, inputs: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) {
        match self.kind {
            Pool::Max => {
                out.fill(f32::NEG_INFINITY);
                for input in inputs {
                    out.iter_mut().zip(input).for_each(|(o, &x)| *o = o.max(x));
                }
            }
            Pool::Average => {
                out.fill(0.0);
                for input in inputs {
                    out.iter_mut().zip(input).for_each(|(o, &x)| *o += x);
                }
                let area = (self.size * self.size) as f32;
                out.iter_mut().for_each(|o| *o /= area);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_axes_are_inverse() {
        let shape = Shape::new(2, 2, 3);
        let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let maps = Maps::from_channels_first(shape, &values);
        assert_eq!(maps.values[..4], [0.0, 6.0, 1.0, 7.0]);
        assert_eq!(maps.to_channels_first(), values);
    }

    #[test]
    fn borders_are_mirrored_without_the_edge() {
        let mirrored: Vec<usize> = (0..8).map(|i| mirror(i, 2, 4)).collect();
        assert_eq!(mirrored, [2, 1, 0, 1, 2, 3, 2, 1]);
        let shape = Shape::new(1, 3, 3);
        let maps = Maps::from_channels_first(shape, &(0..9).map(|i| i as f32).collect::<Vec<_>>());
        let mut out = Vec::new();
        unfold(&maps, 3, &mut out);
        assert_eq!(out[..9], [4.0, 3.0, 4.0, 1.0, 0.0, 1.0, 4.0, 3.0, 4.0]);
        assert_eq!(out[36..45], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(out[45..54], [1.0, 2.0, 1.0, 4.0, 5.0, 4.0, 7.0, 8.0, 7.0]);
    }

    #[test]
    fn pools_of_a_ramp() {
        let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let maps = Maps::from_channels_first(Shape::new(1, 4, 4), &values);
        let mut out = Maps::default();
        Window { kind: Pool::Max, size: 4, stride: 2, padding: 1 }.pool(&maps, &mut out);
        assert_eq!(out.values, [10.0, 11.0, 14.0, 15.0]);
        Window { kind: Pool::Average, size: 2, stride: 2, padding: 0 }.pool(&maps, &mut out);
        assert_eq!(out.values, [2.5, 4.5, 10.5, 12.5]);
        assert_eq!(Window { kind: Pool::Max, size: 2, stride: 2, padding: 0 }.extent(1), 0);
    }
}
