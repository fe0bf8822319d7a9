//! Collects what is wrong with a set of hyper-parameters, each with the values allowed.

use std::fmt::Display;

/// One wrong value: which field, what it holds, what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, parts joined by dots.
    pub field: String,
    /// The value found.
    pub value: String,
    /// The values allowed.
    pub allowed: String,
}

/// A list of complaints in the making.
///
/// ```
/// use spiketrain::Checks;
/// let mut checks = Checks::default();
/// checks.within("dropout", 1.5, 0.0, 1.0);
/// assert_eq!(checks.found[0].allowed, "a number from 0 to 1");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// What was found so far.
    pub found: Vec<Invalid>,
}

impl Checks {
    /// Complains about `field` unless `ok`.
    pub fn that(&mut self, ok: bool, field: &str, value: impl Display, allowed: &str) {
        if !ok {
            self.found.push(Invalid {
                field: field.to_owned(),
                value: value.to_string(),
                allowed: allowed.to_owned(),
            });
        }
    }

    /// `value` must lie in `[low, high]`.
    pub fn within(&mut self, field: &str, value: f64, low: f64, high: f64) {
        let ok = (low..=high).contains(&value);
        self.that(ok, field, value, &format!("a number from {low} to {high}"));
    }

    /// `value` must be a finite number above 0.
    pub fn positive(&mut self, field: &str, value: f64) {
        self.that(value > 0.0 && value.is_finite(), field, value, "a number above 0");
    }

    /// `value` must be a finite number, not below 0.
    pub fn not_negative(&mut self, field: &str, value: f64) {
        self.that(value >= 0.0 && value.is_finite(), field, value, "a number not below 0");
    }

    /// `value` must be a finite number.
    pub fn finite(&mut self, field: &str, value: f64) {
        self.that(value.is_finite(), field, value, "a finite number");
    }

    /// `value` must lie in `low..=high`.
    pub fn count(&mut self, field: &str, value: usize, low: usize, high: usize) {
        let ok = (low..=high).contains(&value);
        self.that(ok, field, value, &format!("a whole number from {low} to {high}"));
    }

    /// Adds the complaints of a nested table.
    pub fn nest(&mut self, table: &str, inner: Checks) {
        self.found.extend(inner.found.into_iter().map(|mut i| {
            i.field = format!("{table}.{}", i.field);
            i
        }));
    }
}
