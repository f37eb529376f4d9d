//! shim
use super::tree::Node;
pub(crate) type Path = Vec<String>;
pub(crate) fn take(_: &mut Node) -> Vec<Path> {
    Vec::new()
}
pub(crate) fn apply(_: &[Path], _: &mut Node) {}
