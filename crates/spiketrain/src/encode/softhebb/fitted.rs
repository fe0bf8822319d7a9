//! The blocks in a row: training, encoding, storing.

use super::{Block, Maps, Params, Workspace, spike_times};
use crate::encode::{FittedEncoder, Tick};
use crate::error::{Error, Result};
use crate::event::Figure;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs, Shape, Times};
use crate::state::State;
use rayon::prelude::*;

/// Images that are encoded together, so that weights are read once for all of them.
const GROUP: usize = 20;

/// Filters shown in the report, at most.
const N_SHOWN: usize = 100;

/// A SoftHebb network for images of one shape.
pub(super) struct Network {
    params: Params,
    /// Shape of an image.
    images: Shape,
    /// Input shape of each block and, last, the shape of the features.
    shapes: Vec<Shape>,
    blocks: Vec<Block>,
}

impl Network {
    /// An untrained network.
    pub(super) fn draw(params: &Params, images: Shape, seed: Seed) -> Result<Self> {
        let shapes = params.plan(images)?;
        let blocks = params.blocks.iter().zip(&shapes).enumerate();
        let blocks = blocks
            .map(|(i, (p, s))| Block::draw(p, s.channels, params.weight_norm, seed, i as u64))
            .collect();
        Ok(Self { params: params.clone(), images, shapes, blocks })
    }

    /// The network that `state` was taken from.
    pub(super) fn restore(params: &Params, images: Shape, state: &State) -> Result<Self> {
        let shapes = params.plan(images)?;
        let mut blocks = Vec::new();
        for (i, (params, shape)) in params.blocks.iter().zip(&shapes).enumerate() {
            let state = state.sub(&format!("block{i}"));
            let read = |name: &str, shape: &[usize]| {
                state.get::<f32>(name, shape).map_err(|e| e.context(format!("block{i}")))
            };
            let channels = [shape.channels];
            let filters = [params.channels, shape.channels, params.kernel, params.kernel];
            let block = Block::with_filters(params, shape.channels, read("weight", &filters)?);
            let mean = read("running_mean", &channels)?;
            blocks.push(block.with_statistics(mean, read("running_var", &channels)?));
        }
        Ok(Self { params: params.clone(), images, shapes, blocks })
    }

    /// Learns from all images, all blocks in the same pass.
    pub(super) fn train(&mut self, images: &Images, seed: Seed, tick: Tick<'_>) -> Result<()> {
        if images.is_empty() {
            return Err(Error::data("softhebb learns from images, found none"));
        }
        let mut workspaces: Vec<Workspace> = self.workspaces();
        let mut input = Maps::default();
        let total = (images.len() * self.params.epochs) as u64;
        let mut done = 0;
        for epoch in 0..self.params.epochs {
            let mut order: Vec<usize> = (0..images.len()).collect();
            seed.stream("softhebb.shuffle", epoch as u64).shuffle(&mut order);
            for rows in order.chunks(self.params.batch_size) {
                self.read(images, rows, &mut input)?;
                let (momentum, power) = (self.params.momentum, self.params.rate_power);
                let mut before = &input;
                for (i, (block, ws)) in self.blocks.iter_mut().zip(&mut workspaces).enumerate() {
                    block
                        .train(before, momentum, power, ws)
                        .map_err(|e| e.context(format!("softhebb block {i}, image {done}")))?;
                    before = &ws.pooled;
                }
                done += rows.len() as u64;
                tick(done, total)?;
            }
        }
        Ok(())
    }

    fn workspaces(&self) -> Vec<Workspace> {
        self.blocks.iter().map(|_| Workspace::default()).collect()
    }

    /// Puts the images `rows` into `out`, rows and columns swapped if the parameters say so.
    fn read(&self, images: &Images, rows: &[usize], out: &mut Maps) -> Result<()> {
        let Shape { channels, height, width } = self.images;
        out.resize(rows.len(), self.shapes[0]);
        let mut pixels = vec![0.0; self.images.len()];
        for (&row, out) in rows.iter().zip(out.values.chunks_exact_mut(self.images.len())) {
            images.read(row, &mut pixels);
            if let Some(x) = pixels.iter().find(|x| !x.is_finite()) {
                return Err(Error::data(format!("image {row} holds {x}, expected finite numbers")));
            }
            for (i, position) in out.chunks_exact_mut(channels).enumerate() {
                let at =
                    if self.params.transpose_input { i % height * width + i / height } else { i };
                for (c, x) in position.iter_mut().enumerate() {
                    *x = pixels[c * height * width + at];
                }
            }
        }
        Ok(())
    }
}

impl FittedEncoder for Network {
    fn shape(&self) -> Shape {
        self.shapes[self.blocks.len()]
    }

    fn encode(&self, images: &Images, tick: Tick<'_>) -> Result<Inputs> {
        if images.shape != self.images {
            return Err(Error::data(format!(
                "softhebb was fitted to images of {}, found {}",
                self.images, images.shape
            )));
        }
        let mut workspaces = self.workspaces();
        self.blocks.iter().zip(&mut workspaces).for_each(|(block, ws)| block.prepare(ws));
        let mut times = Times::new(self.shape())?;
        let mut input = Maps::default();
        let order: Vec<usize> = (0..images.len()).collect();
        for rows in order.chunks(GROUP) {
            self.read(images, rows, &mut input)?;
            let mut before = &input;
            for (block, ws) in self.blocks.iter().zip(&mut workspaces) {
                block.forward(before, ws);
                before = &ws.pooled;
            }
            let features = before.to_channels_first();
            let events: Vec<_> =
                features.par_chunks_exact(self.shape().len()).map(events).collect();
            events.iter().for_each(|(neurons, t)| times.push_events(neurons, t));
            tick(rows[rows.len() - 1] as u64 + 1, images.len() as u64)?;
        }
        Ok(Inputs::Times(times))
    }

    fn state(&self) -> State {
        let mut state = State::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let mut inner = State::new();
            let n = block.running_mean().len();
            inner.put("weight", &block.filter_shape(), block.filters());
            inner.put("running_mean", &[n], block.running_mean().to_vec());
            inner.put("running_var", &[n], block.running_var().to_vec());
            state.nest(&format!("block{i}"), inner);
        }
        state
    }

    fn figures(&self) -> Vec<Figure> {
        let [n_filters, channels, kernel, _] = self.blocks[0].filter_shape();
        if channels != 1 && channels != 3 {
            return Vec::new();
        }
        let filters = self.blocks[0].filters();
        let area = kernel * kernel;
        let pictures = filters.chunks_exact(channels * area).take(N_SHOWN).map(|filter| {
            let largest = filter.iter().fold(f32::MIN_POSITIVE, |m, w| m.max(w.abs()));
            let byte = |w: f32| (127.5 + 127.5 * w / largest).round() as u8;
            let pixels = (0..area * channels).map(|i| {
                let (position, c) = (i / channels, i % channels);
                let (row, column) = (position / kernel, position % kernel);
                let at = if self.params.transpose_input { column * kernel + row } else { position };
                byte(filter[c * area + at])
            });
            pixels.collect()
        });
        vec![Figure::Images {
            title: "First-layer filters".into(),
            caption: format!(
                "Weights of {} of {n_filters} output channels. Each picture has its own scale; \
                 mid-grey is 0.",
                n_filters.min(N_SHOWN)
            ),
            height: kernel,
            width: kernel,
            channels,
            images: pictures.collect(),
            labels: Vec::new(),
        }]
    }
}

/// Events of one image's features in ascending order of (time, neuron).
fn events(features: &[f32]) -> (Vec<u16>, Vec<f32>) {
    // Times are not negative, so their bits ascend with them; the neuron breaks ties.
    let times = spike_times(features).into_iter().enumerate();
    let mut keys: Vec<u64> = times
        .filter(|&(_, t)| t < 1.0)
        .map(|(neuron, t)| u64::from(t.to_bits()) << 16 | neuron as u64)
        .collect();
    keys.sort_unstable();
    keys.iter().map(|&k| (k as u16, f32::from_bits((k >> 16) as u32))).unzip()
}
