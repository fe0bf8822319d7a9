//! The network's layers: from `40C5-P2-1000` and the shape of a sample to sizes.

use crate::error::{Error, Result};
use crate::spikes::Shape;

/// Maps, row by row: rows, columns, channels; channels are innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Map {
    /// Number of neurons.
    pub(super) fn len(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Place of neuron `i`, counted channels, rows, columns, in the order of the map.
    pub(super) fn place(self, i: usize) -> usize {
        let (position, channel) = (i % (self.height * self.width), i / (self.height * self.width));
        position * self.channels + channel
    }
}

/// One layer with weights and the pooling that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Convolution without padding, stride 1, then `pool` × `pool` pooling.
    Conv { kernel: usize, pool: usize },
    /// Fully connected.
    Dense,
}

/// Sizes of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) kind: Kind,
    /// What it reads.
    pub(super) input: Map,
    /// Its neurons before pooling.
    pub(super) neurons: Map,
    /// What the next layer reads.
    pub(super) output: Map,
}

impl Size {
    /// Inputs of one neuron.
    pub(super) fn fan_in(&self) -> usize {
        match self.kind {
            Kind::Conv { kernel, .. } => kernel * kernel * self.input.channels,
            Kind::Dense => self.input.len(),
        }
    }

    /// Place among a neuron's inputs of its input number `i`, counted channels, rows, columns.
    pub(super) fn row(&self, i: usize) -> usize {
        let window = match self.kind {
            Kind::Conv { kernel, .. } => Map { height: kernel, width: kernel, ..self.input },
            Kind::Dense => self.input,
        };
        window.place(i)
    }
}

/// The hidden layers as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan(Vec<(usize, Kind)>);

impl Plan {
    /// Reads `40C5-P2-1000`; the error says what is allowed.
    pub(super) fn parse(text: &str) -> std::result::Result<Plan, String> {
        let allowed = || {
            "parts joined by \"-\": nCk, then Pp to pool it, then n for fully connected \
             (like 40C5-P2-1000), sizes from 1 to 65536"
                .to_owned()
        };
        let number = |text: &str| match text.parse::<usize>() {
            Ok(n) if (1..=1 << 16).contains(&n) => Ok(n),
            _ => Err(allowed()),
        };
        let mut layers: Vec<(usize, Kind)> = Vec::new();
        for part in text.split('-').filter(|_| !text.is_empty()) {
            if let Some(size) = part.strip_prefix('P') {
                match layers.last_mut() {
                    Some((_, Kind::Conv { pool, .. })) if *pool == 1 => *pool = number(size)?,
                    _ => return Err(allowed()),
                }
            } else if let Some((maps, kernel)) = part.split_once('C') {
                if layers.iter().any(|l| l.1 == Kind::Dense) {
                    return Err(allowed());
                }
                layers.push((number(maps)?, Kind::Conv { kernel: number(kernel)?, pool: 1 }));
            } else {
                layers.push((number(part)?, Kind::Dense));
            }
        }
        Ok(Plan(layers))
    }

    /// Hidden layers with weights.
    pub(super) fn n_weight_layers(&self) -> usize {
        self.0.len()
    }

    /// The sizes of all layers for samples of `shape`, the output layer last.
    pub(super) fn sizes(&self, shape: Shape, n_classes: usize) -> Result<Vec<Size>> {
        let Shape { channels, height, width } = shape;
        let mut input = Map { height, width, channels };
        let mut sizes = Vec::new();
        for &(n, kind) in self.0.iter().chain(&[(n_classes, Kind::Dense)]) {
            let (neurons, output) = match kind {
                Kind::Dense => {
                    let map = Map { height: 1, width: 1, channels: n };
                    (map, map)
                }
                Kind::Conv { kernel, pool } => {
                    let (Map { height, width, .. }, k) = (input, kernel);
                    if k > height || k > width {
                        return Err(Error::recipe(format!(
                            "stidi-bp: kernels of {k}×{k} do not fit into maps of {height}×{width}"
                        )));
                    }
                    let (height, width) = (height - k + 1, width - k + 1);
                    if height % pool != 0 || width % pool != 0 {
                        return Err(Error::recipe(format!(
                            "stidi-bp: maps of {height}×{width} cannot be cut into windows of \
                             {pool}×{pool}"
                        )));
                    }
                    let map = Map { height, width, channels: n };
                    (map, Map { height: height / pool, width: width / pool, channels: n })
                }
            };
            let size = Size { kind, input, neurons, output };
            if size.fan_in() > 1 << 16 || output.len() > 1 << 16 {
                return Err(Error::recipe(
                    "stidi-bp: a layer has more than 65,536 neurons or inputs of a neuron",
                ));
            }
            sizes.push(size);
            input = output;
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn papers_notation_is_read() {
        let sizes =
            Plan::parse("20C5-P2-40C5-P2-1000").unwrap().sizes(Shape::new(1, 28, 28), 10).unwrap();
        let maps: Vec<_> = sizes.iter().map(|s| (s.output.height, s.output.channels)).collect();
        assert_eq!(maps, [(12, 20), (4, 40), (1, 1000), (1, 10)]);
        assert_eq!(sizes.iter().map(Size::fan_in).collect::<Vec<_>>(), [25, 500, 640, 1000]);
        assert_eq!(Plan::parse("").unwrap().sizes(Shape::flat(3), 2).unwrap().len(), 1);
        for wrong in ["P2", "10-P2", "10-4C3", "4C3-P2-P2", "x", "4C0", "5-", "70000"] {
            assert!(Plan::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let sizes = |text: &str| Plan::parse(text).unwrap().sizes(Shape::new(1, 8, 8), 2);
        assert!(sizes("4C9").unwrap_err().to_string().contains("9×9"));
        assert!(sizes("4C4-P2").unwrap_err().to_string().contains("windows of 2×2"));
    }
}
