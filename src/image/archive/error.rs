//! Why an archive cannot be used.

use std::{io, path::PathBuf};

use crate::{
    image::{document::DocumentError, store::StoreError},
    model::Digest,
};

/// What can go wrong with a file or folder of images. A member is a file in it, by the name that it has there.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file or folder itself.
    #[error("cannot read {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A compressed one is broken.
    #[error("cannot decompress it")]
    Decompress {
        /// What is wrong.
        source: io::Error,
    },
    /// It is compressed in a way that is not known here.
    #[error("it is compressed with {0}, which is not supported; decompress it first")]
    Compression(&'static str),
    /// The temporary file that a compressed one, or a stream, goes to.
    #[error("cannot make a temporary copy in {}", folder.display())]
    Spool {
        /// Where it would be.
        folder: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// More than is taken.
    #[error("it has more than {limit} {what}")]
    TooMuch {
        /// Bytes, or members.
        what: &'static str,
        /// How many are taken.
        limit: u64,
    },
    /// Not a tar archive, or a broken one.
    #[error("it is not a tar archive that can be read: {why} at byte {offset}")]
    Tar {
        /// Where, from the beginning of the uncompressed archive.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A tar archive or folder that holds no images, or holds them in another way than was said.
    #[error("it is not {wanted}: {why}")]
    Kind {
        /// What it should be.
        wanted: &'static str,
        /// What is missing, and what it may be instead.
        why: String,
    },
    /// A member is not there.
    #[error("`{member}` is missing")]
    Missing {
        /// Which.
        member: String,
    },
    /// A member cannot be read.
    #[error("cannot read `{member}`")]
    Member {
        /// Which.
        member: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The archive ends before the member does.
    #[error("it ends in the middle of `{member}`")]
    Truncated {
        /// Which.
        member: String,
    },
    /// A member is a link to one that leads back to it.
    #[error("`{member}` is a link that never ends")]
    Loop {
        /// Which.
        member: String,
    },
    /// A member is of a kind that cannot be read.
    #[error("`{member}` is not a plain file")]
    NotAFile {
        /// Which.
        member: String,
    },
    /// A document is larger than is taken.
    #[error("`{member}` has {size} bytes; at most {limit} are taken")]
    TooLarge {
        /// Which.
        member: String,
        /// Bytes that it has.
        size: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// A member has another size than the document that leads to it says.
    #[error("`{member}` should have {expected} bytes and has {actual}")]
    Size {
        /// Which.
        member: String,
        /// Bytes that were promised.
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// A member has another content than the document that leads to it says.
    #[error("`{member}` should have digest {expected} and has {actual}")]
    Mismatch {
        /// Which.
        member: String,
        /// What was promised.
        expected: Digest,
        /// What there is.
        actual: Digest,
    },
    /// A member that should be JSON of some kind is not.
    #[error("`{member}` is not valid: {why}")]
    Broken {
        /// Which.
        member: String,
        /// What is wrong.
        why: String,
    },
    /// A manifest, index or configuration.
    #[error("cannot use `{member}`")]
    Document {
        /// Which.
        member: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// There is no image at all.
    #[error("there is no image in it")]
    Empty,
    /// There is no image of this name.
    #[error("there is no image `{wanted}` in it; there are: {there}")]
    NoSuchImage {
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// There are several, and nothing says which is meant.
    #[error("there are several images in it that could be meant: {there}")]
    Several {
        /// What there is.
        there: String,
    },
    /// The store.
    #[error("cannot keep `{member}`")]
    Store {
        /// What was to be kept.
        member: String,
        /// What is wrong with the store.
        source: StoreError,
    },
    /// An image of the store cannot be read.
    #[error("cannot read an image of the store")]
    Stored(#[from] StoreError),
    /// A blob of the store that has no longer the size or the content that it goes by.
    #[error("blob {digest} of the store is damaged")]
    Damaged {
        /// Which.
        digest: Digest,
    },
    /// What is being written cannot be.
    #[error("cannot write {what}")]
    Write {
        /// Which member or file.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ArchiveError {
    /// A closure that puts a member to what is wrong with a document.
    pub(super) fn document(member: &str) -> impl FnOnce(DocumentError) -> Self {
        let member = member.to_owned();
        move |source| Self::Document { member, source }
    }

    /// A closure that puts a member to an error of the store; that the content is wrong is then the member's fault.
    pub(super) fn store(member: &str) -> impl FnOnce(StoreError) -> Self {
        let member = member.to_owned();
        move |source| match source {
            StoreError::Mismatch { expected, actual } => Self::Mismatch { member, expected, actual },
            StoreError::Size { expected, actual, .. } => Self::Size { member, expected, actual },
            source => Self::Store { member, source },
        }
    }

    /// A closure that puts what was being written to an error of the kernel.
    pub(super) fn write(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Write { what, source }
    }
}
