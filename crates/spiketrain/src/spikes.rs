//! The two notations of a spike train, and images before they become spikes.
//!
//! [`Times`] holds at most one spike per neuron, for event-driven rules; [`Frames`] holds a value
//! per time step, for clock-driven networks. They never merge: a method reads one of them.

use crate::error::{Error, Result};

/// Shape of one sample: channels, rows, columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Number of channels (1 for grey, 3 for colour, more for features).
    pub channels: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl Shape {
    /// Shape from channels, rows and columns.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// Shape of a plain vector of `n` values.
    pub const fn flat(n: usize) -> Self {
        Self::new(n, 1, 1)
    }

    /// Number of values in one sample.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// Pixel storage of [`Images`].
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// Bytes; 255 is 1.0.
    Bytes(Vec<u8>),
    /// Bytes as they are: numbers of events.
    Counts(Vec<u8>),
    /// Values as they are.
    Floats(Vec<f32>),
}

impl Pixels {
    /// What a stored 1.0 stands for: values are divided by it.
    pub(crate) fn unit(&self) -> f32 {
        match self {
            Pixels::Bytes(_) => 255.0,
            Pixels::Counts(_) | Pixels::Floats(_) => 1.0,
        }
    }
}

/// Still images (or any analog vectors), `[sample, channel, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// Shape of one image.
    pub shape: Shape,
    /// All pixels, one image after another.
    pub pixels: Pixels,
}

impl Images {
    /// Least and largest value, on the scale of [`Images::read`]; none without images.
    pub fn range(&self) -> Option<(f32, f32)> {
        match &self.pixels {
            Pixels::Bytes(bytes) | Pixels::Counts(bytes) => {
                let (low, high) = (bytes.iter().min()?, bytes.iter().max()?);
                let unit = self.pixels.unit();
                Some((f32::from(*low) / unit, f32::from(*high) / unit))
            }
            Pixels::Floats(values) => {
                let first = *values.first()?;
                Some(values.iter().fold((first, first), |(l, h), &v| (l.min(v), h.max(v))))
            }
        }
    }

    /// Images from bytes.
    ///
    /// # Panics
    ///
    /// If `pixels` is not a whole number of images.
    pub fn from_bytes(shape: Shape, pixels: Vec<u8>) -> Self {
        assert!(
            shape.len() > 0 && pixels.len().is_multiple_of(shape.len()),
            "pixels are whole images"
        );
        Self { shape, pixels: Pixels::Bytes(pixels) }
    }

    /// Images from values.
    ///
    /// # Panics
    ///
    /// If `pixels` is not a whole number of images.
    pub fn from_floats(shape: Shape, pixels: Vec<f32>) -> Self {
        assert!(
            shape.len() > 0 && pixels.len().is_multiple_of(shape.len()),
            "pixels are whole images"
        );
        Self { shape, pixels: Pixels::Floats(pixels) }
    }

    /// Images of which each pixel is a number of events.
    ///
    /// # Panics
    ///
    /// If `counts` is not a whole number of images.
    pub fn from_counts(shape: Shape, counts: Vec<u8>) -> Self {
        assert!(
            shape.len() > 0 && counts.len().is_multiple_of(shape.len()),
            "pixels are whole images"
        );
        Self { shape, pixels: Pixels::Counts(counts) }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        let n = match &self.pixels {
            Pixels::Bytes(p) | Pixels::Counts(p) => p.len(),
            Pixels::Floats(p) => p.len(),
        };
        n / self.shape.len()
    }

    /// True without images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes image `i` into `out` as `[channel, height, width]`; bytes become byte/255.
    pub fn read(&self, i: usize, out: &mut [f32]) {
        let n = self.shape.len();
        self.read_at(i * n, &mut out[..n]);
    }

    /// Writes the values from the one numbered `first` on into `out`, on the scale of
    /// [`Images::read`].
    fn read_at(&self, first: usize, out: &mut [f32]) {
        let range = first..first + out.len();
        match &self.pixels {
            Pixels::Bytes(p) | Pixels::Counts(p) => {
                let unit = self.pixels.unit();
                for (o, &b) in out.iter_mut().zip(&p[range]) {
                    *o = f32::from(b) / unit;
                }
            }
            Pixels::Floats(p) => out.copy_from_slice(&p[range]),
        }
    }

    /// The images `rows`, in that order.
    pub fn select(&self, rows: &[usize]) -> Self {
        let n = self.shape.len();
        fn pick<T: Copy>(p: &[T], n: usize, rows: &[usize]) -> Vec<T> {
            let mut out = Vec::with_capacity(n * rows.len());
            rows.iter().for_each(|&r| out.extend_from_slice(&p[r * n..(r + 1) * n]));
            out
        }
        let pixels = match &self.pixels {
            Pixels::Bytes(p) => Pixels::Bytes(pick(p, n, rows)),
            Pixels::Counts(p) => Pixels::Counts(pick(p, n, rows)),
            Pixels::Floats(p) => Pixels::Floats(pick(p, n, rows)),
        };
        Self { shape: self.shape, pixels }
    }
}

/// Spike times, at most one spike per neuron, stored as each sample's events in ascending order
/// of (time, neuron). A neuron without an event never fires.
///
/// Times are `f32` in the unit of the encoder that made them (fractions of the window unless it
/// says otherwise); solvers that need more compute in `f64` from these values.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// Shape of one sample; a neuron's index counts channels, rows, columns unless its maker says
    /// otherwise.
    pub shape: Shape,
    offsets: Vec<usize>,
    neurons: Vec<u16>,
    times: Vec<f32>,
    targets: Option<Box<Times>>,
}

/// One sample's events.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    /// Neuron of each event.
    pub neurons: &'a [u16],
    /// Time of each event, ascending.
    pub times: &'a [f32],
}

impl<'a> Events<'a> {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.neurons.len()
    }

    /// True if nothing fires.
    pub fn is_empty(&self) -> bool {
        self.neurons.is_empty()
    }

    /// `(neuron, time)` in ascending order of time.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f32)> + 'a {
        self.neurons.iter().zip(self.times).map(|(&n, &t)| (usize::from(n), t))
    }
}

impl Times {
    /// An empty set of samples of `shape`.
    ///
    /// # Errors
    ///
    /// If a sample would have more than 65,536 neurons, the most an event can name.
    pub fn new(shape: Shape) -> Result<Self> {
        if shape.len() > 1 << 16 {
            return Err(Error::recipe(format!(
                "spike times of shape {shape} have {} neurons; at most 65,536 are supported",
                shape.len()
            )));
        }
        let (neurons, times) = (Vec::new(), Vec::new());
        Ok(Self { shape, offsets: vec![0], neurons, times, targets: None })
    }

    /// Appends a sample given as a dense vector of times; what is not below `silent_from` is no
    /// spike.
    pub fn push_dense(&mut self, dense: &[f32], silent_from: f32) {
        assert_eq!(dense.len(), self.shape.len(), "one time per neuron");
        let mut order: Vec<u16> =
            (0..dense.len()).filter(|&i| dense[i] < silent_from).map(|i| i as u16).collect();
        order.sort_by(|&a, &b| dense[usize::from(a)].total_cmp(&dense[usize::from(b)]));
        self.times.extend(order.iter().map(|&i| dense[usize::from(i)]));
        self.neurons.extend_from_slice(&order);
        self.offsets.push(self.neurons.len());
    }

    /// Appends a sample given as events.
    ///
    /// # Panics
    ///
    /// If the events are not in ascending order of time or name a neuron that does not exist.
    pub fn push_events(&mut self, neurons: &[u16], times: &[f32]) {
        assert_eq!(neurons.len(), times.len(), "one time per event");
        assert!(times.is_sorted(), "events ascend in time");
        assert!(neurons.iter().all(|&n| usize::from(n) < self.shape.len()), "neurons exist");
        self.neurons.extend_from_slice(neurons);
        self.times.extend_from_slice(times);
        self.offsets.push(self.neurons.len());
    }

    /// The same samples, of which a network that reconstructs should give `targets`: the samples
    /// before noise was added.
    ///
    /// # Panics
    ///
    /// If there is not one target of the same shape per sample.
    #[must_use]
    pub fn with_targets(mut self, targets: Times) -> Self {
        assert_eq!((self.shape, self.len()), (targets.shape, targets.len()), "one target a sample");
        self.targets = Some(Box::new(targets));
        self
    }

    /// What a network that reconstructs should give: the targets, or the samples themselves.
    pub fn targets(&self) -> &Times {
        self.targets.as_deref().unwrap_or(self)
    }

    /// Appends all samples of `other`; neither has targets.
    pub fn append(&mut self, other: &Times) {
        assert_eq!(self.shape, other.shape, "samples have one shape");
        assert!(self.targets.is_none() && other.targets.is_none(), "targets come last");
        let base = self.neurons.len();
        self.neurons.extend_from_slice(&other.neurons);
        self.times.extend_from_slice(&other.times);
        self.offsets.extend(other.offsets[1..].iter().map(|o| base + o));
    }

    /// Samples from their parts: the number of each one's events, and all events in order.
    ///
    /// # Errors
    ///
    /// If the numbers do not add up, a sample's times do not ascend, or a neuron does not exist.
    pub(crate) fn from_parts(
        shape: Shape,
        lengths: impl Iterator<Item = usize>,
        neurons: Vec<u16>,
        times: Vec<f32>,
    ) -> Result<Self> {
        let mut samples = Self::new(shape)?;
        let mut end = 0usize;
        samples.offsets.extend(lengths.map(|n| {
            end = end.saturating_add(n);
            end
        }));
        let ascend = |part: &[usize]| times.get(part[0]..part[1]).is_some_and(<[f32]>::is_sorted);
        let exist = neurons.iter().all(|&n| usize::from(n) < shape.len());
        if end != times.len() || neurons.len() != times.len() || !exist {
            return Err(Error::data("spike times whose parts do not fit each other"));
        }
        if !samples.offsets.windows(2).all(ascend) {
            return Err(Error::data("spike times that do not ascend"));
        }
        (samples.neurons, samples.times) = (neurons, times);
        Ok(samples)
    }

    /// The events of all samples, one sample after another.
    pub(crate) fn all(&self) -> Events<'_> {
        Events { neurons: &self.neurons, times: &self.times }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of events of all samples.
    pub fn n_events(&self) -> usize {
        self.neurons.len()
    }

    /// Events of sample `i`.
    #[inline]
    pub fn sample(&self, i: usize) -> Events<'_> {
        let range = self.offsets[i]..self.offsets[i + 1];
        Events { neurons: &self.neurons[range.clone()], times: &self.times[range] }
    }

    /// Writes the times of sample `i` into `out`, `silent` where there is no spike.
    pub fn read_dense(&self, i: usize, silent: f32, out: &mut [f32]) {
        out.fill(silent);
        for (n, t) in self.sample(i).iter() {
            out[n] = t;
        }
    }
}

/// Values per time step: every sample is a sequence of frames, one a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Number of time steps.
    n_steps: usize,
    /// The frames of a sample, one after another, as the channels of one image.
    images: Images,
}

impl Frames {
    /// Samples whose frames are given as the channels of `images`: the first channels are those of
    /// the first step.
    ///
    /// # Errors
    ///
    /// If the channels are not a whole number of frames of `channels` each.
    pub fn new(images: Images, channels: usize) -> Result<Self> {
        Ok(Self { n_steps: Self::n_steps_of(images.shape, channels)?, images })
    }

    /// Number of frames of `channels` each in an image of `shape`.
    ///
    /// # Errors
    ///
    /// As [`Frames::new`].
    pub(crate) fn n_steps_of(shape: Shape, channels: usize) -> Result<usize> {
        let all = shape.channels;
        if channels == 0 || all == 0 || !all.is_multiple_of(channels) {
            return Err(Error::data(format!(
                "images of {all} channels, expected a multiple of the {channels} of a frame"
            )));
        }
        Ok(all / channels)
    }

    /// Number of time steps.
    pub fn n_steps(&self) -> usize {
        self.n_steps
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Shape of one frame.
    pub fn shape(&self) -> Shape {
        Shape { channels: self.images.shape.channels / self.n_steps, ..self.images.shape }
    }

    /// Writes the frame of sample `i` at step `t` into `out`, on the scale of [`Images::read`].
    ///
    /// # Panics
    ///
    /// If there is no such frame, or `out` does not have its size.
    pub fn read(&self, i: usize, t: usize, out: &mut [f32]) {
        let n = self.shape().len();
        assert!(t < self.n_steps && out.len() == n, "a frame of {n} values at one of the steps");
        self.images.read_at((i * self.n_steps + t) * n, out);
    }
}

/// What a learner reads: a whole split in one of the three notations.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Analog images; the method itself decides how they enter the network.
    Images(Images),
    /// Spike times.
    Times(Times),
    /// Values per time step.
    Frames(Frames),
}

impl Inputs {
    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Inputs::Images(x) => x.len(),
            Inputs::Times(x) => x.len(),
            Inputs::Frames(x) => x.len(),
        }
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of one sample.
    pub fn shape(&self) -> Shape {
        match self {
            Inputs::Images(x) => x.shape,
            Inputs::Times(x) => x.shape,
            Inputs::Frames(x) => x.shape(),
        }
    }

    /// The notation's name.
    pub fn notation(&self) -> Notation {
        match self {
            Inputs::Images(_) => Notation::Images,
            Inputs::Times(_) => Notation::Times,
            Inputs::Frames(_) => Notation::Frames,
        }
    }

    /// The spike times.
    ///
    /// # Panics
    ///
    /// If this is another notation; building the learner has checked it.
    pub fn as_times(&self) -> &Times {
        match self {
            Inputs::Times(x) => x,
            other => panic!("the method reads times, the loop handed {:?}", other.notation()),
        }
    }

    /// The images.
    ///
    /// # Panics
    ///
    /// If this is another notation; building the learner has checked it.
    pub fn as_images(&self) -> &Images {
        match self {
            Inputs::Images(x) => x,
            other => panic!("the method reads images, the loop handed {:?}", other.notation()),
        }
    }
}

/// Name of a notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// Analog images.
    Images,
    /// At most one spike time per neuron.
    Times,
    /// A value per time step.
    Frames,
}

impl Notation {
    /// Lower-case name for messages and tables.
    pub fn name(self) -> &'static str {
        match self {
            Notation::Images => "images",
            Notation::Times => "spike times",
            Notation::Frames => "frames",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_and_events_are_two_views_of_one_sample() {
        let mut t = Times::new(Shape::flat(4)).unwrap();
        t.push_dense(&[0.5, 1.0, 0.25, 0.5], 1.0);
        assert_eq!(t.sample(0).neurons, [2, 0, 3]);
        assert_eq!(t.sample(0).times, [0.25, 0.5, 0.5]);
        let mut u = Times::new(Shape::flat(4)).unwrap();
        u.push_events(&[2, 0, 3], &[0.25, 0.5, 0.5]);
        assert_eq!(t, u);
        let mut dense = [0.0; 4];
        t.read_dense(0, 1.0, &mut dense);
        assert_eq!(dense, [0.5, 1.0, 0.25, 0.5]);
        t.append(&u);
        assert_eq!((t.len(), t.n_events(), t.sample(1).len()), (2, 6, 3));
    }

    #[test]
    fn without_targets_a_sample_is_its_own() {
        let mut t = Times::new(Shape::flat(2)).unwrap();
        t.push_dense(&[0.5, 1.0], 1.0);
        let mut clean = Times::new(Shape::flat(2)).unwrap();
        clean.push_dense(&[0.25, 1.0], 1.0);
        assert_eq!(t.targets(), &t);
        assert_eq!(t.with_targets(clean.clone()).targets(), &clean);
    }

    #[test]
    fn too_many_neurons_are_refused() {
        assert!(Times::new(Shape::flat(65_536)).is_ok());
        assert!(Times::new(Shape::flat(65_537)).is_err());
    }

    #[test]
    fn frames_are_read_step_by_step() {
        let images = Images::from_counts(Shape::new(4, 1, 2), (0..16).collect());
        assert_eq!(images.range(), Some((0.0, 15.0)));
        let frames = Frames::new(images.clone(), 2).unwrap();
        assert_eq!((frames.len(), frames.n_steps(), frames.shape()), (2, 2, Shape::new(2, 1, 2)));
        let mut out = [0.0; 4];
        frames.read(1, 0, &mut out);
        assert_eq!(out, [8.0, 9.0, 10.0, 11.0]);
        frames.read(0, 1, &mut out);
        assert_eq!(out, [4.0, 5.0, 6.0, 7.0]);
        for channels in [0, 3, 8] {
            assert!(Frames::new(images.clone(), channels).is_err());
        }
    }

    #[test]
    fn images_read_bytes_as_fractions() {
        let images = Images::from_bytes(Shape::new(1, 1, 2), vec![0, 255, 51, 102]);
        let mut out = [0.0; 2];
        images.select(&[1]).read(0, &mut out);
        assert_eq!((images.len(), out), (2, [0.2, 0.4]));
    }
}
