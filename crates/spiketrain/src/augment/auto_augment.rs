//! The CIFAR policy of AutoAugment: E. D. Cubuk, B. Zoph, D. Mané, V. Vasudevan, Q. V. Le,
//! "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019, arXiv 1805.09501.
//!
//! One of 25 pairs is drawn; each operation of the pair happens with its probability, at one of ten
//! magnitudes. Operations work on bytes. Where geometry brings in new pixels they are grey (128);
//! pixels are taken from the nearest place.

use crate::seed::Stream;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Color,
    Contrast,
    Sharpness,
    Brightness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

use Op::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Invert, Posterize, Rotate, Sharpness,
    ShearY, Solarize, TranslateX, TranslateY,
};

/// Operation, probability, magnitude 0 to 9.
type Step = (Op, f32, u8);

#[rustfmt::skip]
const POLICY: [[Step; 2]; 25] = [
    [(Invert, 0.1, 7), (Contrast, 0.2, 6)],
    [(Rotate, 0.7, 2), (TranslateX, 0.3, 9)],
    [(Sharpness, 0.8, 1), (Sharpness, 0.9, 3)],
    [(ShearY, 0.5, 8), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.5, 8), (Equalize, 0.9, 2)],
    [(ShearY, 0.2, 7), (Posterize, 0.3, 7)],
    [(Color, 0.4, 3), (Brightness, 0.6, 7)],
    [(Sharpness, 0.3, 9), (Brightness, 0.7, 9)],
    [(Equalize, 0.6, 5), (Equalize, 0.5, 1)],
    [(Contrast, 0.6, 7), (Sharpness, 0.6, 5)],
    [(Color, 0.7, 7), (TranslateX, 0.5, 8)],
    [(Equalize, 0.3, 7), (AutoContrast, 0.4, 8)],
    [(TranslateY, 0.4, 3), (Sharpness, 0.2, 6)],
    [(Brightness, 0.9, 6), (Color, 0.2, 8)],
    [(Solarize, 0.5, 2), (Invert, 0.0, 3)],
    [(Equalize, 0.2, 0), (AutoContrast, 0.6, 0)],
    [(Equalize, 0.2, 8), (Equalize, 0.8, 4)],
    [(Color, 0.9, 9), (Equalize, 0.6, 6)],
    [(AutoContrast, 0.8, 4), (Solarize, 0.2, 8)],
    [(Brightness, 0.1, 3), (Color, 0.7, 0)],
    [(Solarize, 0.4, 5), (AutoContrast, 0.9, 3)],
    [(TranslateY, 0.9, 9), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.9, 2), (Solarize, 0.8, 3)],
    [(Equalize, 0.8, 8), (Invert, 0.1, 3)],
    [(TranslateY, 0.7, 9), (AutoContrast, 0.9, 1)],
];

/// What new pixels are.
const FILL: u8 = 128;

/// Three planes of bytes.
struct Picture {
    height: usize,
    width: usize,
    planes: [Vec<u8>; 3],
}

/// Applies one random pair to three planes of values 0 to 1; does nothing to other images.
pub(super) fn apply(image: &mut [f32], height: usize, width: usize, stream: &mut Stream) {
    let n = height * width;
    if image.len() != 3 * n {
        return;
    }
    let byte = |v: &f32| (v * 255.0).round().clamp(0.0, 255.0) as u8;
    let plane = |c: usize| image[c * n..(c + 1) * n].iter().map(byte).collect();
    let mut picture = Picture { height, width, planes: [plane(0), plane(1), plane(2)] };
    let pair = &POLICY[stream.below(POLICY.len() as u32) as usize];
    let mut is_changed = false;
    for &(op, probability, magnitude) in pair {
        // Both draws are made whatever comes of them, so that a sample's stream stays in step.
        let (happens, is_negative) = (stream.chance(probability), stream.chance(0.5));
        if happens {
            picture.apply(op, f32::from(magnitude) / 9.0, if is_negative { -1.0 } else { 1.0 });
            is_changed = true;
        }
    }
    if is_changed {
        for (value, &byte) in image.iter_mut().zip(picture.planes.iter().flatten()) {
            *value = f32::from(byte) / 255.0;
        }
    }
}

impl Picture {
    /// `magnitude` runs from 0 to 1, `sign` is 1 or −1.
    fn apply(&mut self, op: Op, magnitude: f32, sign: f32) {
        let enhance = 1.0 + sign * 0.9 * magnitude;
        let far = sign * magnitude * 150.0 / 331.0;
        match op {
            ShearY => self.warp([1.0, 0.0, 0.0, sign * 0.3 * magnitude, 1.0, 0.0]),
            TranslateX => self.warp([1.0, 0.0, far * self.width as f32, 0.0, 1.0, 0.0]),
            TranslateY => self.warp([1.0, 0.0, 0.0, 0.0, 1.0, far * self.height as f32]),
            Rotate => self.rotate(30.0 * magnitude),
            Color => {
                let grey = self.grey();
                self.blend(enhance, |_, at| f32::from(grey[at]));
            }
            Contrast => {
                let grey = self.grey();
                let sum: u32 = grey.iter().map(|&g| u32::from(g)).sum();
                let mean = (sum as f32 / grey.len() as f32).round();
                self.blend(enhance, |_, _| mean);
            }
            Brightness => self.blend(enhance, |_, _| 0.0),
            Sharpness => {
                let smooth = self.smooth();
                self.blend(enhance, |c, at| f32::from(smooth[c][at]));
            }
            Posterize => {
                let bits = (8.0 - 4.0 * magnitude).round() as u32;
                let mask = (0xff00u32 >> bits) as u8;
                self.each(|v| v & mask);
            }
            Solarize => {
                let from = 256.0 * (1.0 - magnitude);
                self.each(|v| if f32::from(v) < from { v } else { 255 - v });
            }
            Invert => self.each(|v| 255 - v),
            AutoContrast => self.planes.iter_mut().for_each(|p| stretch(p)),
            Equalize => self.planes.iter_mut().for_each(|p| equalize(p)),
        }
    }

    fn each(&mut self, f: impl Fn(u8) -> u8) {
        self.planes.iter_mut().flatten().for_each(|v| *v = f(*v));
    }

    /// Brightness of each pixel (ITU-R 601).
    fn grey(&self) -> Vec<u8> {
        let [r, g, b] = &self.planes;
        let weigh = |at: usize| {
            let sum =
                19_595 * u32::from(r[at]) + 38_470 * u32::from(g[at]) + 7_471 * u32::from(b[at]);
            ((sum + 0x8000) >> 16) as u8
        };
        (0..r.len()).map(weigh).collect()
    }

    /// Weighted mean with the eight neighbours, 5 in the middle of ones; borders as they are.
    fn smooth(&self) -> [Vec<u8>; 3] {
        let (height, width) = (self.height, self.width);
        self.planes.clone().map(|plane| {
            let mut out = plane.clone();
            for y in 1..height.saturating_sub(1) {
                for x in 1..width.saturating_sub(1) {
                    let near = (y - 1..y + 2).flat_map(|y| plane[y * width + x - 1..][..3].iter());
                    let sum: u32 = near.map(|&v| u32::from(v)).sum();
                    let sum = sum + 4 * u32::from(plane[y * width + x]);
                    out[y * width + x] = ((sum as f32 / 13.0).round()) as u8;
                }
            }
            out
        })
    }

    /// `(1 − factor)·other + factor·image`.
    fn blend(&mut self, factor: f32, other: impl Fn(usize, usize) -> f32) {
        for (c, plane) in self.planes.iter_mut().enumerate() {
            for (at, v) in plane.iter_mut().enumerate() {
                let other = other(c, at);
                *v = (other + factor * (f32::from(*v) - other)).round().clamp(0.0, 255.0) as u8;
            }
        }
    }

    /// Every pixel (x, y) comes from (a x + b y + c, d x + e y + f), measured from pixel centres.
    fn warp(&mut self, [a, b, c, d, e, f]: [f32; 6]) {
        let (height, width) = (self.height, self.width);
        for plane in &mut self.planes {
            let old = plane.clone();
            for y in 0..height {
                for x in 0..width {
                    let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                    let from = (a * px + b * py + c, d * px + e * py + f);
                    let (fx, fy) = (from.0.floor(), from.1.floor());
                    let is_inside =
                        fx >= 0.0 && fy >= 0.0 && fx < width as f32 && fy < height as f32;
                    plane[y * width + x] =
                        if is_inside { old[fy as usize * width + fx as usize] } else { FILL };
                }
            }
        }
    }

    /// Turns by `degrees` against the clock around the middle.
    fn rotate(&mut self, degrees: f32) {
        let angle = degrees.to_radians();
        let (sin, cos) = (libm::sinf(angle), libm::cosf(angle));
        let (x, y) = (self.width as f32 / 2.0, self.height as f32 / 2.0);
        self.warp([cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]);
    }
}

/// Darkest becomes 0, brightest 255.
fn stretch(plane: &mut [u8]) {
    let low = plane.iter().copied().min().unwrap_or(0);
    let high = plane.iter().copied().max().unwrap_or(0);
    if high > low {
        let scale = 255.0 / f32::from(high - low);
        plane.iter_mut().for_each(|v| *v = (f32::from(*v - low) * scale) as u8);
    }
}

/// Makes the histogram as even as whole steps allow.
fn equalize(plane: &mut [u8]) {
    let mut counts = [0usize; 256];
    plane.iter().for_each(|&v| counts[usize::from(v)] += 1);
    let last = counts.iter().copied().rfind(|&n| n > 0).unwrap_or(0);
    let step = (plane.len() - last) / 255;
    if step == 0 {
        return;
    }
    let mut map = [0u8; 256];
    let mut n = step / 2;
    for (to, count) in map.iter_mut().zip(counts) {
        *to = (n / step).min(255) as u8;
        n += count;
    }
    plane.iter_mut().for_each(|v| *v = map[usize::from(*v)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn picture() -> Picture {
        let mut stream = Seed(1).stream("picture", 0);
        let mut plane = || (0..32 * 32).map(|_| stream.below(200) as u8 + 20).collect();
        Picture { height: 32, width: 32, planes: [plane(), plane(), plane()] }
    }

    fn after(op: Op, magnitude: f32, sign: f32) -> Picture {
        let mut picture = picture();
        picture.apply(op, magnitude, sign);
        picture
    }

    #[test]
    fn magnitude_zero_changes_nothing() {
        for op in [
            ShearY, TranslateX, TranslateY, Rotate, Color, Contrast, Sharpness, Brightness,
            Posterize, Solarize,
        ] {
            assert!(after(op, 0.0, 1.0).planes == picture().planes);
        }
    }

    #[test]
    fn inverting_twice_is_nothing_and_solarising_fully_is_inverting() {
        let mut twice = after(Invert, 1.0, 1.0);
        assert!(after(Solarize, 1.0, 1.0).planes == twice.planes);
        twice.apply(Invert, 1.0, 1.0);
        assert!(twice.planes == picture().planes);
    }

    #[test]
    fn geometry_brings_in_grey() {
        let moved = after(TranslateX, 1.0, 1.0);
        // The centre of the first pixel moves by 14.5 pixels.
        let n = (0.5 + 32.0f32 * 150.0 / 331.0) as usize;
        assert_eq!(moved.planes[0][0], picture().planes[0][n]);
        assert_eq!(moved.planes[0][31], FILL);
        let turned = after(Rotate, 1.0, 1.0);
        assert_eq!((turned.planes[1][0], turned.planes[1][32 * 31]), (FILL, FILL));
    }

    #[test]
    fn contrast_operations_use_the_whole_range() {
        let stretched = after(AutoContrast, 0.0, 1.0);
        for plane in &stretched.planes {
            assert_eq!((plane.iter().min(), plane.iter().max()), (Some(&0), Some(&255)));
        }
        let even = after(Equalize, 0.0, 1.0);
        let dark = even.planes[0].iter().filter(|&&v| v < 128).count();
        assert!((450..575).contains(&dark), "{dark} of 1024 in the darker half");
        assert!(after(Posterize, 1.0, 1.0).planes.iter().flatten().all(|v| v % 16 == 0));
        assert!(after(Brightness, 1.0, -1.0).planes.iter().flatten().all(|&v| v < 25));
    }
}
