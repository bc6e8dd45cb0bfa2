//! Values and rows as both backends speak them: four kinds, no more.
//!
//! Promises: a getter never guesses; a column of another kind is an error that names the column.
//! There is no floating point on purpose: nothing in the store is one.

use super::error::{Result, StoreError};
use std::sync::Arc;

/// One value, as a parameter or a column.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Int(_) => "an integer",
            Value::Text(_) => "text",
            Value::Blob(_) => "bytes",
        }
    }
}

/// Values may be secret (a sealed credential, a hash of a key): Debug tells the kind and size alone.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => f.write_str("Null"),
            Value::Int(value) => write!(f, "Int({value})"),
            Value::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Value::Blob(bytes) => write!(f, "Blob({} bytes)", bytes.len()),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $make:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(from: $from) -> Self {
                ($make)(from)
            }
        })*
    };
}

value_from! {
    i64 => Value::Int,
    i32 => |value| Value::Int(i64::from(value)),
    u32 => |value| Value::Int(i64::from(value)),
    u16 => |value| Value::Int(i64::from(value)),
    u8 => |value| Value::Int(i64::from(value)),
    bool => |value| Value::Int(i64::from(value)),
    String => Value::Text,
    &str => |text: &str| Value::Text(text.to_owned()),
    &String => |text: &String| Value::Text(text.clone()),
    Vec<u8> => Value::Blob,
    &[u8] => |bytes: &[u8]| Value::Blob(bytes.to_vec()),
}

/// Ids are u64 in the program and BIGINT in the store: the same 64 bits.
impl From<u64> for Value {
    fn from(id: u64) -> Self {
        Value::Int(id.cast_signed())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Value::Blob(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Value::Blob(bytes.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(maybe: Option<T>) -> Self {
        maybe.map_or(Value::Null, Into::into)
    }
}

/// Parameters of a statement: `params![account, "enabled", bytes]` stands for `?1, ?2, ?3`.
#[macro_export]
macro_rules! store_params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::Value::from($value)),*] as &[$crate::store::Value]
    };
}

/// One row of an answer. Columns are counted from 0.
#[derive(Debug, Clone)]
pub struct Row {
    pub(super) names: Arc<[String]>,
    pub(super) values: Vec<Value>,
}

impl Row {
    /// Number of columns.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The column as it is.
    pub fn value(&self, column: usize) -> Result<&Value> {
        self.values.get(column).ok_or_else(|| {
            StoreError::other(format!("column {column} asked of a row with {}", self.values.len()))
        })
    }

    /// The number of the column of that name.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| StoreError::other(format!("no column {name} in this row")))
    }

    pub fn int(&self, column: usize) -> Result<i64> {
        match self.value(column)? {
            Value::Int(value) => Ok(*value),
            other => Err(self.wrong(column, other, "an integer")),
        }
    }

    pub fn text(&self, column: usize) -> Result<&str> {
        match self.value(column)? {
            Value::Text(text) => Ok(text),
            other => Err(self.wrong(column, other, "text")),
        }
    }

    pub fn blob(&self, column: usize) -> Result<&[u8]> {
        match self.value(column)? {
            Value::Blob(bytes) => Ok(bytes),
            other => Err(self.wrong(column, other, "bytes")),
        }
    }

    /// An id or another unsigned value: the same 64 bits as stored.
    pub fn id(&self, column: usize) -> Result<u64> {
        Ok(self.int(column)?.cast_unsigned())
    }

    /// An integer within the range of `u32` (counts, shards, codes).
    pub fn u32(&self, column: usize) -> Result<u32> {
        u32::try_from(self.int(column)?).map_err(|error| {
            StoreError::corrupt(format!("column {} is out of range", self.name(column))).caused_by(error)
        })
    }

    /// Bytes of exactly `N`, such as a hash.
    pub fn bytes<const N: usize>(&self, column: usize) -> Result<[u8; N]> {
        let bytes = self.blob(column)?;
        <[u8; N]>::try_from(bytes).map_err(|_| {
            let name = self.name(column);
            StoreError::corrupt(format!("column {name} has {} bytes, expected {N}", bytes.len()))
        })
    }

    pub fn is_null(&self, column: usize) -> Result<bool> {
        Ok(matches!(self.value(column)?, Value::Null))
    }

    /// `None` for NULL, else what `get` reads: `row.maybe(2, Row::int)`.
    pub fn maybe<'r, T>(
        &'r self,
        column: usize,
        get: impl FnOnce(&'r Self, usize) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.is_null(column)? { Ok(None) } else { get(self, column).map(Some) }
    }

    /// The value itself, without a copy; leaves NULL in its place.
    pub fn take_blob(&mut self, column: usize) -> Result<Vec<u8>> {
        self.blob(column)?;
        match self.values.get_mut(column).map(|value| std::mem::replace(value, Value::Null)) {
            Some(Value::Blob(bytes)) => Ok(bytes),
            _ => Err(StoreError::other("the column changed its kind")),
        }
    }

    pub fn take_text(&mut self, column: usize) -> Result<String> {
        self.text(column)?;
        match self.values.get_mut(column).map(|value| std::mem::replace(value, Value::Null)) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(StoreError::other("the column changed its kind")),
        }
    }

    fn name(&self, column: usize) -> &str {
        self.names.get(column).map_or("?", String::as_str)
    }

    fn wrong(&self, column: usize, found: &Value, wanted: &str) -> StoreError {
        StoreError::corrupt(format!("column {} is {}, expected {wanted}", self.name(column), found.kind()))
    }
}
