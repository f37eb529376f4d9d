//! Values that are one word: texts, numbers, sizes, times.

mod byte_size;
mod duration;
mod flag;
mod number;
mod quoted;
mod split;
mod text;
mod words;

pub use byte_size::ByteSize;
pub(crate) use byte_size::not_a_size;
pub use duration::Span;
pub use flag::{Flag, StrictFlag};
pub use number::{Decimal, Int, Truncated};
pub use quoted::{Quoted, TextOrNothing, TextOrWhole, Unquoted};
pub use text::{HostPath, Pattern, PatternText, Text, TextOrNumber};
pub use words::Words;
