//! What a learner or an encoder remembers, as named arrays.
//!
//! Names are an interface: lower case, parts joined by dots (`layer0.weight`), stable between
//! releases; renaming one bumps the checkpoint's format version. Shapes are written with the
//! slowest index first.

use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};

/// One array: shape and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extents, slowest first. Empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, last index fastest.
    pub values: Values,
}

macro_rules! values {
    ($($variant:ident $type:ty, $dtype:ident, $doc:literal;)*) => {
        /// Values of an [`Array`] in one of the storable types.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Values { $(#[doc = $doc] $variant(Vec<$type>),)* }

        impl Values {
            /// Number of values.
            #[allow(clippy::len_without_is_empty)]
            pub fn len(&self) -> usize {
                match self { $(Values::$variant(v) => v.len(),)* }
            }

            /// The type's name.
            pub fn type_name(&self) -> &'static str {
                match self { $(Values::$variant(_) => stringify!($type),)* }
            }

            fn dtype(&self) -> Dtype {
                match self { $(Values::$variant(_) => Dtype::$dtype,)* }
            }

            fn to_le_bytes(&self) -> Vec<u8> {
                match self { $(Values::$variant(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),)* }
            }

            fn from_le_bytes(dtype: Dtype, bytes: &[u8]) -> Option<Self> {
                match dtype {
                    $(Dtype::$dtype => Some(Values::$variant(
                        bytes.chunks_exact(size_of::<$type>())
                            .map(|b| <$type>::from_le_bytes(b.try_into().expect("exact chunk")))
                            .collect(),
                    )),)*
                    _ => None,
                }
            }
        }

        $(impl From<Vec<$type>> for Values {
            fn from(v: Vec<$type>) -> Self { Values::$variant(v) }
        }

        impl Stored for $type {
            const NAME: &'static str = stringify!($type);
            fn of(values: &Values) -> Option<&[Self]> {
                match values { Values::$variant(v) => Some(v), _ => None }
            }
        })*
    };
}

/// A type that a [`State`] can hold.
pub trait Stored: Copy {
    /// The type's name.
    const NAME: &'static str;
    /// The values, if they are of this type.
    fn of(values: &Values) -> Option<&[Self]>;
}

values! {
    F32 f32, F32, "Single precision.";
    F64 f64, F64, "Double precision.";
    U8 u8, U8, "Bytes, masks, packed bits.";
    U32 u32, U32, "Unsigned 32-bit.";
    I32 i32, I32, "Signed 32-bit.";
    U64 u64, U64, "Counters.";
    I64 i64, I64, "Signed 64-bit.";
}

/// Named arrays. Two states are equal when names, shapes, types and values are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    arrays: BTreeMap<String, Array>,
}

impl State {
    /// A state without arrays.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an array.
    ///
    /// # Panics
    ///
    /// If the name is taken or the number of values is not the product of the shape.
    pub fn put(&mut self, name: &str, shape: &[usize], values: impl Into<Values>) {
        let values = values.into();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: values fill the shape");
        let old = self.arrays.insert(name.to_owned(), Array { shape: shape.to_vec(), values });
        assert!(old.is_none(), "{name}: a name is used once");
    }

    /// The values of an array whose shape and type must be as given.
    ///
    /// # Errors
    ///
    /// Names the array, what was expected and what was found.
    pub fn get<T: Stored>(&self, name: &str, shape: &[usize]) -> Result<&[T]> {
        let array = self.array(name)?;
        if array.shape != shape {
            return Err(Error::checkpoint(format!(
                "array {name} has shape {:?}, expected {shape:?}",
                array.shape
            )));
        }
        T::of(&array.values).ok_or_else(|| {
            Error::checkpoint(format!(
                "array {name} holds {}, expected {}",
                array.values.type_name(),
                T::NAME
            ))
        })
    }

    /// The array called `name`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn array(&self, name: &str) -> Result<&Array> {
        self.arrays.get(name).ok_or_else(|| Error::checkpoint(format!("array {name} is missing")))
    }

    /// One value stored as an array of shape `[]`.
    ///
    /// # Errors
    ///
    /// As [`State::get`].
    pub fn scalar<T: Stored>(&self, name: &str) -> Result<T> {
        Ok(self.get::<T>(name, &[])?[0])
    }

    /// Adds all arrays of `other`, named `prefix.name`.
    pub fn nest(&mut self, prefix: &str, other: State) {
        for (name, array) in other.arrays {
            self.put(&format!("{prefix}.{name}"), &array.shape, array.values);
        }
    }

    /// The arrays named `prefix.…`, without the prefix.
    pub fn sub(&self, prefix: &str) -> State {
        let arrays = self.arrays.iter().filter_map(|(name, array)| {
            let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((rest.to_owned(), array.clone()))
        });
        State { arrays: arrays.collect() }
    }

    /// Names and arrays in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.arrays.iter().map(|(n, a)| (n.as_str(), a))
    }

    /// Number of arrays.
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// True without arrays.
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// The state and some text entries as the bytes of a safetensors file. Equal arguments give
    /// equal bytes: the entries are kept as one JSON text under a single key.
    pub fn to_safetensors(&self, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        let bytes: Vec<(&str, &Array, Vec<u8>)> =
            self.iter().map(|(n, a)| (n, a, a.values.to_le_bytes())).collect();
        let views = bytes.iter().map(|(name, array, bytes)| {
            let view = TensorView::new(array.values.dtype(), array.shape.clone(), bytes);
            (*name, view.expect("values fill the shape"))
        });
        let text = serde_json::to_string(metadata).expect("texts are JSON");
        let entries = HashMap::from([("spiketrain".to_owned(), text)]);
        safetensors::serialize(views, Some(entries)).expect("arrays are well formed")
    }

    /// Reads what [`State::to_safetensors`] wrote. Plain safetensors files of other origin give
    /// their own text entries.
    ///
    /// # Errors
    ///
    /// If the bytes are no safetensors file or hold a type that is not supported.
    pub fn from_safetensors(bytes: &[u8]) -> Result<(State, BTreeMap<String, String>)> {
        let wrong = |e: safetensors::SafeTensorError| {
            Error::checkpoint(format!("not a safetensors file: {e}"))
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(wrong)?;
        let mut state = State::new();
        for (name, view) in tensors.iter() {
            let values = Values::from_le_bytes(view.dtype(), view.data()).ok_or_else(|| {
                Error::checkpoint(format!(
                    "array {name} has type {:?}, which is not supported",
                    view.dtype()
                ))
            })?;
            state.put(name, view.shape(), values);
        }
        let entries: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        let metadata = match entries.get("spiketrain") {
            Some(text) => serde_json::from_str(text)
                .map_err(|e| Error::checkpoint(format!("metadata is not JSON: {e}")))?,
            None => entries,
        };
        Ok((state, metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let mut inner = State::new();
        inner.put("w", &[2, 2], vec![1.0f32, f32::NAN, f32::INFINITY, -0.0]);
        let mut state = State::new();
        state.put("n", &[], vec![7u64]);
        state.nest("layer0", inner);
        let metadata = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "é".into())]);
        let bytes = state.to_safetensors(&metadata);
        assert_eq!(bytes, state.to_safetensors(&metadata));
        let (back, entries) = State::from_safetensors(&bytes).unwrap();
        assert_eq!(entries, metadata);
        assert_eq!(back.to_safetensors(&metadata), bytes);
        assert_eq!(back.scalar::<u64>("n").unwrap(), 7);
        assert_eq!(back.sub("layer0").get::<f32>("w", &[2, 2]).unwrap()[0], 1.0);
    }

    #[test]
    fn errors_name_the_array() {
        let mut state = State::new();
        state.put("w", &[2], vec![1.0f32, 2.0]);
        let message = |r: Result<&[f32]>| r.unwrap_err().to_string();
        assert_eq!(message(state.get("v", &[2])), "array v is missing");
        assert_eq!(message(state.get("w", &[1, 2])), "array w has shape [2], expected [1, 2]");
        let other = state.get::<f64>("w", &[2]).unwrap_err().to_string();
        assert_eq!(other, "array w holds f32, expected f64");
    }
}
