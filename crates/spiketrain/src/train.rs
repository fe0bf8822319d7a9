//! The one training loop. It knows the contract [`Learner`], never a method.

use crate::cache::Cache;
use crate::checkpoint::{Checkpoint, Counters};
use crate::data::{DataDirs, Dataset};
use crate::encode::{Encoder, FittedEncoder};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Flow, INTERRUPTED, LOG_VERSION, Observer, show};
use crate::learner::{Batch, Ctx, Learner, Metrics, Prediction, Task};
use crate::metrics::{self, Evaluation};
use crate::recipe::{Recipe, Train, Validation};
use crate::runlog::{LOG_FILE, RunLog};
use crate::schedule;
use crate::seed::Seed;
use crate::spikes::{Images, Inputs};
use crate::state::State;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The complete recipe in a run folder.
pub const RECIPE: &str = "recipe.toml";
/// The newest checkpoint.
pub const LAST: &str = "last.safetensors";
/// The checkpoint that did best in validation.
pub const BEST: &str = "best.safetensors";

/// The files of a run folder.
pub const FILES: [&str; 5] = [RECIPE, LAST, BEST, LOG_FILE, crate::report::PAGE_FILE];

/// Where a run happens. Nothing in here changes its results.
#[derive(Clone, Debug)]
pub struct Options {
    /// The run's folder.
    pub run_dir: PathBuf,
    /// Where data sets are looked for.
    pub data: DataDirs,
    /// Where fitted encoders and what they made are kept between runs; nowhere if not given. At
    /// most 4 GB; what was not used for the longest time is removed.
    pub cache_dir: Option<PathBuf>,
    /// Threads.
    pub threads: usize,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Epochs done.
    pub epochs: u64,
    /// Test metrics; empty if the run was interrupted.
    pub test: Metrics,
    /// Wall-clock seconds, all sessions of the run together.
    pub seconds: f64,
    /// Whether the user stopped it; the run can be resumed.
    pub was_interrupted: bool,
}

/// Trains from the beginning, into a run folder that does not exist yet or is empty.
///
/// # Errors
///
/// If the folder is in use, data are missing, files cannot be written, or the method diverged.
pub fn train(recipe: &Recipe, options: &Options, observer: &mut dyn Observer) -> Result<Summary> {
    let dir = &options.run_dir;
    if std::fs::read_dir(dir).is_ok_and(|mut d| d.next().is_some()) {
        return Err(in_use(dir));
    }
    on_threads(options.threads, || {
        let data = recipe.data.load(&options.data)?;
        let lock = claim(dir, recipe)?;
        match begin(recipe, options, data, lock, observer) {
            Ok(run) => run.go(observer),
            Err(e) if e.kind() == ErrorKind::Interrupted => stopped_early(dir, 0, observer),
            Err(e) => {
                // Nothing in it is worth going on with; the folder goes too if it is empty.
                for file in [RECIPE, LAST, LOG_FILE] {
                    let _ = std::fs::remove_file(dir.join(file));
                }
                let _ = std::fs::remove_dir(dir);
                Err(e)
            }
        }
    })
}

fn in_use(dir: &Path) -> Error {
    Error::recipe(format!("the run folder {} is not empty", dir.display()))
}

/// Makes the folder and the recipe in it, which only one process can; it keeps others out as
/// [`lock`] does.
fn claim(dir: &Path, recipe: &Recipe) -> Result<Option<File>> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io("making the folder", dir, e))?;
    let path = dir.join(RECIPE);
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => in_use(dir),
        _ => Error::io("writing", &path, e),
    };
    let mut file = File::create_new(&path).map_err(failed)?;
    file.write_all(recipe.to_toml().as_bytes()).map_err(failed)?;
    Ok(file.try_lock().is_ok().then_some(file))
}

/// What there is to say of a session that was interrupted before its first step.
fn stopped_early(dir: &Path, epoch: u64, observer: &mut dyn Observer) -> Result<Summary> {
    let mut log = RunLog::reopen(dir, epoch)?;
    let (reason, seconds) = (INTERRUPTED.into(), log.unfinished());
    tell(&mut log, observer, &Event::Stopped { epoch, reason, seconds })?;
    let (seconds, test) = (log.seconds() + seconds, Metrics::new());
    Ok(Summary { epochs: epoch, test, seconds, was_interrupted: true })
}

/// Keeps other processes out of a run folder, as far as its file system can, until the file is
/// closed.
fn lock(dir: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(dir.join(RECIPE)) else { return Ok(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let dir = dir.display();
            Err(Error::checkpoint(format!("another process works in the run folder {dir}")))
        }
        _ => Ok(Some(file)),
    }
}

/// The run in a folder that holds nothing but the recipe.
fn begin<'a>(
    recipe: &'a Recipe,
    options: &'a Options,
    data: Dataset,
    lock: Option<File>,
    observer: &mut dyn Observer,
) -> Result<Run<'a>> {
    let dir = &options.run_dir;
    let (recipe_text, counters) = (recipe.to_toml(), Counters::default());
    let checkpoint = Checkpoint { recipe: recipe_text, counters, state: State::new() };
    checkpoint.write(&dir.join(LAST))?;
    let log = RunLog::create(dir)?;
    Run::start(recipe, options, data, checkpoint, (log, lock), observer)
}

/// Goes on with the run in `options.run_dir`, from its last checkpoint, to `epochs` epochs in all
/// if given. A run that has ended goes on as one with more epochs would have, if its learning rate
/// did not depend on their number.
///
/// # Errors
///
/// If there is no checkpoint, it does not fit, there are fewer epochs than it has done, or as
/// [`train`].
pub fn resume(
    options: &Options,
    epochs: Option<u64>,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let dir = &options.run_dir;
    let lock = lock(dir)?;
    let mut checkpoint = Checkpoint::read(&dir.join(LAST))?;
    let sets: Vec<String> = epochs.iter().map(|n| format!("train.epochs={n}")).collect();
    let recipe = Recipe::parse("the checkpoint's recipe", &checkpoint.recipe, None, &sets)?;
    if epochs.is_some() {
        lengthen(&recipe, &mut checkpoint)?;
    }
    on_threads(options.threads, || {
        let data = recipe.data.load(&options.data)?;
        if epochs.is_some() {
            // In place, as the lock is on this very file.
            let path = dir.join(RECIPE);
            std::fs::write(&path, &checkpoint.recipe)
                .map_err(|e| Error::io("writing", &path, e))?;
        }
        let epoch = checkpoint.counters.epoch;
        let log = RunLog::reopen(dir, epoch)?;
        match Run::start(&recipe, options, data, checkpoint, (log, lock), observer) {
            Ok(run) => run.go(observer),
            Err(e) if e.kind() == ErrorKind::Interrupted => stopped_early(dir, epoch, observer),
            Err(e) => Err(e),
        }
    })
}

/// Makes the run of a checkpoint end after the epochs of `recipe`.
fn lengthen(recipe: &Recipe, checkpoint: &mut Checkpoint) -> Result<()> {
    let (epochs, done) = (recipe.train.epochs, checkpoint.counters.epoch);
    if epochs < done {
        return Err(Error::recipe(format!(
            "train.epochs = {epochs}: {done} are done; allowed is a number not below"
        )));
    }
    if checkpoint.counters.is_finished && recipe.train.keep_best && epochs > done {
        return Err(Error::checkpoint(
            "the run has ended and, with train.keep_best, holds the weights of its best epoch, not \
             of its last; to train longer, begin anew",
        ));
    }
    checkpoint.counters.is_finished &= epochs == done;
    checkpoint.recipe = recipe.to_toml();
    Ok(())
}

/// What a checkpoint answers on the test split.
#[derive(Clone, Debug)]
pub struct Answers {
    /// One a test sample, in order.
    pub predictions: Vec<Prediction>,
    /// The samples' labels; empty for data without labels.
    pub labels: Vec<u16>,
    /// What they amount to.
    pub evaluation: Evaluation,
}

/// Evaluates the checkpoint `file` of a run on the test split.
///
/// # Errors
///
/// If the checkpoint is missing or holds no trained state, or data are missing, or the observer
/// stops it.
pub fn evaluate(options: &Options, file: &str, observer: &mut dyn Observer) -> Result<Answers> {
    let path = options.run_dir.join(file);
    let checkpoint = Checkpoint::read(&path)?;
    if !checkpoint.counters.is_prepared {
        return Err(Error::checkpoint(format!("{}: training has not begun", path.display())));
    }
    let recipe = Recipe::parse("the checkpoint's recipe", &checkpoint.recipe, None, &[])?;
    on_threads(options.threads, || {
        let data = recipe.data.load(&options.data)?;
        let encoder = recipe.encode.restore(data.shape, &checkpoint.state.sub("encoder"))?;
        let cache = Cache::new(options.cache_dir.as_deref(), &recipe.encode);
        let encoder = encoder.as_ref();
        let images = &data.test.images;
        let tick = &mut |done, total| show(observer, &progress("encode test images", done, total));
        let (inputs, _) = cache.encode(&recipe.encode, encoder, images, tick)?;
        let n_train = split_rows(&data.train.labels, data.train.images.len(), &recipe).0.len();
        let mut learner = learner(&recipe, &data, &inputs, n_train)?;
        restore(learner.as_mut(), &checkpoint.state, &path)?;
        let labels = data.test.labels;
        let tick = &mut |done, total| show(observer, &progress("test", done, total));
        let predictions = predict_all(learner.as_ref(), &inputs, None, &labels, tick)?;
        if learner.has_readout() && !checkpoint.counters.is_finished {
            let text = format!(
                "{}: written before the method's readouts were fitted, at the end of training; \
                 their figures are missing",
                path.display()
            );
            let _ = observer.on_event(&Event::Note { text });
        }
        let evaluation = metrics::evaluate(&predictions, &labels, data.classes.len());
        Ok(Answers { predictions, labels, evaluation })
    })
}

/// Puts the learner's state back, from the arrays that the checkpoint at `path` holds.
fn restore(learner: &mut dyn Learner, arrays: &State, path: &Path) -> Result<()> {
    let restored = learner.restore(&arrays.sub("learner"));
    restored.map_err(|e| e.context(format!("{}: learner", path.display())))
}

/// Does `work` on `n` threads of its own.
pub(crate) fn on_threads<T: Send>(n: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build()
        .map_err(|e| Error::recipe(format!("cannot start {n} threads: {e}")))?;
    pool.install(work)
}

/// The learner of a recipe for what its encoder gives.
///
/// # Errors
///
/// If the method cannot learn this, or the samples do not have one frame for every step.
pub(crate) fn learner(
    recipe: &Recipe,
    data: &Dataset,
    inputs: &Inputs,
    n_train: usize,
) -> Result<Box<dyn Learner>> {
    if let (Inputs::Frames(frames), Some(n_steps)) = (inputs, recipe.method.n_frames())
        && frames.n_steps() != n_steps
    {
        let (has, name) = (frames.n_steps(), recipe.method.card().name);
        return Err(Error::recipe(format!(
            "{}: samples have {has} frames, method.{name}.n_steps is {n_steps}; expected as many",
            data.name
        )));
    }
    recipe.method.build(&Task {
        shape: inputs.shape(),
        notation: inputs.notation(),
        n_classes: data.classes.len(),
        n_train,
        seed: Seed(recipe.seed),
    })
}

/// Rows for training and for validation: of every class, its `fold`-th share in file order is
/// held back.
fn split_rows(labels: &[u16], n: usize, recipe: &Recipe) -> (Vec<usize>, Vec<usize>) {
    let (folds, fold) = (recipe.validation.folds, recipe.validation.fold);
    if folds == 0 {
        return ((0..n).collect(), Vec::new());
    }
    let class = |i: usize| labels.get(i).map_or(0, |&l| usize::from(l));
    let n_classes = (0..n).map(class).max().map_or(1, |m| m + 1);
    let mut n_of = vec![0usize; n_classes];
    (0..n).for_each(|i| n_of[class(i)] += 1);
    let mut seen = vec![0usize; n_classes];
    (0..n).partition(|&i| {
        let c = class(i);
        seen[c] += 1;
        (seen[c] - 1) * folds / n_of[c] != fold
    })
}

/// Predictions for `rows` (all if not given), in order; `tick` hears of samples done and of how
/// many there are, and may stop it.
fn predict_all(
    learner: &dyn Learner,
    inputs: &Inputs,
    rows: Option<&[usize]>,
    labels: &[u16],
    tick: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<Vec<Prediction>> {
    let all: Vec<usize>;
    let rows = match rows {
        Some(r) => r,
        None => {
            all = (0..inputs.len()).collect();
            &all
        }
    };
    let mut out = Vec::with_capacity(rows.len());
    for part in rows.chunks(1000) {
        tick(out.len() as u64, rows.len() as u64)?;
        out.extend(learner.predict(&Batch { inputs, rows: part, labels })?);
    }
    Ok(out)
}

/// A run in memory.
struct Run<'a> {
    recipe: &'a Recipe,
    dir: &'a Path,
    recipe_text: String,
    counters: Counters,
    log: RunLog,
    classes: Vec<String>,
    encoder: Box<dyn FittedEncoder>,
    learner: Box<dyn Learner>,
    train: (Inputs, Vec<u16>),
    test: (Inputs, Vec<u16>),
    train_rows: Vec<usize>,
    valid_rows: Vec<usize>,
    must_stop: bool,
    /// Seconds of training in the epoch that an interrupt left unfinished.
    unfinished: f64,
    _lock: Option<File>,
}

/// How far a stage has come.
fn progress(stage: &str, done: u64, total: u64) -> Event {
    Event::StageProgress { stage: stage.into(), done, total }
}

/// Logs an event and shows it to the observer; true if the observer wants to stop.
fn tell(log: &mut RunLog, observer: &mut dyn Observer, event: &Event) -> Result<bool> {
    log.write(event)?;
    Ok(observer.on_event(event) == Flow::Stop)
}

/// Runs a stage: start and end are events, progress goes to the observer, which may stop it.
fn stage<T>(
    log: &mut RunLog,
    observer: &mut dyn Observer,
    name: &str,
    work: impl FnOnce(&mut dyn FnMut(u64, u64) -> Result<()>) -> Result<(T, bool)>,
) -> Result<T> {
    if tell(log, observer, &Event::StageStart { stage: name.into() })? {
        return Err(Error::interrupted());
    }
    let start = Instant::now();
    let (value, cached) = work(&mut |done, total| show(observer, &progress(name, done, total)))?;
    let seconds = start.elapsed().as_secs_f64();
    tell(log, observer, &Event::StageEnd { stage: name.into(), seconds, cached })?;
    Ok(value)
}

/// What to say of pixels that encoders do not expect.
fn on_range(images: &Images) -> Option<String> {
    let (low, high) = images.range().filter(|&(low, high)| low < 0.0 || high > 1.0)?;
    Some(format!(
        "values of the training images lie from {low} to {high}; encoders and methods expect 0 to \
         1, and what lies outside may be cut off"
    ))
}

/// What to say of classes that are never the answer, if there are any.
fn on_silence(confusion: &[Vec<u64>], classes: &[String]) -> Option<String> {
    if !confusion.is_empty() && confusion.iter().flatten().all(|&n| n == 0) {
        return Some(
            "no test sample is answered: the output neurons are silent. A lower threshold or larger \
             first weights are the usual remedy"
                .to_owned(),
        );
    }
    let silent = metrics::never_answered(confusion);
    let names: Vec<&str> = silent.into_iter().map(|k| classes[k].as_str()).collect();
    let (list, n) = (names.join(", "), classes.len());
    (!names.is_empty()).then(|| {
        format!(
            "never the answer, of {n} classes: {list}. Output neurons that fell silent and get no \
             gradient are the usual cause; another seed, a lower threshold, a wider slope or a \
             smaller learning rate is the usual remedy"
        )
    })
}

impl<'a> Run<'a> {
    /// Fits or restores the encoder, encodes, builds the learner.
    fn start(
        recipe: &'a Recipe,
        options: &'a Options,
        data: Dataset,
        checkpoint: Checkpoint,
        (mut log, lock): (RunLog, Option<File>),
        observer: &mut dyn Observer,
    ) -> Result<Run<'a>> {
        let (train_rows, valid_rows) =
            split_rows(&data.train.labels, data.train.images.len(), recipe);
        if train_rows.is_empty() {
            let (name, n) = (&data.name, data.train.images.len());
            let Validation { folds, fold } = recipe.validation;
            return Err(Error::data(format!(
                "{name}: none of {n} images is left for training where validation.folds = {folds} \
                 and validation.fold = {fold} keep {} aside",
                valid_rows.len()
            )));
        }
        let counters = checkpoint.counters;
        let begin = match log.is_new() {
            true => run_start(recipe, options, &data, train_rows.len(), valid_rows.len()),
            false => Event::Resumed { epoch: counters.epoch },
        };
        let mut must_stop = tell(&mut log, observer, &begin)?;
        let cache = Cache::new(options.cache_dir.as_deref(), &recipe.encode);
        let encoder = if counters.is_prepared {
            recipe.encode.restore(data.shape, &checkpoint.state.sub("encoder"))?
        } else {
            let images = data.train.images.select(&train_rows);
            stage(&mut log, observer, "fit encoder", |tick| {
                cache.fit(&recipe.encode, &images, Seed(recipe.seed), tick)
            })?
        };
        let train = stage(&mut log, observer, "encode training images", |tick| {
            cache.encode(&recipe.encode, encoder.as_ref(), &data.train.images, tick)
        })?;
        let test = stage(&mut log, observer, "encode test images", |tick| {
            cache.encode(&recipe.encode, encoder.as_ref(), &data.test.images, tick)
        })?;
        let mut learner = learner(recipe, &data, &train, train_rows.len())?;
        let notes = learner.notes(recipe.train.batch_size);
        let range = match recipe.encode {
            Encoder::Frames(_) => None, // takes any values
            _ => on_range(&data.train.images),
        };
        for text in range.into_iter().chain(notes) {
            let is_known = log.has_note(&text);
            let note = Event::Note { text };
            must_stop |= match is_known {
                true => observer.on_event(&note) == Flow::Stop,
                false => tell(&mut log, observer, &note)?,
            };
        }
        let (was_prepared, unfinished) = (counters.is_prepared, log.unfinished());
        if was_prepared {
            restore(learner.as_mut(), &checkpoint.state, &options.run_dir.join(LAST))?;
        }
        let mut run = Run {
            recipe,
            dir: &options.run_dir,
            recipe_text: checkpoint.recipe,
            counters,
            log,
            classes: data.classes,
            encoder,
            learner,
            train: (train, data.train.labels),
            test: (test, data.test.labels),
            train_rows,
            valid_rows,
            must_stop: false,
            unfinished,
            _lock: lock,
        };
        if !was_prepared {
            run.counters.is_prepared = true;
            must_stop |= run.save(&[LAST], observer)?;
        }
        run.must_stop = must_stop;
        Ok(run)
    }

    /// [`Run::finish`]; where training fails, the log says why.
    fn go(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let result = self.finish(observer);
        if let Err(e) = &result
            && e.kind() == ErrorKind::Diverged
        {
            let (epoch, reason) = (self.counters.epoch, e.to_string());
            tell(&mut self.log, observer, &Event::Stopped { epoch, reason, seconds: 0.0 })?;
        }
        result
    }

    /// Epochs until the last, an early stop or an interruption; then the test.
    fn finish(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        while !self.counters.is_finished
            && !self.is_patience_spent()
            && self.counters.epoch < self.recipe.train.epochs
        {
            if self.must_stop || !self.epoch(observer)? {
                return self.interrupted(observer);
            }
        }
        if self.is_patience_spent() && self.counters.epoch < self.recipe.train.epochs {
            let Counters { epoch, best, .. } = self.counters;
            let (best, patience) = (best.unwrap_or(0.0), self.recipe.train.patience);
            let reason = format!("no better validation score than {best:.4} for {patience} epochs");
            tell(&mut self.log, observer, &Event::Stopped { epoch, reason, seconds: 0.0 })?;
        }
        if self.must_stop {
            return self.interrupted(observer);
        }
        let closing = Instant::now();
        if !self.counters.is_finished {
            if self.recipe.train.keep_best && self.counters.best.is_some() {
                let path = self.dir.join(BEST);
                restore(self.learner.as_mut(), &Checkpoint::read(&path)?.state, &path)?;
            }
            let ctx = self.ctx(1.0);
            let (inputs, labels) = (&self.train.0, self.train.1.as_slice());
            let batch = Batch { inputs, rows: &self.train_rows, labels };
            self.learner.fit_readout(&batch, &ctx)?;
            self.counters.is_finished = true;
            self.must_stop |= self.save(&[LAST], observer)?;
        }
        if self.must_stop {
            return self.interrupted(observer);
        }
        let tick = &mut |done, total| show(observer, &progress("test", done, total));
        let (learner, (inputs, labels)) = (self.learner.as_ref(), &self.test);
        let predictions = match predict_all(learner, inputs, None, labels, tick) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return self.interrupted(observer),
            predictions => predictions?,
        };
        let test = metrics::evaluate(&predictions, &self.test.1, self.classes.len());
        let silence = on_silence(&test.confusion, &self.classes);
        let (metrics, confusion) = (test.metrics.clone(), test.confusion);
        let event = Event::Test { metrics, confusion, histograms: test.histograms };
        tell(&mut self.log, observer, &event)?;
        if let Some(text) = silence {
            tell(&mut self.log, observer, &Event::Note { text })?;
        }
        let n = self.test.0.len();
        let probe: Vec<usize> = (0..n.min(4)).collect();
        let batch = Batch { inputs: &self.test.0, rows: &probe, labels: &self.test.1 };
        let figures = self.encoder.figures().into_iter().chain(self.learner.figures(&batch)?);
        for figure in figures {
            tell(&mut self.log, observer, &Event::Figure { figure })?;
        }
        let epochs = self.counters.epoch;
        let seconds = self.log.seconds() + closing.elapsed().as_secs_f64();
        tell(&mut self.log, observer, &Event::RunEnd { epochs, seconds })?;
        Ok(Summary { epochs, test: test.metrics, seconds, was_interrupted: false })
    }

    /// Saves where the run stands and says so.
    fn interrupted(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        self.save(&[LAST], observer)?;
        let (epoch, seconds) = (self.counters.epoch, self.unfinished);
        let event = Event::Stopped { epoch, reason: INTERRUPTED.into(), seconds };
        tell(&mut self.log, observer, &event)?;
        let seconds = self.log.seconds() + self.unfinished;
        Ok(Summary { epochs: epoch, test: Metrics::new(), seconds, was_interrupted: true })
    }

    fn ctx(&self, rate: f64) -> Ctx {
        let c = &self.counters;
        Ctx {
            seed: Seed(self.recipe.seed),
            epoch: c.epoch,
            step: c.step,
            n_presented: c.n_presented,
            rate,
        }
    }

    /// One epoch, from wherever the counters stand in it; false if it was interrupted.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let Train { batch_size, shuffle, warm_up, epochs, ref schedule, .. } = self.recipe.train;
        let epoch = self.counters.epoch;
        let epoch_rate = schedule.factor(epoch, epochs);
        let mut order = self.train_rows.clone();
        if shuffle {
            Seed(self.recipe.seed).stream("shuffle", epoch).shuffle(&mut order);
        }
        let n_batches = order.len().div_ceil(batch_size) as u64;
        self.must_stop |= tell(&mut self.log, observer, &Event::EpochStart { epoch, n_batches })?;
        let start = Instant::now();
        let before = std::mem::take(&mut self.unfinished);
        let n_done = self.counters.batch as usize;
        for rows in order.chunks(batch_size).skip(n_done) {
            if self.must_stop {
                self.unfinished = before + start.elapsed().as_secs_f64();
                return Ok(false);
            }
            let warm = schedule::warm_up(warm_up, epoch, self.counters.batch, n_batches);
            let ctx = self.ctx(epoch_rate * warm);
            let batch = Batch { inputs: &self.train.0, rows, labels: &self.train.1 };
            let step = self.learner.step(&batch, &ctx).and_then(|step| {
                let diverged =
                    || Error::new(ErrorKind::Diverged, format!("the loss is {}", step.loss));
                if step.loss.is_finite() { Ok(step) } else { Err(diverged()) }
            });
            let step = step.map_err(|e| match e.kind() {
                ErrorKind::Diverged => {
                    let batch = self.counters.batch + 1;
                    e.context(format!("epoch {}, batch {batch} of {n_batches}", epoch + 1))
                }
                _ => e,
            })?;
            let c = &mut self.counters;
            c.batch += 1;
            c.step += 1;
            c.n_presented += step.n_samples;
            c.n_samples += step.n_samples;
            c.loss += step.loss;
            if let Some(n) = step.n_correct {
                c.n_correct = Some(c.n_correct.unwrap_or(0) + n);
            }
            let (batch, n_samples) = (c.batch, c.n_samples);
            let train = self.train_metrics();
            let event = Event::Step { epoch, batch, n_batches, n_samples, train };
            self.must_stop |= observer.on_event(&event) == Flow::Stop;
        }
        let seconds = before + start.elapsed().as_secs_f64();
        let closing = Instant::now();
        let ctx = self.ctx(epoch_rate);
        let report = self.learner.end_epoch(&ctx)?;
        let valid = self.validate(observer)?;
        let event = Event::EpochEnd {
            epoch,
            seconds,
            closing_seconds: closing.elapsed().as_secs_f64(),
            n_samples: self.counters.n_samples,
            train: self.train_metrics(),
            valid: valid.clone(),
            metrics: report.metrics,
            series: report.series,
        };
        self.must_stop |= tell(&mut self.log, observer, &event)?;
        self.close_epoch(&valid, observer)?;
        Ok(true)
    }

    fn train_metrics(&self) -> Metrics {
        let c = &self.counters;
        let n = c.n_samples.max(1) as f64;
        let mut train = Metrics::from([("loss".to_owned(), c.loss / n)]);
        if let Some(n_correct) = c.n_correct {
            train.insert("accuracy".into(), n_correct as f64 / n);
        }
        train
    }

    /// Figures of the validation split. Nothing stops it: the epoch is not counted yet.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Metrics> {
        if self.valid_rows.is_empty() {
            return Ok(Metrics::new());
        }
        let (inputs, labels) = (&self.train.0, &self.train.1);
        let mut stop = false;
        let tick = &mut |done, total| {
            stop |= observer.on_event(&progress("validation", done, total)) == Flow::Stop;
            Ok(())
        };
        let rows = Some(self.valid_rows.as_slice());
        let predictions = predict_all(self.learner.as_ref(), inputs, rows, labels, tick)?;
        self.must_stop |= stop;
        let picked: Vec<u16> =
            self.valid_rows.iter().filter_map(|&r| labels.get(r).copied()).collect();
        Ok(metrics::evaluate(&predictions, &picked, self.classes.len()).metrics)
    }

    /// Moves the counters to the next epoch, decides on an early stop, saves.
    fn close_epoch(&mut self, valid: &Metrics, observer: &mut dyn Observer) -> Result<()> {
        let c = &mut self.counters;
        c.epoch += 1;
        (c.batch, c.n_samples, c.loss, c.n_correct) = (0, 0, 0.0, None);
        let score = valid.get("accuracy").copied().or_else(|| valid.get("mse").map(|m| -m));
        let score = score.filter(|s| s.is_finite());
        let is_best = score.is_some_and(|s| c.best.is_none_or(|b| s > b));
        if is_best {
            (c.best, c.since_best) = (score, 0);
        } else {
            c.since_best += 1;
        }
        // The best first: the last says that there is one.
        let files = if is_best || score.is_none() { &[BEST, LAST][..] } else { &[LAST] };
        self.must_stop |= self.save(files, observer)?;
        Ok(())
    }

    /// Whether the recipe's patience has run out.
    fn is_patience_spent(&self) -> bool {
        let (c, patience) = (&self.counters, self.recipe.train.patience);
        patience > 0 && c.best.is_some() && c.since_best >= patience
    }

    /// Writes the checkpoint under each of `files`; true if the observer wants to stop.
    fn save(&mut self, files: &[&str], observer: &mut dyn Observer) -> Result<bool> {
        let mut state = State::new();
        state.nest("learner", self.learner.state());
        state.nest("encoder", self.encoder.state());
        let (recipe, counters) = (self.recipe_text.clone(), self.counters.clone());
        let checkpoint = Checkpoint { recipe, counters, state };
        self.log.sync()?;
        let mut stop = false;
        for file in files {
            checkpoint.write(&self.dir.join(file))?;
            let event = Event::Checkpoint { epoch: self.counters.epoch, file: (*file).to_owned() };
            stop |= tell(&mut self.log, observer, &event)?;
        }
        Ok(stop)
    }
}

fn run_start(
    recipe: &Recipe,
    options: &Options,
    data: &Dataset,
    n_train: usize,
    n_valid: usize,
) -> Event {
    let name = options.run_dir.file_name().map(|n| n.to_string_lossy().into_owned());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let card = recipe.method.card();
    Event::RunStart {
        version: LOG_VERSION.into(),
        spiketrain: env!("CARGO_PKG_VERSION").into(),
        run: name.unwrap_or_default(),
        recipe: recipe.to_toml(),
        method: card.name.into(),
        data: data.name.clone(),
        encoder: recipe.encode.name().into(),
        seed: recipe.seed,
        threads: options.threads,
        n_train,
        n_valid,
        n_test: data.test.images.len(),
        classes: data.classes.clone(),
        unix_time: now.map_or(0, |d| d.as_secs()),
        meanings: card.metrics.iter().map(|&(n, m)| (n.to_owned(), m.to_owned())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_are_never_the_answer_are_named() {
        let classes = ["cat", "dog", "owl"].map(String::from);
        let says = |confusion: [[u64; 3]; 3]| on_silence(&confusion.map(Vec::from), &classes);
        let text = says([[4, 0, 0], [4, 0, 0], [4, 0, 0]]).unwrap();
        assert!(text.starts_with("never the answer, of 3 classes: dog, owl."), "{text}");
        assert_eq!(says([[4, 0, 0], [0, 1, 0], [3, 0, 1]]), None);
        assert!(says([[0; 3]; 3]).unwrap().starts_with("no test sample is answered"));
        assert_eq!(on_silence(&[], &[]), None);
    }
}
