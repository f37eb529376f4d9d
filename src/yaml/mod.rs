//! YAML as a tree in which every value knows where it was written, and how it came to where it is.
//!
//! ```text
//! text ──saphyr-parser──▶ events ──parse/──▶ Node (tree.rs)
//!                                    └─ what a plain scalar means: scalar.rs
//! ```
//!
//! It reads what Compose's own YAML library reads, with its rules of YAML 1.1 and 1.2, and knows no Compose.

#[cfg(test)]
mod oracle;
pub(crate) mod parse;
pub(crate) mod scalar;
pub(crate) mod tree;
