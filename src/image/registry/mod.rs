//! Talking to registries (OCI Distribution Specification): manifests and blobs by name and digest, there and back.
//!
//! ```text
//!                     config.yaml ─┐            ┌─ mirror  ─┐
//! config.json, auth.json, helpers ─┼─▶ Registry ┼─ mirror  ─┼─▶ manifest(), manifest_digest(), blob() ──download──▶ BlobWriter
//!           certs.d, HTTPS_PROXY ──┘            └─ itself  ─┘   push_blob(), push_manifest()               └──────▶ sink
//! ```
//!
//! Mirrors are asked in their order and then the registry itself, which alone is written to. What may pass by itself, such as
//! a connection that breaks, is tried again a few times and told as a [`RegistryEvent`]; nothing waits without an end.
//!
//! Content is never taken from the `urls` of a descriptor (foreign layers): they lead to servers that the registry's name
//! says nothing of. Layers that are nowhere else are reported as missing.
//!
//! Not here: which image of an index is meant (image/document.rs), and where content is kept (image/store).

mod auth;
mod certificates;
mod challenge;
mod client;
mod credentials;
mod download;
mod endpoint;
mod error;
mod events;
mod refusal;
mod settings;
mod upload;

pub use client::{Access, Blob, Fetched, Patience, Registry};
pub use credentials::{CredentialError, CredentialSources, Tried};
pub use download::download;
pub use endpoint::{CertificateFolders, Proxies};
pub use error::{RegistryError, TlsMistake};
pub use events::RegistryEvent;
pub use settings::{Mirror, RegistryHost, RegistryOptions, RegistrySettings};
pub use upload::Pushed;
