//! One safetensors file holds a run between two steps: version, recipe, counters, state.

use crate::error::{Error, Result};
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Version of the checkpoint's format.
pub const CHECKPOINT_VERSION: &str = "1";

/// Where in the run a checkpoint stands. No clock is in here: equal runs give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Epochs done.
    pub epoch: u64,
    /// Batches done of the epoch that is under way.
    pub batch: u64,
    /// Steps done since the run began.
    pub step: u64,
    /// Samples shown since the run began.
    pub n_presented: u64,
    /// Samples shown in the epoch that is under way.
    pub n_samples: u64,
    /// Sum of the losses in the epoch that is under way.
    pub loss: f64,
    /// Correct predictions in the epoch that is under way.
    pub n_correct: Option<u64>,
    /// Best validation score so far.
    pub best: Option<f64>,
    /// Epochs since then.
    pub since_best: u64,
    /// Whether encoder and learner are in the file (not so before the encoder is fitted).
    pub is_prepared: bool,
    /// Whether training has ended.
    pub is_finished: bool,
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The complete recipe.
    pub recipe: String,
    /// Where the run stands.
    pub counters: Counters,
    /// Arrays `learner.…` and `encoder.…`.
    pub state: State,
}

impl Checkpoint {
    /// Writes the checkpoint to `path`, atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let counters = serde_json::to_string(&self.counters).expect("counters are JSON");
        let metadata = BTreeMap::from([
            ("format".to_owned(), "spiketrain-checkpoint".to_owned()),
            ("version".to_owned(), CHECKPOINT_VERSION.to_owned()),
            ("recipe".to_owned(), self.recipe.clone()),
            ("counters".to_owned(), counters),
        ]);
        write_atomically(path, &self.state.to_safetensors(&metadata))
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// If the file is missing, damaged, of another format or of another version.
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let at = path.display();
        if !path.exists() {
            return Err(Error::checkpoint(format!("there is no checkpoint {at}")));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io("reading", path, e))?;
        let (state, metadata) = State::from_safetensors(&bytes).map_err(|e| e.context(at))?;
        let entry = |key: &str| {
            metadata.get(key).ok_or_else(|| {
                Error::checkpoint(format!("{}: not a checkpoint: no entry {key:?}", path.display()))
            })
        };
        let version = entry("version")?;
        if version != CHECKPOINT_VERSION {
            return Err(Error::checkpoint(format!(
                "{}: format version {version}, this program reads {CHECKPOINT_VERSION}",
                path.display()
            )));
        }
        let counters = serde_json::from_str(entry("counters")?)
            .map_err(|e| Error::checkpoint(format!("{}: counters: {e}", path.display())))?;
        Ok(Checkpoint { recipe: entry("recipe")?.clone(), counters, state })
    }
}

/// Writes `bytes` to `path` so that the path never names a part of them: temporary file in the
/// same folder, sync, rename, sync of the folder. The file is as readable as any other.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |e| Error::io("writing", path, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    // Not every file system syncs folders; the file is whole without.
    #[cfg(unix)]
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.safetensors");
        assert!(
            Checkpoint::read(&path).unwrap_err().to_string().contains("there is no checkpoint")
        );
        let mut state = State::new();
        state.put("learner.w", &[1], vec![2.5f32]);
        // A number that a parser in a hurry reads as its neighbour.
        let best = Some(0.916_666_666_666_666_7);
        let counters = Counters { epoch: 3, best, ..Counters::default() };
        let checkpoint = Checkpoint { recipe: "seed = 1\n".into(), counters, state };
        checkpoint.write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap(), checkpoint);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 7, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Checkpoint::read(&path).is_err());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    proptest! {
        #[test]
        fn counters_come_back_to_the_bit(loss in 0.0..1e6, best in 0.0..1.0) {
            let counters = Counters { loss, best: Some(best), ..Counters::default() };
            let text = serde_json::to_string(&counters).unwrap();
            prop_assert_eq!(serde_json::from_str::<Counters>(&text).unwrap(), counters);
        }
    }
}
