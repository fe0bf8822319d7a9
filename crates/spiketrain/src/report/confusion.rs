//! The confusion matrix: which class was taken for which.

use super::format;
use super::picture::{Colour, png_uri};
use super::replay::Run;
use crate::metrics::never_answered;
use minijinja::{Value, context};

/// Matrices up to this size are tables; larger ones are pictures.
const MAX_TABLE: usize = 20;
/// Confusions listed in words.
const N_LISTED: usize = 6;
/// Cells from this opacity on carry light text.
const DEEP: f64 = 0.6;

/// A class in figures.
struct Class<'a> {
    name: &'a str,
    counts: &'a [u64],
    n: u64,
    recall: f64,
    precision: f64,
}

/// The matrix as the template reads it; nothing without a test or without classes.
pub(super) fn value(run: &Run<'_>) -> Option<Value> {
    let matrix = run.test.as_ref()?.confusion;
    let n = matrix.len();
    if n == 0 || matrix.iter().any(|row| row.len() != n) {
        return None;
    }
    let names: Vec<String> = (0..n)
        .map(|i| run.start.classes.get(i).cloned().unwrap_or_else(|| i.to_string()))
        .collect();
    let classes: Vec<Class<'_>> = (0..n).map(|i| class(matrix, &names, i)).collect();
    let is_table = n <= MAX_TABLE;
    let rows: Vec<Value> = classes
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let cells: Vec<Value> =
                if is_table { (0..n).map(|j| cell(c, i, j, &names)).collect() } else { Vec::new() };
            context! {
                name => c.name,
                cells => cells,
                n => format::count(c.n),
                recall => format::percent(c.recall, 1),
                precision => format::percent(c.precision, 1),
            }
        })
        .collect();
    let picture = if is_table { None } else { picture(&classes) };
    let never: Vec<&str> = never_answered(matrix).into_iter().map(|i| classes[i].name).collect();
    Some(context! {
        never => never.join(", "),
        rows => rows,
        is_table => is_table,
        picture => picture,
        listed => most_frequent(&classes),
    })
}

fn class<'a>(matrix: &'a [Vec<u64>], names: &'a [String], i: usize) -> Class<'a> {
    let counts = matrix[i].as_slice();
    let sum = |values: &mut dyn Iterator<Item = u64>| values.fold(0u64, u64::saturating_add);
    let n = sum(&mut counts.iter().copied());
    let n_predicted = sum(&mut matrix.iter().map(|row| row[i]));
    let right = counts[i] as f64;
    // Without samples or predictions the ratio is not a number, and is written as a dash.
    Class {
        name: &names[i],
        counts,
        n,
        recall: right / n as f64,
        precision: right / n_predicted as f64,
    }
}

/// Opacity of a cell: the root of the share of the row, so that rare confusions are seen too.
fn opacity(class: &Class<'_>, j: usize) -> f64 {
    if class.n == 0 { 0.0 } else { (class.counts[j] as f64 / class.n as f64).sqrt() }
}

fn cell(class: &Class<'_>, i: usize, j: usize, names: &[String]) -> Value {
    let share = opacity(class, j);
    let kind = match (i == j, share >= DEEP) {
        (true, true) => "right deep",
        (true, false) => "right",
        (false, true) => "wrong deep",
        (false, false) => "wrong",
    };
    context! {
        count => format::count(class.counts[j]),
        is_zero => class.counts[j] == 0,
        opacity => format!("{share:.3}"),
        class => kind,
        hint => format!(
            "{} taken for {}: {} ({})",
            class.name,
            names[j],
            format::count(class.counts[j]),
            format::percent(class.counts[j] as f64 / class.n as f64, 1)
        ),
    }
}

/// The matrix as an inline picture, one pixel a cell.
fn picture(classes: &[Class<'_>]) -> Option<String> {
    let n = classes.len();
    let mut pixels = Vec::with_capacity(4 * n * n);
    for (i, class) in classes.iter().enumerate() {
        for j in 0..n {
            let rgb: [u8; 3] = if i == j { [46, 134, 200] } else { [222, 122, 40] };
            pixels.extend(rgb);
            pixels.push((255.0 * opacity(class, j)) as u8);
        }
    }
    png_uri(n, n, Colour::Rgba, &pixels)
}

/// The most frequent confusions in words.
fn most_frequent(classes: &[Class<'_>]) -> Vec<String> {
    let mut wrong: Vec<(u64, usize, usize)> = Vec::new();
    for (i, class) in classes.iter().enumerate() {
        let cells = class.counts.iter().enumerate();
        wrong.extend(cells.filter(|&(j, &c)| j != i && c > 0).map(|(j, &c)| (c, i, j)));
    }
    wrong.sort_by(|a, b| b.0.cmp(&a.0).then(a.cmp(b)));
    wrong
        .iter()
        .take(N_LISTED)
        .map(|&(c, i, j)| {
            let share = format::percent(c as f64 / classes[i].n as f64, 1);
            let times = format::plural(c, "time", "times");
            format!("{} taken for {}: {times} ({share})", classes[i].name, classes[j].name)
        })
        .collect()
}
