//! Augmentation: random changes of training images, a pure function of image and stream.
//!
//! Images are `[channel, row, column]` with values 0 to 1. A recipe lists the changes in the order
//! in which they are made: `augment = [{ crop = { padding = 4 } }, "flip", "auto-augment"]`.

mod auto_augment;

use crate::check::Checks;
use crate::seed::Stream;
use crate::spikes::Shape;
use serde::{Deserialize, Serialize};

/// One random change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Augment {
    /// Padded with zeros on every side, then a window of the old size at a uniformly random place.
    Crop {
        /// Rows and columns on every side.
        padding: usize,
    },
    /// Mirrored from left to right with probability 1/2.
    Flip,
    /// A square of zeros around a uniformly random pixel, cut off at the border (T. DeVries, G. W.
    /// Taylor, arXiv 1708.04552).
    Cutout {
        /// Rows and columns of the square.
        size: usize,
    },
    /// One of 25 pairs of colour and geometry operations found for CIFAR-10 (E. D. Cubuk et al.,
    /// CVPR 2019, arXiv 1805.09501). For three channels.
    AutoAugment,
}

impl Augment {
    /// What is wrong with the values.
    pub fn check(&self) -> Checks {
        let mut c = Checks::default();
        match *self {
            Augment::Crop { padding } => c.count("crop.padding", padding, 1, 256),
            Augment::Cutout { size } => c.count("cutout.size", size, 1, 512),
            Augment::Flip | Augment::AutoAugment => {}
        }
        c
    }

    /// Changes `image`, `[channel, row, column]`.
    pub fn apply(&self, image: &mut [f32], shape: Shape, stream: &mut Stream) {
        let (height, width) = (shape.height, shape.width);
        let planes = image.chunks_exact_mut(height * width);
        match *self {
            Augment::Crop { padding } => {
                let mut offset =
                    || stream.below(2 * padding as u32 + 1) as isize - padding as isize;
                let (dy, dx) = (offset(), offset());
                planes.for_each(|plane| shift(plane, height, width, dy, dx));
            }
            Augment::Flip => {
                if stream.chance(0.5) {
                    planes.for_each(|p| p.chunks_exact_mut(width).for_each(<[f32]>::reverse));
                }
            }
            Augment::Cutout { size } => {
                let mut around = |n: usize| {
                    let centre = stream.below(n as u32) as usize;
                    let start = centre.saturating_sub(size / 2);
                    start..(centre + size - size / 2).min(n)
                };
                let (rows, columns) = (around(height), around(width));
                for plane in planes {
                    for row in rows.clone() {
                        plane[row * width..][columns.clone()].fill(0.0);
                    }
                }
            }
            Augment::AutoAugment => auto_augment::apply(image, height, width, stream),
        }
    }
}

/// `plane[y, x] ← plane[y + dy, x + dx]`, 0 outside.
fn shift(plane: &mut [f32], height: usize, width: usize, dy: isize, dx: isize) {
    let old = plane.to_vec();
    for y in 0..height {
        for x in 0..width {
            let (from_y, from_x) = (y as isize + dy, x as isize + dx);
            let is_inside =
                (0..height as isize).contains(&from_y) && (0..width as isize).contains(&from_x);
            plane[y * width + x] =
                if is_inside { old[from_y as usize * width + from_x as usize] } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn image() -> (Vec<f32>, Shape) {
        let shape = Shape::new(3, 6, 5);
        ((1..=shape.len()).map(|i| i as f32 / shape.len() as f32).collect(), shape)
    }

    fn every() -> [Augment; 4] {
        [
            Augment::Crop { padding: 2 },
            Augment::Flip,
            Augment::Cutout { size: 3 },
            Augment::AutoAugment,
        ]
    }

    #[test]
    fn the_same_stream_gives_the_same_image() {
        for augment in every() {
            let run = |index| {
                let (mut x, shape) = image();
                augment.apply(&mut x, shape, &mut Seed(1).stream("augment", index));
                x
            };
            assert_eq!(run(3), run(3));
            let n_different = (0..50).filter(|&i| run(i) != image().0).count();
            assert!(n_different > 15, "{augment:?} changed {n_different} of 50");
            assert!((0..50).all(|i| run(i).iter().all(|v| (0.0..=1.0).contains(v))));
        }
    }

    #[test]
    fn a_crop_moves_all_channels_alike_and_brings_in_zeros() {
        let (x, shape) = image();
        let mut moved = x.clone();
        for plane in moved.chunks_exact_mut(30) {
            shift(plane, 6, 5, 1, -2);
        }
        for c in 0..3 {
            assert_eq!(moved[c * 30 + 2], x[c * 30 + 5]);
            assert_eq!((moved[c * 30], moved[c * 30 + 29]), (0.0, 0.0));
        }
        assert_eq!(shape.len(), 90);
    }

    #[test]
    fn a_cutout_is_a_square_or_what_the_border_leaves_of_it() {
        for index in 0..30 {
            let (mut x, shape) = image();
            let mut stream = Seed(2).stream("augment", index);
            Augment::Cutout { size: 3 }.apply(&mut x, shape, &mut stream);
            let n = x.iter().filter(|&&v| v == 0.0).count();
            assert!([12, 18, 27].contains(&n), "{n} pixels of three channels");
        }
    }
}
