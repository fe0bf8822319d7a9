//! Metrics, made from predictions in one place for all methods.

pub mod gabor;

use crate::event::Histogram;
use crate::learner::{Metrics, Prediction};
use std::collections::BTreeMap;

/// What a set of predictions amounts to.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Named means over the samples.
    pub metrics: Metrics,
    /// Counts `[label][predicted class]`; empty without classes.
    pub confusion: Vec<Vec<u64>>,
    /// Distributions over the samples.
    pub histograms: Vec<Histogram>,
}

/// The classes that have samples and are never the answer, from counts `[label][predicted class]`.
pub fn never_answered(confusion: &[Vec<u64>]) -> Vec<usize> {
    let is_answered = |class: usize| confusion.iter().any(|row| row[class] > 0);
    let has_samples = |class: usize| confusion[class].iter().any(|&n| n > 0);
    (0..confusion.len()).filter(|&class| has_samples(class) && !is_answered(class)).collect()
}

/// Means, confusion matrix and distributions of `predictions` for samples labelled `labels`.
///
/// Names: `accuracy` (share of samples whose class is the label; a classifier's prediction without
/// a class is wrong), `spikes_per_sample`,
/// `synops_per_sample`, `decision_time` (mean over the samples that decided, fraction of the
/// window), `mse` and `rms` of reconstructions. To them come the methods' own measures, each the
/// mean over everything that the samples counted.
pub fn evaluate(predictions: &[Prediction], labels: &[u16], n_classes: usize) -> Evaluation {
    let mut out = Evaluation::default();
    if predictions.is_empty() {
        return out;
    }
    let n = predictions.len() as f64;
    let mean = |f: &dyn Fn(&Prediction) -> f64| predictions.iter().map(f).sum::<f64>() / n;
    if !labels.is_empty() && predictions.iter().any(Prediction::classifies) {
        let mut confusion = vec![vec![0u64; n_classes]; n_classes];
        let mut n_correct = 0u64;
        for (p, &label) in predictions.iter().zip(labels) {
            if let Some(class) = p.class {
                confusion[usize::from(label)][usize::from(class)] += 1;
                n_correct += u64::from(class == label);
            }
        }
        out.metrics.insert("accuracy".into(), n_correct as f64 / n);
        out.confusion = confusion;
    }
    out.metrics.insert("spikes_per_sample".into(), mean(&|p| p.n_spikes as f64));
    out.metrics.insert("synops_per_sample".into(), mean(&|p| p.n_synops as f64));
    let times: Vec<f64> =
        predictions.iter().filter_map(|p| p.decision_time).map(f64::from).collect();
    if !times.is_empty() {
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        out.metrics.insert("decision_time".into(), mean);
        // Decisions may come later than the last input.
        let end = times.iter().copied().fold(1.0, f64::max);
        out.histograms.push(histogram("decision time (fraction of the window)", &times, 0.0, end));
    }
    let errors: Vec<f64> = predictions.iter().filter_map(squared_error).collect();
    if !errors.is_empty() {
        let mse = errors.iter().sum::<f64>() / errors.len() as f64;
        out.metrics.insert("mse".into(), mse);
        out.metrics.insert("rms".into(), mse.sqrt());
    }
    let mut measures: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
    for m in predictions.iter().flat_map(|p| &p.measures).filter(|m| m.count > 0) {
        let (sum, count) = measures.entry(m.name).or_default();
        *sum += m.sum;
        *count += m.count;
    }
    let means = measures.into_iter().map(|(name, (sum, n))| (name.to_owned(), sum / n as f64));
    out.metrics.extend(means);
    out
}

/// Mean squared difference of reconstruction and target, if the prediction has both.
fn squared_error(p: &Prediction) -> Option<f64> {
    let (a, b) = (p.reconstruction.as_ref()?, p.target.as_ref()?);
    let sum: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    Some(sum / a.len().max(1) as f64)
}

/// Root of the mean squared difference of two vectors of one length.
pub fn rms(a: &[f64], b: &[f64]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    (sum / a.len().max(1) as f64).sqrt()
}

/// Pearson's correlation of two vectors of one length; none if one of them is constant.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len().max(1) as f64;
    let mean = |x: &[f64]| x.iter().sum::<f64>() / n;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - mean_a, y - mean_b);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// Treves–Rolls activity `(mean n)² / mean(n²)` of the neurons' spike counts (A. Treves,
/// E. T. Rolls, Network 2:371, 1991): 1 if all neurons spike alike, 1/N if one of N does; none
/// without spikes. The lower, the sparser.
pub fn treves_rolls(counts: &[u32]) -> Option<f64> {
    let sum: f64 = counts.iter().map(|&n| f64::from(n)).sum();
    let squares: f64 = counts.iter().map(|&n| f64::from(n) * f64::from(n)).sum();
    (sum > 0.0).then(|| sum * sum / (squares * counts.len() as f64))
}

/// Counts `values` in 40 equal bins from `from` to `to`; what lies outside joins the end bins.
pub fn histogram(label: &str, values: &[f64], from: f64, to: f64) -> Histogram {
    let mut counts = vec![0u64; 40];
    for &v in values {
        let bin = ((v - from) / (to - from) * 40.0).clamp(0.0, 39.0);
        counts[bin as usize] += 1;
    }
    Histogram { label: label.into(), from, to, counts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::Measure;

    #[test]
    fn classes_that_are_never_the_answer_are_found() {
        let confusion = vec![vec![3, 1, 0, 0], vec![0, 2, 0, 0], vec![1, 0, 0, 0], vec![0; 4]];
        assert_eq!(never_answered(&confusion), [2], "the last class has no samples");
        assert!(never_answered(&[]).is_empty());
    }

    #[test]
    fn accuracy_confusion_and_means() {
        let says = |class, time| Prediction {
            class: Some(class),
            n_spikes: 10,
            decision_time: Some(time),
            ..Prediction::default()
        };
        let e = evaluate(&[says(0, 0.25), says(1, 0.75), says(1, 0.5)], &[0, 0, 1], 2);
        assert_eq!(e.confusion, [[1, 1], [0, 1]]);
        assert!((e.metrics["accuracy"] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((e.metrics["decision_time"], e.metrics["spikes_per_sample"]), (0.5, 10.0));
        assert_eq!(e.histograms[0].counts.iter().sum::<u64>(), 3);
    }

    #[test]
    fn a_silent_classifier_is_wrong_and_what_does_not_classify_has_no_accuracy() {
        let silent = Prediction { scores: vec![f32::NEG_INFINITY; 2], ..Prediction::default() };
        let e = evaluate(&[silent.clone(), silent], &[0, 1], 2);
        assert_eq!((e.metrics["accuracy"], e.confusion), (0.0, vec![vec![0; 2]; 2]));
        let e = evaluate(&[Prediction::default(), Prediction::default()], &[0, 1], 2);
        assert!(e.confusion.is_empty() && !e.metrics.contains_key("accuracy"));
    }

    #[test]
    fn measures_are_pooled() {
        let says = |sum, count| Prediction {
            measures: vec![Measure { name: "x", sum, count }, Measure { name: "y", sum, count: 0 }],
            ..Prediction::default()
        };
        let metrics = evaluate(&[says(3.0, 1), says(1.0, 3)], &[], 0).metrics;
        assert_eq!((metrics["x"], metrics.contains_key("y")), (1.0, false));
    }

    #[test]
    fn sparsity_and_likeness() {
        assert_eq!(treves_rolls(&[4, 0, 0, 0]), Some(0.25));
        assert_eq!(treves_rolls(&[1, 1, 1, 1]), Some(1.0));
        assert_eq!(treves_rolls(&[3, 1, 0, 0]), Some(0.4));
        assert_eq!(treves_rolls(&[0, 0]), None);
        assert_eq!(rms(&[1.0, 2.0], &[1.0, 4.0]), 2.0f64.sqrt());
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[6.0, 4.0, 2.0]), Some(-1.0));
        assert_eq!(correlation(&[1.0, 1.0], &[6.0, 4.0]), None);
    }

    #[test]
    fn reconstruction_error() {
        let p = Prediction {
            reconstruction: Some(vec![0.0, 1.0]),
            target: Some(vec![0.0, 0.0]),
            ..Prediction::default()
        };
        let exact = Prediction { target: p.reconstruction.clone(), ..p.clone() };
        let e = evaluate(&[p, exact], &[], 0);
        assert_eq!((e.metrics["mse"], e.metrics["rms"]), (0.25, 0.5));
        assert!(e.confusion.is_empty() && !e.metrics.contains_key("accuracy"));
    }
}
