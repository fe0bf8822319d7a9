//! Downloads: mirrors in order, partial files resumed, checksums before a file gets its name.
//!
//! A file grows as `NAME.part` and is renamed only when its length and SHA-256 are those
//! published. A broken connection goes on where it stopped, by an HTTP range request, at the same
//! mirror or the next; a server that refuses ranges starts again from the first byte.

mod http;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::event::{Event, Observer, show};
use http::{Client, Fault, Patience};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Requests to one mirror for one file, as long as each brings something.
const MAX_TRIES: usize = 8;

/// The files of a data set and where they are published.
#[derive(Clone, Copy, Debug)]
pub struct Download {
    /// Sub-folder of the data folder.
    pub folder: &'static str,
    /// Addresses to put before a file's name, in order of preference.
    pub mirrors: &'static [&'static str],
    /// The files.
    pub files: &'static [Remote],
}

/// A published file.
#[derive(Clone, Copy, Debug)]
pub struct Remote {
    /// Its name.
    pub name: &'static str,
    /// Its length.
    pub n_bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: &'static str,
}

impl Download {
    /// Downloads what is not there yet into the data folder `root`; the paths of all files. Each
    /// file is a stage of `observer`, its progress is in bytes.
    ///
    /// # Errors
    ///
    /// If no mirror delivers a file, a file is there that is not the one published, files cannot
    /// be written, or the observer stops it; what was downloaded so far is kept.
    pub fn fetch(&self, root: &Path, observer: &mut dyn Observer) -> Result<Vec<PathBuf>> {
        let folder = root.join(self.folder);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("making the folder", &folder, e))?;
        let client = Client::from_environment(Patience::default())?;
        let fetch = |f: &Remote| f.fetch(self.mirrors, &folder, &client, observer);
        let paths = self.files.iter().map(fetch).collect();
        // Where nothing came, nothing stays: only an empty folder can be removed.
        let _ = std::fs::remove_dir(&folder);
        paths
    }

    /// The files that are there below `root`, and whether each is the one published.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn verify(&self, root: &Path) -> Result<Vec<(PathBuf, bool)>> {
        let paths = self.files.iter().map(|f| (f, root.join(self.folder).join(f.name)));
        paths
            .filter(|(_, path)| path.is_file())
            .map(|(file, path)| {
                let sum = File::open(&path).and_then(|mut f| checksum(&mut f));
                let sum = sum.map_err(|e| Error::io("reading", &path, e))?;
                Ok((path, sum == file.sha256))
            })
            .collect()
    }
}

impl Remote {
    /// Downloads the file into `folder` unless it is there.
    fn fetch(
        &self,
        mirrors: &[&str],
        folder: &Path,
        client: &Client,
        observer: &mut dyn Observer,
    ) -> Result<PathBuf> {
        let path = folder.join(self.name);
        let start = Instant::now();
        if path.exists() {
            let sum = File::open(&path).and_then(|mut f| checksum(&mut f));
            self.check(&sum.map_err(|e| Error::io("reading", &path, e))?).map_err(|what| {
                let path = path.display();
                Error::data(format!("{path}: {what}; remove it to download it again"))
            })?;
            end_stage(observer, format!("{} was there already", self.name), start)?;
            return Ok(path);
        }
        let mut part = Part::open(folder.join(format!("{}.part", self.name)))?;
        let mut failures = Vec::new();
        for mirror in mirrors {
            let address = format!("{mirror}{}", self.name);
            show(observer, &Event::StageStart { stage: address.clone() })?;
            match self.try_mirror(&address, &mut part, client, observer)? {
                Ok(()) => {
                    part.finish(&path)?;
                    end_stage(observer, address, start)?;
                    return Ok(path);
                }
                Err(why) => failures.push(format!("\n  {address}: {why}")),
            }
        }
        part.discard_if_empty();
        Err(Error::data(format!(
            "cannot download {}, its place is {}{}",
            self.name,
            path.display(),
            failures.concat()
        )))
    }

    /// Asks one mirror, again as long as its answers bring the file further; why it failed.
    fn try_mirror(
        &self,
        address: &str,
        part: &mut Part,
        client: &Client,
        observer: &mut dyn Observer,
    ) -> Result<Result<(), String>> {
        let mut why = String::new();
        for _ in 0..MAX_TRIES {
            let n_before = part.len;
            match self.attempt(address, part, client, observer)? {
                Ok(()) => match self.check(&part.checksum()?) {
                    Ok(()) => return Ok(Ok(())),
                    Err(what) => {
                        part.clear()?;
                        // The bytes from before may be the wrong ones: once more from the start.
                        if n_before == 0 {
                            return Ok(Err(what));
                        }
                        why = what;
                    }
                },
                Err(Fault::Broken(what)) if part.len > n_before => why = what,
                Err(Fault::NoSuchRange(what)) if n_before > 0 => {
                    part.clear()?;
                    why = what;
                }
                Err(fault) => return Ok(Err(fault.into_text())),
            }
        }
        Ok(Err(why))
    }

    /// One request: appends what it brings to `part`.
    fn attempt(
        &self,
        address: &str,
        part: &mut Part,
        client: &Client,
        observer: &mut dyn Observer,
    ) -> Result<Result<(), Fault>> {
        if part.len > self.n_bytes {
            part.clear()?;
        }
        if part.len == self.n_bytes {
            return Ok(Ok(()));
        }
        let (first, body) = match client.get(address, part.len, self.n_bytes) {
            Ok(answer) => answer,
            Err(fault) => return Ok(Err(fault)),
        };
        if first == 0 {
            part.clear()?;
        }
        // A server that does not announce the length may send more; the checksum decides.
        let mut body = body.take(self.n_bytes - part.len);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(n) => n,
                Err(e) => return Ok(Err(Fault::Broken(e.to_string()))),
            };
            let (done, total) = (part.len + n as u64, self.n_bytes);
            part.append(&buffer[..n])?;
            show(observer, &Event::StageProgress { stage: self.name.into(), done, total })?;
            if n == 0 && done < total {
                let what = format!("the connection ended after {done} of {total} bytes");
                return Ok(Err(Fault::Broken(what)));
            }
            if done == total {
                return Ok(Ok(()));
            }
        }
    }

    fn check(&self, sum: &str) -> Result<(), String> {
        match sum == self.sha256 {
            true => Ok(()),
            false => Err(format!("SHA-256 {sum}, expected {}", self.sha256)),
        }
    }
}

fn end_stage(observer: &mut dyn Observer, stage: String, start: Instant) -> Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    show(observer, &Event::StageEnd { stage, seconds, cached: false })
}

/// SHA-256 of a file from its beginning, in hexadecimal.
fn checksum(file: &mut File) -> std::io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    file.seek(SeekFrom::Start(0))?;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        hash.update(&buffer[..n]);
    }
}

/// A file that grows, locked against other processes.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Part {
    fn open(path: PathBuf) -> Result<Self> {
        let failed = |e| Error::io("opening", &path, e);
        let options = OpenOptions::new().read(true).append(true).create(true).clone();
        let file = options.open(&path).map_err(failed)?;
        // Some network file systems know no locks; the checksum guards the file even there.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::data(format!(
                "{}: expected to write it alone, found another process at it",
                path.display()
            )));
        }
        let len = file.metadata().map_err(failed)?.len();
        Ok(Self { path, file, len })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("writing", &self.path, e))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::io("emptying", &self.path, e))?;
        self.len = 0;
        Ok(())
    }

    fn checksum(&mut self) -> Result<String> {
        checksum(&mut self.file).map_err(|e| Error::io("reading", &self.path, e))
    }

    /// Leaves nothing behind if there is nothing worth keeping.
    fn discard_if_empty(self) {
        drop(self.file);
        if self.len == 0 {
            // An empty file that stays does no harm.
            let _ = std::fs::remove_file(self.path);
        }
    }

    /// Gives the file its final name.
    fn finish(self, path: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("writing", &self.path, e))?;
        // Not every system renames an open file.
        drop(self.file);
        std::fs::rename(&self.path, path).map_err(|e| Error::io("renaming", &self.path, e))
    }
}
