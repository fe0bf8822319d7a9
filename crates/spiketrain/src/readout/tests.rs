use super::*;
use crate::seed::Seed;

/// Three clouds in four dimensions, the last of them constant.
fn clouds(n: usize) -> (Vec<f64>, Vec<u16>) {
    let mut stream = Seed(3).stream("test.clouds", 0);
    let centres = [[0.0, 0.0, 3.0], [4.0, 0.0, 0.0], [0.0, 5.0, 0.0]];
    let (mut points, mut labels) = (Vec::new(), Vec::new());
    for i in 0..n {
        let centre = centres[i % 3];
        points.extend(centre.map(|c| stream.normal(c, 1.0)));
        points.push(7.0);
        labels.push((i % 3) as u16);
    }
    (points, labels)
}

fn accuracy(labels: &[u16], points: &[f32], class: impl Fn(&[f32]) -> u16) -> f64 {
    let n = points.len() / labels.len();
    let right = points.chunks_exact(n).zip(labels).filter(|(p, l)| class(p) == **l).count();
    right as f64 / labels.len() as f64
}

#[test]
fn scaling_gives_mean_zero_and_deviation_one() {
    let (points, _) = clouds(300);
    let scaling = Scaling::fit(&points, 4);
    let scaled = scaling.apply(&points);
    for d in 0..3 {
        let column: Vec<f64> = scaled.chunks(4).map(|p| f64::from(p[d])).collect();
        let mean = column.iter().sum::<f64>() / 300.0;
        let square = column.iter().map(|x| x * x).sum::<f64>() / 300.0;
        assert!(mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-5, "{mean} {square}");
    }
    assert!(scaled.chunks(4).all(|p| p[3] == 0.0));
    assert_eq!(Scaling::restored(&scaling.state(), 4).unwrap(), scaling);
}

#[test]
fn a_constant_dimension_is_not_scaled_by_its_roundings() {
    for constant in [5.3127, -0.1, 1e-9, 3e12] {
        let points: Vec<f64> =
            (0..54_000).flat_map(|i| [constant, constant * (1.0 + f64::from(i % 2))]).collect();
        let scaling = Scaling::fit(&points, 2);
        assert_eq!(scaling.deviation[0], 1.0, "{constant}");
        assert!((scaling.deviation[1] / (0.5 * f64::abs(constant)) - 1.0).abs() < 1e-9);
        let scaled = scaling.apply(&[constant, constant]);
        assert!(f64::from(scaled[0]).abs() <= 1e-10 * f64::abs(constant), "{}", scaled[0]);
    }
}

#[test]
fn neighbours_are_those_of_a_plain_search() {
    let (points, labels) = clouds(203);
    let points = Scaling::fit(&points, 4).apply(&points);
    let knn = NearestNeighbours::fit(5, 4, &points, &labels);
    for query in points.chunks(4).take(50) {
        let distance = |p: &[f32]| p.iter().zip(query).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let mut order: Vec<usize> = (0..203).collect();
        order.sort_by(|&a, &b| {
            distance(&points[a * 4..][..4]).total_cmp(&distance(&points[b * 4..][..4]))
        });
        let mut votes = [0; 3];
        order[..5].iter().for_each(|&i| votes[usize::from(labels[i])] += 1);
        assert_eq!(usize::from(knn.class(query)), largest(&votes));
    }
    assert_eq!(NearestNeighbours::restored(&knn.state(), 5, 4).unwrap(), knn);
}

#[test]
fn logistic_regression_separates_and_survives_its_state() {
    let (points, labels) = clouds(600);
    let points = Scaling::fit(&points, 4).apply(&points);
    let fitted = Logistic::fit(1.0, 4, 3, &points, &labels);
    assert!(accuracy(&labels, &points, |p| fitted.class(p)) > 0.97);
    let restored = Logistic::restored(&fitted.state(), 4, 3).unwrap();
    assert_eq!(restored, fitted);
}

#[test]
fn the_perceptron_gradient_is_the_central_difference() {
    for output in [Output::Softmax, Output::Sigmoid] {
        let mut stream = Seed(1).stream("test.mlp", 0);
        let mut mlp = Mlp::new(output, [5, 4, 3], &mut stream);
        let x = [0.4, 0.0, -1.0, 0.7, 0.2];
        let y = [0.0, 1.0, 0.0];
        mlp.accumulate(&x, &y);
        let gradient = mlp.gradient().to_vec();
        for i in 0..gradient.len() {
            let h = 1e-2f32;
            let at = |d: f32| {
                let mut moved = mlp.clone();
                moved.parameters_mut()[i] += d;
                moved.accumulate(&x, &y)
            };
            let found = (at(h) - at(-h)) / (2.0 * f64::from(h));
            let exact = f64::from(gradient[i]);
            assert!((found - exact).abs() < 2e-3, "{output:?} {i}: {exact}, not {found}");
        }
    }
}

#[test]
fn the_perceptron_learns_and_goes_on_from_its_state() {
    let (points, labels) = clouds(600);
    let points = Scaling::fit(&points, 4).apply(&points);
    let train = |stop: Option<usize>| {
        let mut mlp = Mlp::new(Output::Softmax, [4, 8, 3], &mut Seed(2).stream("test.mlp", 0));
        for epoch in 0..6 {
            if stop == Some(epoch) {
                let state = mlp.state();
                mlp = Mlp::new(Output::Softmax, [4, 8, 3], &mut Seed(9).stream("test.mlp", 0));
                mlp.restore(&state).unwrap();
            }
            for (batch, labels) in points.chunks(4 * 20).zip(labels.chunks(20)) {
                for (x, &l) in batch.chunks(4).zip(labels) {
                    let mut y = [0.0; 3];
                    y[usize::from(l)] = 1.0;
                    mlp.accumulate(x, &y);
                }
                mlp.update(0.02, labels.len());
            }
        }
        mlp
    };
    let whole = train(None);
    assert!(accuracy(&labels, &points, |p| whole.class(p)) > 0.97);
    assert_eq!(train(Some(3)).state(), whole.state());
}
