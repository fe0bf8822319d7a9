//! `spiketrain data`: what there is, downloads, a look inside.

use crate::args::DataCommand;
use crate::observe::{Console, Style, print};
use spiketrain::data::catalogue::{self, CATALOGUE, Entry, Origin};
use spiketrain::data::{Data, DataDirs, Dataset};
use spiketrain::{Error, Images, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) fn run(command: DataCommand) -> Result<ExitCode> {
    match command {
        DataCommand::List => list()?,
        DataCommand::Fetch { name, data_dir, quiet, json } => {
            let style = Style::of(json, quiet);
            fetch(entry(&name)?, &DataDirs::new(data_dir).root, style)?;
        }
        DataCommand::Info { name, path, data_dir } => {
            let dirs = DataDirs::new(data_dir);
            let data = Data::named(&name, path)?.load(&dirs)?;
            info(entry(&name)?, &data, &dirs.root)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The catalogue's entry called `name`.
fn entry(name: &str) -> Result<&'static Entry> {
    catalogue::find(name).ok_or_else(|| {
        let known: Vec<&str> = CATALOGUE.iter().map(|e| e.name).collect();
        Error::recipe(format!("no data set {name:?}: allowed is {}", known.join(", ")))
    })
}

/// Prints the catalogue.
pub(crate) fn list() -> Result<()> {
    for Entry { name, about, licence, origin } in CATALOGUE {
        let from = match origin {
            Origin::Bundled => "bundled with the program".to_owned(),
            Origin::Download(_) => format!("spiketrain data fetch {name}"),
            Origin::ByHand(how) => format!("by hand: {how}"),
            Origin::Own => "your own; see docs/data.md".to_owned(),
        };
        let skip = "";
        print(format_args!(
            "{name:<14} {about}\n{skip:<14} {from}\n{skip:<14} licence: {licence}"
        ))?;
    }
    Ok(())
}

fn fetch(entry: &Entry, root: &Path, style: Style) -> Result<()> {
    let name = entry.name;
    let download = match entry.origin {
        Origin::Download(download) => download,
        Origin::Bundled => {
            return Err(Error::recipe(format!("{name} is bundled: nothing to download")));
        }
        Origin::ByHand(how) => {
            return Err(Error::recipe(format!("{name} has to be obtained by hand: {how}")));
        }
        Origin::Own => return Err(Error::recipe(format!("{name} is for data of your own"))),
    };
    let paths: Vec<PathBuf> = download.fetch(root, &mut Console::for_bytes(style))?;
    let folder = root.join(download.folder);
    if style == Style::Json {
        print(serde_json::json!({ "data": name, "folder": folder, "files": paths }))
    } else {
        let (n, folder) = (paths.len(), folder.display());
        print(format_args!("{name}: {n} files with the published checksums in {folder}"))
    }
}

fn info(entry: &Entry, data: &Dataset, root: &Path) -> Result<()> {
    let Entry { name, about, licence, origin } = entry;
    print(format_args!("{name}: {about}\nlicence {licence}"))?;
    print(format_args!("samples of {} (channels×rows×columns)", data.shape))?;
    if let Some((low, high)) = data.train.images.range() {
        print(format_args!("values from {low} to {high}, {}", moments(&data.train.images)))?;
    }
    for (split, part) in [("train", &data.train), ("test", &data.test)] {
        let mut counts = vec![0usize; data.classes.len()];
        part.labels.iter().for_each(|&l| counts[usize::from(l)] += 1);
        let labels = match data.classes.is_empty() {
            true => "no labels".to_owned(),
            false => format!("per class {counts:?}"),
        };
        print(format_args!("{split:<7} {} samples, {labels}", part.images.len()))?;
    }
    if !data.classes.is_empty() {
        print(format_args!("classes {}", data.classes.join(", ")))?;
    }
    if let Origin::Download(download) = origin {
        for (path, is_published) in download.verify(root)? {
            let is = if is_published { "as published" } else { "not the published file" };
            print(format_args!("{}: {is}", path.display()))?;
        }
    }
    Ok(())
}

/// Mean and deviation of the values, of each channel if there are few.
fn moments(images: &Images) -> String {
    let shape = images.shape;
    let n_groups = if shape.channels <= 4 { shape.channels } else { 1 };
    let per_group = shape.len() / n_groups;
    let mut sums = vec![[0.0f64; 2]; n_groups];
    let mut image = vec![0.0; shape.len()];
    for i in 0..images.len() {
        images.read(i, &mut image);
        for ([sum, squares], values) in sums.iter_mut().zip(image.chunks_exact(per_group)) {
            for &value in values {
                *sum += f64::from(value);
                *squares += f64::from(value).powi(2);
            }
        }
    }
    let n = (images.len() * per_group) as f64;
    let (mut means, mut deviations) = (Vec::new(), Vec::new());
    for [sum, squares] in sums {
        let mean = sum / n;
        means.push(format!("{mean:.4}"));
        deviations.push(format!("{:.4}", (squares / n - mean * mean).max(0.0).sqrt()));
    }
    format!("mean {}, deviation {}", means.join(" "), deviations.join(" "))
}
