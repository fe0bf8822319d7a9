//! Weights in the layouts that the kernels read.

use super::super::buffer::{Buffer, Buffers, lock};
use super::super::simd::Simd;
use super::Weights;
use std::sync::{Arc, Mutex};

/// Weights in the layouts that the kernels read, each made when it is first needed. They are the
/// forms of the weights they are first asked for: a change of the weights needs new ones.
#[derive(Clone, Debug, Default)]
pub struct Forms {
    pub(super) simd: Simd,
    /// Where their memory comes from and goes to.
    pub(super) memory: Arc<Buffers>,
    /// Rows of a window by output channels, in panels of [`SLAB`](super::sparse::SLAB).
    pub(super) wide: Form<Buffer>,
    /// The same in panels of the dense kernel, where they are narrower.
    pub(super) narrow: Form<Buffer>,
    /// Transformed for the forward pass, with tiles of 2 and of 4.
    pub(super) winograd: [Form<Buffer>; 2],
    /// One matrix for each phase of the input gradient's rows and columns.
    pub(super) backward: Form<Vec<Buffer>>,
    /// Transformed for the input gradient.
    pub(super) backward_winograd: [Form<Buffer>; 2],
}

impl Forms {
    /// No forms yet, to be made for certain instructions.
    pub fn for_simd(simd: Simd) -> Self {
        Self { simd, ..Self::default() }
    }

    /// No forms yet; layers with the same `memory` pass it on to each other.
    pub fn sharing(memory: Arc<Buffers>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// The weights `[out, in, kernel_row, kernel_column]` that these are forms of.
    pub fn of<'a>(&'a self, plain: &'a [f32]) -> Weights<'a> {
        Weights { plain, forms: self }
    }

    /// Frees what a forward pass made.
    pub fn forget_forward(&self) {
        let forms = [&self.wide, &self.narrow].into_iter().chain(&self.winograd);
        forms.filter_map(Form::forget).for_each(|buffer| self.memory.give(buffer));
    }

    /// Frees what an input gradient made.
    pub fn forget_backward(&self) {
        let forms = self.backward_winograd.iter().filter_map(Form::forget);
        let all = forms.chain(self.backward.forget().into_iter().flatten());
        all.for_each(|buffer| self.memory.give(buffer));
    }

    /// Frees all of them.
    pub fn forget(&self) {
        self.forget_forward();
        self.forget_backward();
    }
}

#[cfg(test)]
impl Forms {
    /// Bytes of those that were made, forward and backward.
    pub(crate) fn n_bytes(&self) -> [usize; 2] {
        let sum = |all: Vec<Option<Arc<Buffer>>>| -> usize {
            all.into_iter().flatten().map(|form| 4 * form.as_slice().len()).sum()
        };
        let [two, four] = &self.winograd;
        let forward = [&self.wide, &self.narrow, two, four].map(Form::made);
        let backward = self.backward_winograd.iter().map(Form::made).collect();
        let phases = self.backward.made().into_iter();
        let phases: usize =
            phases.map(|p| p.iter().map(|b| 4 * b.as_slice().len()).sum::<usize>()).sum();
        [sum(forward.into()), sum(backward) + phases]
    }
}

/// One layout, once it was asked for.
#[derive(Debug)]
pub(super) struct Form<T>(Mutex<Option<Arc<T>>>);

impl<T> Form<T> {
    /// The layout; made now if it is not there.
    pub(super) fn get(&self, make: impl FnOnce() -> T) -> Arc<T> {
        lock(&self.0).get_or_insert_with(|| Arc::new(make())).clone()
    }

    /// Takes the layout away, unless somebody still reads it.
    fn forget(&self) -> Option<T> {
        lock(&self.0).take().and_then(Arc::into_inner)
    }

    /// The layout if it is there.
    #[cfg(test)]
    fn made(&self) -> Option<Arc<T>> {
        lock(&self.0).clone()
    }
}

impl<T> Default for Form<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Clone for Form<T> {
    fn clone(&self) -> Self {
        Self(Mutex::new(lock(&self.0).clone()))
    }
}
