//! What is counted while the layer learns: the epoch's numbers, and the run's history.

use super::layer::Response;
use crate::error::{Error, Result};
use crate::learner::EpochReport;
use crate::state::{State, Stored};

/// Counts since the epoch began.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    /// Patches learned from.
    pub(super) n_patches: u64,
    n_steps: u64,
    n_active: u64,
    n_spikes: u64,
    /// Patches with an output spike, and the sum of their Treves–Rolls activities.
    n_responding: u64,
    sum_of_activity: f64,
    loss: f64,
    /// Output spikes of each neuron, `[neuron]`.
    counts: Vec<u64>,
}

impl Tally {
    pub(super) fn new(n_neurons: usize) -> Self {
        Self { counts: vec![0; n_neurons], ..Self::default() }
    }

    pub(super) fn count(&mut self, response: &Response) {
        self.n_patches += 1;
        self.n_steps += response.n_steps;
        self.n_active += response.n_active;
        self.n_spikes += response.n_spikes();
        if let Some(activity) = crate::metrics::treves_rolls(&response.counts) {
            self.n_responding += 1;
            self.sum_of_activity += activity;
        }
        self.loss += response.loss;
        self.counts.iter_mut().zip(&response.counts).for_each(|(sum, &n)| *sum += u64::from(n));
    }

    /// The epoch's curves, but for what the weights and thresholds say.
    pub(super) fn report(&self) -> EpochReport {
        let mut report = EpochReport::default();
        let n_steps = self.n_steps.max(1) as f64;
        let n_neurons = self.counts.len() as f64;
        let mut metric = |name: &str, value| report.metrics.insert(name.to_owned(), value);
        metric("patches", self.n_patches as f64);
        metric("spikes_per_step", self.n_spikes as f64 / n_steps);
        metric("active_steps", self.n_active as f64 / n_steps);
        metric("firing_fraction", self.n_spikes as f64 / n_steps / n_neurons);
        metric("treves_rolls", self.sum_of_activity / self.n_responding.max(1) as f64);
        metric("vq_error", self.loss / self.n_spikes.max(1) as f64);
        let busiest = self.counts.iter().copied().max().unwrap_or(0) as f64;
        metric("neurons_used", self.counts.iter().filter(|&&n| n > 0).count() as f64);
        metric("busiest_neuron", busiest * n_neurons / self.n_spikes.max(1) as f64);
        let rates = self.counts.iter().map(|&n| n as f64 / n_steps).collect();
        report.series.insert("spikes_per_neuron_and_step".into(), rates);
        report
    }

    pub(super) fn state(&self) -> State {
        let mut state = State::new();
        for (name, n) in [
            ("n_patches", self.n_patches),
            ("n_steps", self.n_steps),
            ("n_active", self.n_active),
            ("n_spikes", self.n_spikes),
            ("n_responding", self.n_responding),
        ] {
            state.put(name, &[], vec![n]);
        }
        state.put("sum_of_activity", &[], vec![self.sum_of_activity]);
        state.put("loss", &[], vec![self.loss]);
        state.put("counts", &[self.counts.len()], self.counts.clone());
        state
    }

    pub(super) fn restored(state: &State, n_neurons: usize) -> Result<Self> {
        Ok(Self {
            n_patches: state.scalar("n_patches")?,
            n_steps: state.scalar("n_steps")?,
            n_active: state.scalar("n_active")?,
            n_spikes: state.scalar("n_spikes")?,
            n_responding: state.scalar("n_responding")?,
            sum_of_activity: state.scalar("sum_of_activity")?,
            loss: state.scalar("loss")?,
            counts: state.get("counts", &[n_neurons])?.to_vec(),
        })
    }
}

/// Points kept of the run's history; when there are twice as many, neighbours are joined.
const N_POINTS: usize = 200;

/// The course of the run: one point for every `images_per_point` images learned from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct History {
    images_per_point: u64,
    /// Images in the last point.
    n_images: u64,
    /// Threshold at each point's end.
    pub(super) thresholds: Vec<f64>,
    steps: Vec<u64>,
    spikes: Vec<u64>,
    active: Vec<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            images_per_point: 1,
            n_images: 1,
            thresholds: Vec::new(),
            steps: Vec::new(),
            spikes: Vec::new(),
            active: Vec::new(),
        }
    }
}

impl History {
    /// Adds an image: the tallies before and after it, the threshold after it.
    pub(super) fn add(&mut self, before: [u64; 3], after: &Tally, threshold: f64) {
        let [steps, spikes, active] = before;
        if self.n_images == self.images_per_point || self.thresholds.is_empty() {
            if self.thresholds.len() == 2 * N_POINTS {
                self.halve();
            }
            self.n_images = 0;
            self.thresholds.push(0.0);
            self.steps.push(0);
            self.spikes.push(0);
            self.active.push(0);
        }
        self.n_images += 1;
        let last = self.thresholds.len() - 1;
        self.thresholds[last] = threshold;
        self.steps[last] += after.n_steps - steps;
        self.spikes[last] += after.n_spikes - spikes;
        self.active[last] += after.n_active - active;
    }

    fn halve(&mut self) {
        self.images_per_point *= 2;
        self.thresholds = self.thresholds.chunks(2).map(|c| c[c.len() - 1]).collect();
        for counts in [&mut self.steps, &mut self.spikes, &mut self.active] {
            *counts = counts.chunks(2).map(|c| c.iter().sum()).collect();
        }
    }

    /// Images learned from at the end of each point.
    pub(super) fn images(&self) -> Vec<f64> {
        let n = self.thresholds.len() as u64;
        let end = |i| i * self.images_per_point;
        let last = n.saturating_sub(1) * self.images_per_point + self.n_images;
        (1..n).map(end).chain((n > 0).then_some(last)).map(|x| x as f64).collect()
    }

    /// Output spikes a step, and the share of steps with any, at each point.
    pub(super) fn activity(&self) -> (Vec<f64>, Vec<f64>) {
        let per_step = |counts: &[u64]| {
            counts.iter().zip(&self.steps).map(|(&c, &n)| c as f64 / n.max(1) as f64).collect()
        };
        (per_step(&self.spikes), per_step(&self.active))
    }

    pub(super) fn state(&self) -> State {
        let mut state = State::new();
        let n = [self.thresholds.len()];
        state.put("images_per_point", &[], vec![self.images_per_point]);
        state.put("n_images", &[], vec![self.n_images]);
        state.put("threshold", &n, self.thresholds.clone());
        state.put("steps", &n, self.steps.clone());
        state.put("spikes", &n, self.spikes.clone());
        state.put("active", &n, self.active.clone());
        state
    }

    pub(super) fn restored(state: &State) -> Result<Self> {
        let n = state.array("threshold")?.values.len();
        if n > 2 * N_POINTS {
            return Err(Error::checkpoint(format!("a history of {n} points")));
        }
        fn list<T: Stored>(state: &State, name: &str, n: usize) -> Result<Vec<T>> {
            Ok(state.get(name, &[n])?.to_vec())
        }
        Ok(Self {
            images_per_point: state.scalar("images_per_point")?,
            n_images: state.scalar("n_images")?,
            thresholds: list(state, "threshold", n)?,
            steps: list(state, "steps", n)?,
            spikes: list(state, "spikes", n)?,
            active: list(state, "active", n)?,
        })
    }
}

impl Tally {
    /// Steps, spikes and active steps so far, for [`History::add`].
    pub(super) fn mark(&self) -> [u64; 3] {
        [self.n_steps, self.n_spikes, self.n_active]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_reported_and_restored() {
        let mut tally = Tally::new(4);
        let response = |counts: [u32; 4], n_active| Response {
            counts: counts.to_vec(),
            n_steps: 5,
            n_active,
            loss: 2.0,
        };
        tally.count(&response([4, 0, 0, 0], 3));
        tally.count(&response([3, 1, 0, 0], 2));
        tally.count(&response([0, 0, 0, 0], 0));
        let report = tally.report();
        let metric = |name: &str| report.metrics[name];
        assert_eq!((metric("patches"), metric("active_steps")), (3.0, 5.0 / 15.0));
        assert_eq!(metric("spikes_per_step"), 8.0 / 15.0);
        assert!((metric("treves_rolls") - (0.25 + 0.4) / 2.0).abs() < 1e-15);
        assert_eq!((metric("neurons_used"), metric("busiest_neuron")), (2.0, 3.5));
        assert_eq!(metric("vq_error"), 6.0 / 8.0);
        assert_eq!(Tally::restored(&tally.state(), 4).unwrap(), tally);
    }

    #[test]
    fn the_history_stays_short_and_keeps_its_sums() {
        let mut history = History::default();
        let mut tally = Tally::new(1);
        for i in 0..1234 {
            let before = tally.mark();
            let response = Response { counts: vec![1], n_steps: 2, n_active: 1, loss: 0.0 };
            tally.count(&response);
            history.add(before, &tally, f64::from(i));
        }
        let images = history.images();
        assert!(images.len() <= 2 * N_POINTS && images.is_sorted());
        assert_eq!((images[0], images[images.len() - 1]), (4.0, 1234.0));
        assert_eq!(history.spikes.iter().sum::<u64>(), 1234);
        assert_eq!(history.thresholds[0], 3.0);
        assert_eq!(history.activity().0[0], 0.5);
        assert_eq!(History::restored(&history.state()).unwrap(), history);
    }
}
