//! From pixel values to spike probabilities and back.

use super::params::Code;

impl Code {
    /// Channels of a patch for each channel of the image.
    pub(super) fn channels(self) -> usize {
        if self == Code::OnOff { 2 } else { 1 }
    }

    /// Whether values are signed.
    pub(super) fn is_signed(self) -> bool {
        self != Code::Intensity
    }

    /// Spike probabilities of `values[[channel, row, column]]`, `c` the value that saturates.
    /// The off channels follow all on channels.
    pub(super) fn probabilities(self, values: &[f32], c: f64, out: &mut Vec<f32>) {
        let c = c as f32;
        out.clear();
        let on = |z: f32| (z / c).clamp(0.0, 1.0);
        match self {
            Code::Intensity => out.extend(values.iter().map(|x| x.clamp(0.0, 1.0))),
            Code::Grey => out.extend(values.iter().map(|&z| level(z, c))),
            Code::OnOff => {
                out.extend(values.iter().map(|&z| on(z)));
                out.extend(values.iter().map(|&z| on(-z)));
            }
        }
    }

    /// What a reconstruction is compared with: the image on the scale of probabilities, where
    /// signed values have their zero at ½.
    pub(super) fn targets(self, values: &[f32], c: f64) -> Vec<f32> {
        let signed = self.is_signed();
        values
            .iter()
            .map(|&v| if signed { level(v, c as f32) } else { v.clamp(0.0, 1.0) })
            .collect()
    }

    /// A mean filter on the scale of [`Code::targets`].
    pub(super) fn decode(self, filter: &[f64]) -> Vec<f64> {
        match self {
            Code::Intensity | Code::Grey => filter.to_vec(),
            Code::OnOff => {
                let (on, off) = filter.split_at(filter.len() / 2);
                on.iter().zip(off).map(|(a, b)| 0.5 + 0.5 * (a - b)).collect()
            }
        }
    }

    /// Value of [`Code::targets`] that says nothing: a patch without an output spike.
    pub(super) fn neutral(self) -> f64 {
        if self.is_signed() { 0.5 } else { 0.0 }
    }
}

fn level(z: f32, c: f32) -> f32 {
    (0.5 + z / (2.0 * c)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_their_inverse() {
        let values = [-6.0, -1.5, 0.0, 3.0];
        let mut p = Vec::new();
        Code::Grey.probabilities(&values, 3.0, &mut p);
        assert_eq!(p, [0.0, 0.25, 0.5, 1.0]);
        Code::OnOff.probabilities(&values, 3.0, &mut p);
        assert_eq!(p, [0.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.0, 0.0]);
        let filter: Vec<f64> = p.iter().map(|&x| f64::from(x)).collect();
        let targets = Code::OnOff.targets(&values, 3.0);
        assert_eq!(targets, [0.0, 0.25, 0.5, 1.0]);
        assert_eq!(Code::OnOff.decode(&filter), [0.0, 0.25, 0.5, 1.0]);
        Code::Intensity.probabilities(&values, 3.0, &mut p);
        assert_eq!(p, [0.0, 0.0, 0.0, 1.0]);
    }
}
