//! NumPy's `.npy` format: a magic string, a header written as a Python dictionary, the values.
//!
//! Only plain arrays of numbers are read. The header is parsed here because the crates for this
//! format build a general parser of Python literals with the help of a C compiler.

use crate::error::{Error, Result};
use std::io::Read;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header accepted, in bytes; that of a plain array has about 120.
const MAX_HEADER: usize = 4096;

/// An array in C order.
#[derive(Debug)]
pub(super) struct Array {
    /// Extent of each dimension.
    pub(super) extents: Vec<usize>,
    /// The values.
    pub(super) values: Values,
}

/// Values by the kind of their type.
#[derive(Debug)]
pub(super) enum Values {
    /// u8.
    Bytes(Vec<u8>),
    /// f32 and f64.
    Floats(Vec<f32>),
    /// All other integers, and truth values.
    Integers(Vec<i64>),
}

/// What the header says.
struct Header {
    descr: String,
    fortran_order: bool,
    extents: Vec<usize>,
}

/// Reads an array whose values take at most `limit` bytes. `name` stands in messages.
///
/// # Errors
///
/// If the bytes are not a complete array of numbers in C order, or too many.
pub(super) fn read(name: &str, mut bytes: impl Read, limit: u64) -> Result<Array> {
    let wrong = |what: String| Error::data(format!("{name}: {what}"));
    let mut take =
        |n: u64| {
            let mut out = Vec::new();
            bytes.by_ref().take(n).read_to_end(&mut out).map(|_| out).map_err(|e| {
                Error::data(format!("{name}: damaged or truncated: {e}")).with_source(e)
            })
        };
    let mut head = take(10)?;
    if matches!(head.get(6), Some(2 | 3)) {
        head.extend(take(2)?);
    }
    let length = header_length(&head).map_err(wrong)?;
    let header = take(length as u64)?;
    if header.len() < length {
        return Err(wrong(short(head.len() + header.len())));
    }
    let text = std::str::from_utf8(&header);
    let text = text.map_err(|_| wrong("a header that is no text".into()))?.trim();
    let header = parse(text)
        .ok_or_else(|| wrong(format!("the header is {text:?}, expected that of a plain array")))?;
    if header.fortran_order && header.extents.len() > 1 {
        return Err(wrong("an array in Fortran order, expected C order".into()));
    }
    let (big, kind) = match header.descr.split_at_checked(1) {
        Some((">", kind)) => (true, kind),
        Some(("<" | "|", kind)) => (false, kind),
        _ => (false, ""),
    };
    let size = kind.get(1..).and_then(|s| s.parse().ok()).unwrap_or(0usize);
    let is_known =
        matches!(kind, "u1" | "f4" | "f8" | "b1" | "i1" | "i2" | "i4" | "i8" | "u2" | "u4" | "u8");
    if !is_known {
        return Err(wrong(format!("values of type {:?}, expected numbers", header.descr)));
    }
    let promised = format!("the header promises {:?} values of {size} bytes", header.extents);
    let expected = header.extents.iter().try_fold(size as u64, |a, &b| a.checked_mul(b as u64));
    let Some(expected) = expected.filter(|&n| n <= limit) else {
        return Err(wrong(format!("{promised}, expected at most {limit} bytes in all")));
    };
    // One byte more than promised shows that there are too many; no more are read.
    let data = take(expected.saturating_add(1))?;
    let found = data.len() as u64;
    if found != expected {
        let more = if found > expected { "more than " } else { "" };
        let found = found.min(expected);
        return Err(wrong(format!("{promised}, found {more}{found} bytes after it")));
    }
    let values = match kind {
        "u1" => Values::Bytes(data),
        "f4" => Values::Floats(convert(&data, big, f32::from_le_bytes)),
        "f8" => Values::Floats(convert(&data, big, |b| f64::from_le_bytes(b) as f32)),
        "b1" | "i1" => Values::Integers(convert(&data, big, |b: [u8; 1]| i64::from(b[0] as i8))),
        "i2" => Values::Integers(convert(&data, big, |b| i64::from(i16::from_le_bytes(b)))),
        "i4" => Values::Integers(convert(&data, big, |b| i64::from(i32::from_le_bytes(b)))),
        "i8" => Values::Integers(convert(&data, big, i64::from_le_bytes)),
        "u2" => Values::Integers(convert(&data, big, |b| i64::from(u16::from_le_bytes(b)))),
        "u4" => Values::Integers(convert(&data, big, |b| i64::from(u32::from_le_bytes(b)))),
        _ => Values::Integers(convert(&data, big, |b| {
            i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)
        })),
    };
    Ok(Array { extents: header.extents, values })
}

/// Each `N` bytes as a number; big-endian ones are turned round first.
fn convert<const N: usize, T>(data: &[u8], big: bool, from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let number = |chunk: &[u8]| {
        let mut bytes: [u8; N] = chunk.try_into().expect("chunks of N");
        if big {
            bytes.reverse();
        }
        from(bytes)
    };
    data.chunks_exact(N).map(number).collect()
}

/// Length of the header that follows these first 10 or, from version 2 on, 12 bytes.
fn header_length(head: &[u8]) -> Result<usize, String> {
    let found = &head[..head.len().min(MAGIC.len())];
    if found != MAGIC {
        let (found, expected) = (found.escape_ascii(), MAGIC.escape_ascii());
        return Err(format!("begins with \"{found}\", expected \"{expected}\""));
    }
    let number = |range: std::ops::Range<usize>| -> Result<usize, String> {
        let bytes = head.get(range).ok_or_else(|| short(head.len()))?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    };
    let length = match number(6..7)? {
        1 => number(8..10)?,
        2 | 3 => number(8..12)?,
        version => return Err(format!("version {version}, expected 1 to 3")),
    };
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes, expected at most {MAX_HEADER}"));
    }
    Ok(length)
}

/// What is wrong with a file that ends within its header.
fn short(n_bytes: usize) -> String {
    format!("{n_bytes} bytes, expected a longer header")
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 28, 28), }`, in any order.
fn parse(text: &str) -> Option<Header> {
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?;
    let (mut descr, mut fortran_order, mut extents) = (None, None, None);
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if rest.is_empty() {
            break;
        }
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                let (text, after) = quoted(value)?;
                descr = Some(text.to_owned());
                after
            }
            "fortran_order" => {
                let word = ["True", "False"].into_iter().find(|w| value.starts_with(w))?;
                fortran_order = Some(word == "True");
                &value[word.len()..]
            }
            "shape" => {
                let (list, after) = value.strip_prefix('(')?.split_once(')')?;
                let parts = list.split(',').map(str::trim).filter(|p| !p.is_empty());
                extents = Some(parts.map(|p| p.parse().ok()).collect::<Option<Vec<usize>>>()?);
                after
            }
            _ => return None,
        };
    }
    Some(Header { descr: descr?, fortran_order: fortran_order?, extents: extents? })
}

/// The text in quotation marks that `text` begins with, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(mark)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Array> {
        super::read(name, bytes, 16)
    }

    /// A file as NumPy writes it.
    pub(in crate::data) fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
        header.push_str(&" ".repeat(length - header.len() - 1));
        header.push('\n');
        let mut out = MAGIC.to_vec();
        out.extend([1, 0]);
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn all_types_and_both_byte_orders() {
        let integers = |descr: &str, data: &[u8]| {
            let n = format!("({},)", data.len() / descr[2..].parse::<usize>().unwrap());
            match read("x", &file(descr, &n, data)).unwrap().values {
                Values::Integers(v) => v,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(integers("|i1", &[255, 2]), [-1, 2]);
        assert_eq!(integers(">i2", &[1, 0, 0, 2]), [256, 2]);
        assert_eq!(integers("<u4", &[0, 0, 0, 128]), [1 << 31]);
        assert_eq!(integers("<u8", &[255; 8]), [i64::MAX]);
        let Values::Floats(v) =
            read("x", &file(">f8", "()", &1.5f64.to_be_bytes())).unwrap().values
        else {
            panic!("not floats")
        };
        assert_eq!(v, [1.5]);
        let array = read("x", &file("|u1", "(1, 2)", &[7, 8])).unwrap();
        assert_eq!(array.extents, [1, 2]);
        assert!(matches!(array.values, Values::Bytes(v) if v == [7, 8]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |bytes: &[u8]| read("a.npy", bytes).unwrap_err().to_string();
        assert_eq!(message(b"PK"), "a.npy: begins with \"PK\", expected \"\\x93NUMPY\"");
        let short = message(&file("<f4", "(2,)", &[0; 7]));
        assert_eq!(
            short,
            "a.npy: the header promises [2] values of 4 bytes, found 7 bytes after it"
        );
        let long = message(&file("|u1", "(2,)", &[0; 9]));
        assert!(long.ends_with("promises [2] values of 1 bytes, found more than 2 bytes after it"));
        for extents in ["[17]", "[4294967296, 4294967296]"] {
            let huge = message(&file("|i1", &extents.replace('[', "(").replace(']', ")"), &[]));
            let promised = format!("a.npy: the header promises {extents} values of 1 bytes, ");
            assert_eq!(huge, promised + "expected at most 16 bytes in all");
        }
        let head = file("<f4", "(2,)", &[0; 8]);
        assert_eq!(message(&head[..9]), "a.npy: 9 bytes, expected a longer header");
        assert_eq!(message(&head[..70]), "a.npy: 70 bytes, expected a longer header");
        let text = message(&file("<U4", "(1,)", &[0; 16]));
        assert_eq!(text, "a.npy: values of type \"<U4\", expected numbers");
        let mut turned = file("|u1", "(1, 1)", &[1]);
        let at = turned.windows(5).position(|w| w == b"False").unwrap();
        turned[at..at + 5].copy_from_slice(b"True ");
        assert_eq!(message(&turned), "a.npy: an array in Fortran order, expected C order");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text: String, bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = (parse(&text), parse(&format!("{{{text}}}")), read("x", &bytes));
        }

        #[test]
        fn no_mutation_makes_it_panic(at: prop::sample::Index, byte: u8, cut in 0usize..80) {
            let mut bytes = file("<f4", "(2, 1)", &[0; 8]);
            let n = bytes.len();
            bytes[at.index(n)] = byte;
            bytes.truncate(n - cut.min(n));
            let _ = read("x", &bytes);
        }
    }
}
