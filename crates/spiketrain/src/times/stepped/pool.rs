//! Earliest-spike pooling.

/// The pooled map's entry for a silent window.
pub const NO_ORIGIN: u32 = u32::MAX;

/// Pools maps of `channels` channels: every output takes the earliest time in its window of
/// `size` × `size` positions, stride `size`.
///
/// `times[[row, column, lane]]` is read with `lanes` entries a position, of which the first
/// `channels` count. `pooled[[row, column, channel]]` and `origins` (the position the spike came
/// from, the first in row-major order; [`NO_ORIGIN`] for a silent window) are written.
///
/// # Panics
///
/// If the slices do not fill the shapes.
pub fn earliest(
    times: &[f32],
    (height, width, channels, lanes): (usize, usize, usize, usize),
    size: usize,
    silent: f32,
    pooled: &mut [f32],
    origins: &mut [u32],
) {
    let (rows, columns) = (height / size, width / size);
    assert_eq!(times.len(), height * width * lanes, "times fill the maps");
    assert_eq!(pooled.len(), rows * columns * channels, "pooled times fill the maps");
    assert_eq!(origins.len(), pooled.len(), "one origin a time");
    pooled.fill(silent);
    origins.fill(NO_ORIGIN);
    for row in 0..rows {
        for column in 0..columns {
            let first = (row * columns + column) * channels;
            let out = first..first + channels;
            let (pooled, origins) = (&mut pooled[out.clone()], &mut origins[out]);
            for k in 0..size * size {
                let position = (row * size + k / size) * width + column * size + k % size;
                let here = &times[position * lanes..position * lanes + channels];
                for ((&t, best), origin) in here.iter().zip(&mut *pooled).zip(&mut *origins) {
                    *origin = if t < *best { position as u32 } else { *origin };
                    *best = t.min(*best);
                }
            }
        }
    }
}
