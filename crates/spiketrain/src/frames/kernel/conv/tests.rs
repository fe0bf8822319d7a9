//! The convolution against its definition.

use super::super::{Spikes, reference};
use super::*;

/// Geometries that meet every branch: odd channels, borders, strides, linear, 1×1, weights that
/// are cut into passes.
fn geometries() -> Vec<Conv2d> {
    let shape = Shape::new;
    vec![
        Conv2d::square(shape(3, 8, 8), 32, 3, 1, 1),
        Conv2d::square(shape(32, 9, 7), 48, 3, 1, 1),
        Conv2d::square(shape(16, 4, 4), 80, 3, 1, 0),
        Conv2d::square(shape(16, 3, 5), 16, 3, 1, 2),
        Conv2d::square(shape(70, 4, 40), 20, 3, 1, 1),
        Conv2d::square(shape(16, 8, 8), 64, 3, 2, 1),
        Conv2d::square(shape(7, 11, 6), 5, 5, 1, 2),
        Conv2d::square(shape(32, 9, 7), 48, 5, 1, 2),
        Conv2d::square(shape(16, 6, 8), 80, 5, 1, 0),
        Conv2d::square(shape(16, 3, 5), 16, 5, 1, 4),
        Conv2d::square(shape(20, 7, 7), 33, 1, 1, 0),
        Conv2d::square(shape(20, 7, 8), 24, 1, 2, 0),
        Conv2d::square(shape(4, 6, 6), 6, 1, 2, 0),
        Conv2d::square(shape(4, 12, 12), 16, 7, 2, 3),
        Conv2d::square(shape(5, 6, 6), 8, 2, 3, 4),
        Conv2d {
            input: shape(6, 5, 9),
            out_channels: 20,
            kernel: [2, 4],
            stride: [1, 3],
            padding: [0, 2],
        },
        Conv2d::square(shape(128, 5, 6), 64, 3, 1, 1),
        Conv2d::square(shape(256, 3, 3), 64, 3, 1, 1),
        Conv2d::linear(Shape::flat(4200), 40),
        // More weights than are summed up together.
        Conv2d::linear(shape(16, 12, 8), 700),
        Conv2d::linear(Shape::flat(100), 10),
        Conv2d::linear(shape(12, 3, 4), 37),
    ]
}

/// Of the largest value: √n · 2⁻²⁴ for sums of up to n = 4,200 products.
const ROUNDING: f64 = 4e-6;

/// Of the largest value: F(4×4, 3×3) and F(2×2, 5×5) multiply values by up to 16 and subtract them
/// again.
const ROUNDING_OF_LARGE_TILES: f64 = 2e-5;

fn tolerance(conv: &Conv2d, algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Winograd2 if conv.kernel == [5, 5] => ROUNDING_OF_LARGE_TILES,
        Algorithm::Winograd4 => ROUNDING_OF_LARGE_TILES,
        _ => ROUNDING,
    }
}

/// Values of one geometry and all results of the definition.
struct Case {
    conv: Conv2d,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f64>,
    dw: Vec<f64>,
    dx: Vec<f64>,
}

fn cases(n: usize, x: impl Fn(usize) -> Vec<f32>) -> Vec<Case> {
    let case = |conv: Conv2d| {
        let x = x(n * conv.input.len());
        let w = reference::values(conv.n_weights(), 1);
        let bias = reference::values(conv.out_channels, 2);
        let dy = reference::values(n * conv.output().len(), 3);
        let y = reference::forward(&conv, &w, Some(&bias), &x);
        let dw = reference::weight_gradient(&conv, &x, &dy);
        let dx = reference::input_gradient(&conv, &w, &dy);
        Case { conv, x, w, bias, dy, y, dw, dx }
    };
    geometries().into_iter().map(case).collect()
}

impl Case {
    fn check(&self, input: Input<'_>, simd: Simd) {
        let mut workspace = Workspace::with(simd);
        let forms = Forms::for_simd(simd);
        let packed = forms.of(&self.w);
        for algorithm in self.conv.forward_algorithms(input) {
            let (mut y, bias) = (vec![9.0; self.dy.len()], Some(&self.bias[..]));
            self.conv.forward_by(algorithm, packed, bias, input, &mut y, &mut workspace);
            let what = format!("{algorithm:?} forward {:?} {simd:?}", self.conv);
            reference::assert_close(&what, &y, &self.y, tolerance(&self.conv, algorithm));
        }
        for algorithm in self.conv.weight_gradient_algorithms(input) {
            let mut dw = vec![0.0; self.w.len()];
            for times in [1.0, 2.0] {
                self.conv.weight_gradient_by(algorithm, input, &self.dy, &mut dw, &mut workspace);
                let want: Vec<f64> = self.dw.iter().map(|g| times * g).collect();
                let what = format!("{algorithm:?} weight gradient {:?} {simd:?}", self.conv);
                reference::assert_close(&what, &dw, &want, tolerance(&self.conv, algorithm));
            }
        }
        for algorithm in self.conv.input_gradient_algorithms() {
            let mut dx = vec![9.0; self.x.len()];
            self.conv.input_gradient_by(algorithm, packed, &self.dy, &mut dx, &mut workspace);
            let what = format!("{algorithm:?} input gradient {:?} {simd:?}", self.conv);
            reference::assert_close(&what, &dx, &self.dx, tolerance(&self.conv, algorithm));
        }
    }
}

#[test]
fn dense_passes_follow_the_definition() {
    for case in cases(3, |n| reference::values(n, 0)) {
        Simd::available().into_iter().for_each(|simd| case.check(Input::Dense(&case.x), simd));
    }
}

#[test]
fn spikes_give_what_their_values_give() {
    for density in [0.1, 0.6] {
        for case in cases(3, |n| reference::binary(n, density, 4)) {
            let spikes = Spikes::from_dense(case.conv.input, &case.x);
            for simd in Simd::available() {
                case.check(Input::Spikes(spikes.view()), simd);
            }
        }
    }
}

#[test]
fn spikes_add_up_in_the_order_of_the_dense_products() {
    for case in cases(2, |n| reference::binary(n, 0.3, 4)) {
        let spikes = Spikes::from_dense(case.conv.input, &case.x);
        let mut all = Vec::new();
        for simd in Simd::available() {
            let forms = Forms::for_simd(simd);
            let packed = forms.of(&case.w);
            for algorithm in [Algorithm::Direct, Algorithm::Spikes] {
                let mut y = vec![9.0; case.dy.len()];
                let (input, mut workspace) = (Input::Spikes(spikes.view()), Workspace::default());
                let bias = Some(&case.bias[..]);
                case.conv.forward_by(algorithm, packed, bias, input, &mut y, &mut workspace);
                all.push(y);
            }
        }
        assert!(all.iter().all(|y| *y == all[0]), "the same bits: {:?}", case.conv);
    }
}

#[test]
fn the_choice_is_by_density() {
    let conv = Conv2d::square(Shape::new(16, 8, 8), 16, 3, 1, 1);
    let spikes =
        |density| Spikes::from_dense(conv.input, &reference::binary(conv.input.len(), density, 0));
    let (few, many) = (spikes(0.05), spikes(0.9));
    let choice = |s: &Spikes| conv.forward_algorithm(Input::Spikes(s.view()));
    assert_eq!((choice(&few), choice(&many)), (Algorithm::Spikes, Algorithm::Winograd2));
    assert_eq!(conv.input_gradient_algorithm(), Algorithm::Winograd4);
    let large = Conv2d::square(conv.input, 32, 5, 1, 2);
    assert_eq!(large.forward_algorithm(Input::Spikes(many.view())), Algorithm::Direct);
    assert_eq!(large.input_gradient_algorithm(), Algorithm::Winograd2);
    let strided = Conv2d { stride: [2, 2], ..conv };
    let input = Input::Spikes(few.view());
    assert_eq!(strided.weight_gradient_algorithm(input), Algorithm::Direct);
}

/// Lists of spikes number channels and positions in 16 bits; one more is computed without them.
#[test]
fn the_weight_gradient_of_spikes_ends_at_16_bits() {
    let shape = Shape::new;
    let of_row =
        |width| Conv2d { kernel: [1, 3], ..Conv2d::square(shape(1, 1, width), 2, 1, 1, 0) };
    let pairs = [
        [Conv2d::linear(shape(64, 32, 32), 3), Conv2d::linear(shape(64, 32, 33), 3)],
        [shape(1 << 16, 1, 2), shape((1 << 16) + 1, 1, 2)].map(|x| Conv2d::square(x, 2, 1, 1, 0)),
        [of_row((1 << 16) - 2), of_row((1 << 16) - 1)],
    ];
    for (conv, is_listed) in
        pairs.into_iter().flat_map(|[most, more]| [(most, true), (more, false)])
    {
        let x = reference::binary(2 * conv.input.len(), 0.03, 4);
        let dy = reference::values(2 * conv.output().len(), 3);
        let (spikes, want) =
            (Spikes::from_dense(conv.input, &x), reference::weight_gradient(&conv, &x, &dy));
        let input = Input::Spikes(spikes.view());
        assert_eq!(
            conv.weight_gradient_algorithm(input) == Algorithm::Spikes,
            is_listed,
            "{conv:?}"
        );
        assert_eq!(conv.weight_gradient_algorithms(input).contains(&Algorithm::Spikes), is_listed);
        for simd in Simd::available() {
            let mut dw = vec![0.0; conv.n_weights()];
            conv.weight_gradient(input, &dy, &mut dw, &mut Workspace::with(simd));
            let what = format!("weight gradient {conv:?} {simd:?}");
            reference::assert_close(&what, &dw, &want, tolerance(&conv, Algorithm::Spikes));
        }
    }
}

#[test]
fn a_bias_collects_its_channel() {
    let mut gradient = [1.0, 0.0];
    add_bias_gradient(&[1.0, 2.0, 3.0, 4.0], &mut gradient);
    assert_eq!(gradient, [5.0, 6.0]);
}

#[test]
fn the_bytes_of_forms_are_those_made_until_they_are_forgotten() {
    let shape = Shape::new(96, 8, 8);
    let spikes = Spikes::from_dense(shape, &reference::binary(shape.len(), 0.9, 0));
    let kernels = [1, 3, 5].map(|kernel| Conv2d::square(shape, 96, kernel, 1, kernel / 2));
    for conv in kernels {
        let (plain, forms) = (reference::values(conv.n_weights(), 1), Forms::default());
        let weights = forms.of(&plain);
        let mut workspace = Workspace::default();
        let (mut y, mut dx) = (vec![0.0; conv.output().len()], vec![0.0; shape.len()]);
        let input = Input::Spikes(spikes.view());
        for algorithm in [Algorithm::Spikes, conv.forward_algorithm(input)] {
            conv.forward_by(algorithm, weights, None, input, &mut y, &mut workspace);
        }
        conv.input_gradient(weights, &y, &mut dx, &mut workspace);
        let near = |bytes: [usize; 2]| {
            let difference = |i: usize| bytes[i].abs_diff(forms.n_bytes()[i]);
            (0..2).all(|i| difference(i) <= 4 * conv.n_weights())
        };
        assert!(near(conv.form_bytes()), "{conv:?}: {:?}", forms.n_bytes());
        forms.forget_forward();
        assert_eq!(forms.n_bytes()[0], 0);
        assert!(near([0, conv.form_bytes()[1]]));
        forms.forget_backward();
        assert_eq!(forms.n_bytes(), [0; 2]);
    }
}
