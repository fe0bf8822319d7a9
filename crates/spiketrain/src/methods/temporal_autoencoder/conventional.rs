//! A conventional autoencoder of the same sizes, as the yardstick: rectified hidden units,
//! sigmoid outputs, the mean squared error on intensities `1 − t`, Adam.

use super::embedding::Readouts;
use super::figures::{Picture, intensities};
use super::{Params, check_task, labels_of};
use crate::error::Result;
use crate::event::Figure;
use crate::learner::{Batch, Ctx, Learner, Prediction, StepReport, Task};
use crate::readout::{Mlp, Output};
use crate::spikes::Times;
use crate::state::State;
use rayon::prelude::*;

/// The learner.
#[derive(Clone, Debug)]
pub struct Conventional {
    learning_rate: f64,
    n_classes: usize,
    mlp: Mlp,
    readouts: Readouts,
}

/// Intensities of a sample and of its target.
fn read(times: &Times, row: usize) -> (Vec<f32>, Vec<f32>) {
    let dense = |times: &Times| {
        let mut out = vec![0.0; times.shape.len()];
        times.read_dense(row, 1.0, &mut out);
        out.iter_mut().for_each(|t| *t = 1.0 - *t);
        out
    };
    (dense(times), dense(times.targets()))
}

impl Conventional {
    /// A network with weights drawn from the task's seed.
    ///
    /// # Errors
    ///
    /// If the task has no spike times, or no classes where they are needed.
    pub fn new(params: &Params, task: &Task) -> Result<Self> {
        check_task(params, task)?;
        let n = task.shape.len();
        let mut stream = task.seed.stream("temporal-autoencoder.conventional", 0);
        Ok(Self {
            learning_rate: params.learning_rate,
            n_classes: task.n_classes,
            mlp: Mlp::new(Output::Sigmoid, [n, params.hidden, n], &mut stream),
            readouts: Readouts::new(&params.readouts, params.hidden, task.n_classes),
        })
    }

    /// Hidden activities and reconstruction.
    fn forward(&self, x: &[f32]) -> (Vec<f64>, Vec<f32>) {
        let (mut hidden, mut out) = (Vec::new(), Vec::new());
        self.mlp.forward(x, &mut hidden, &mut out);
        (hidden.into_iter().map(f64::from).collect(), out)
    }
}

impl Learner for Conventional {
    fn step(&mut self, batch: &Batch<'_>, ctx: &Ctx) -> Result<StepReport> {
        let times = batch.inputs.as_times();
        let mut loss = 0.0;
        for &row in batch.rows {
            let (x, y) = read(times, row);
            loss += self.mlp.accumulate(&x, &y);
        }
        self.mlp.update((self.learning_rate * ctx.rate) as f32, batch.len());
        Ok(StepReport { n_samples: batch.len() as u64, loss, n_correct: None })
    }

    fn predict(&self, batch: &Batch<'_>) -> Result<Vec<Prediction>> {
        let times = batch.inputs.as_times();
        let predict = |&row: &usize| {
            let (x, y) = read(times, row);
            let (hidden, out) = self.forward(&x);
            Prediction {
                reconstruction: Some(out),
                target: Some(y),
                measures: self.readouts.judge(&hidden, batch.labels.get(row).copied()),
                ..Prediction::default()
            }
        };
        Ok(batch.rows.par_iter().map(predict).collect())
    }

    fn state(&self) -> State {
        let mut state = State::new();
        state.nest("network", self.mlp.state());
        state.nest("readout", self.readouts.state());
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.mlp.restore(&state.sub("network"))?;
        self.readouts.restore(&state.sub("readout"))
    }

    fn has_readout(&self) -> bool {
        self.readouts.is_wanted()
    }

    fn fit_readout(&mut self, train: &Batch<'_>, ctx: &Ctx) -> Result<()> {
        if !self.readouts.is_wanted() {
            return Ok(());
        }
        let labels = labels_of(train, self.n_classes)?;
        let times = train.inputs.as_times();
        let embed = |&row: &usize| self.forward(&read(times, row).0).0;
        let embeddings: Vec<Vec<f64>> = train.rows.par_iter().map(embed).collect();
        self.readouts.fit(embeddings.concat(), &labels, ctx.seed)
    }

    fn figures(&self, probe: &Batch<'_>) -> Result<Vec<Figure>> {
        let times = probe.inputs.as_times();
        let all = probe.rows.iter().map(|&row| {
            let (input, target) = read(times, row);
            let output = self.forward(&input).1;
            Picture { row, input, target, output }
        });
        Ok(vec![intensities(times, &all.collect::<Vec<_>>())])
    }
}
