//! The Compose file format as types: what may be written, what it means in full, and what is done about it.
//!
//! ```text
//! spanned tree ──canonical──▶ long forms ──merge──▶ one tree ──read──▶ Project ──serde──▶ what `config` prints
//!                   │             │                    │        │
//!                   └─────────────┴── a type per value, each with all its rules in one place: format.rs, mapping.rs
//!                                                               │
//!                                          JSON Schema (schemas.rs), reference of keys, what `up` refuses (visit.rs)
//! ```
//!
//! A file per kind of mapping. To add a key: a line with its doc comment in the struct that it belongs to. Where a value
//! has rules of its own (a short form, a way of merging), a type that says them.

mod assignments;
mod build;
mod choice;
mod collections;
mod deploy;
mod develop;
mod document;
mod extra_hosts;
mod format;
mod healthcheck;
mod host_path;
mod inherit;
mod mapping;
mod merger;
mod misplaced;
mod port;
mod project;
mod reader;
mod reference;
mod resources;
mod scalar;
mod schemas;
mod service;
mod tree_text;
mod untyped;
mod values;
mod visit;
mod volume_mount;

pub use assignments::{Contexts, Environment, Labels};
pub use build::{Build, Context, FlagText, Hook, Ssh};
pub use collections::{Distinct, Kept, List, Map, Named, Nullable, OneOrMany, Set};
pub use deploy::*;
pub use develop::*;
pub use document::Document;
pub use extra_hosts::ExtraHosts;
pub use healthcheck::{Healthcheck, Probe};
pub use port::{Port, Ports};
pub use project::{Include, Project, schema};
pub use reference::reference;
pub use resources::{Config, External, ExternalName, Ipam, IpamConfig, IpamRanges, Model, Network, Secret, Volume};
pub(crate) use scalar::not_a_size;
pub use scalar::{
    ByteSize, Decimal, Flag, HostPath, Int, Pattern, PatternText, Quoted, Span, StrictFlag, Text, TextOrNothing,
    TextOrNumber, TextOrWhole, Truncated, Unquoted, Words,
};
pub use service::*;
pub use untyped::{Extensions, Untyped};
pub use volume_mount::*;

pub(crate) use format::{Field, Folder, Format, Group, Keys, Support, omitted};
pub(crate) use host_path::{clean, resolve_path};
pub(crate) use mapping::Mapping;
pub(crate) use merger::Merger;
pub(crate) use misplaced::misplaced;
pub(crate) use reader::{Reader, has_variable, located, located_key};
pub(crate) use resources::is_external;
pub(crate) use schemas::Schemas;
pub(crate) use tree_text::fingerprint;
pub(crate) use values::{
    LOG_DRIVERS as REFUSED_LOG_DRIVERS, LOG_MODES as REFUSED_LOG_MODES, RefusedValue,
    SECURITY_OPTIONS as REFUSED_SECURITY_OPTIONS, TMPFS_OPTIONS as REFUSED_TMPFS_OPTIONS, harmless, refused,
};
pub(crate) use visit::{Visited, Visitor};
