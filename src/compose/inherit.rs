//! Types that are another with rules of their own.

/// In an `impl Format` of a type whose only field is an `$inner`: these are as `$inner` has them.
macro_rules! inherit {
    ($inner:ty: $($method:ident)*) => {
        $( $crate::compose::inherit::method!($inner, $method); )*
    };
}

macro_rules! method {
    ($inner:ty, canonical) => {
        fn canonical(node: $crate::yaml::tree::Node, cx: &mut $crate::compose::Reader<'_>) -> $crate::yaml::tree::Node {
            <$inner as $crate::compose::Format>::canonical(node, cx)
        }
    };
    ($inner:ty, merge) => {
        fn merge(
            earlier: $crate::yaml::tree::Node,
            later: $crate::yaml::tree::Node,
            merger: &mut $crate::compose::Merger<'_>,
        ) -> $crate::yaml::tree::Node {
            <$inner as $crate::compose::Format>::merge(earlier, later, merger)
        }
    };
    ($inner:ty, settle) => {
        fn settle(node: &mut $crate::yaml::tree::Node, folder: &$crate::compose::Folder<'_>) {
            <$inner as $crate::compose::Format>::settle(node, folder);
        }
    };
    ($inner:ty, read) => {
        fn read(node: &$crate::yaml::tree::Node, cx: &mut $crate::compose::Reader<'_>) -> Option<Self> {
            <$inner as $crate::compose::Format>::read(node, cx).map(Self)
        }
    };
    ($inner:ty, omitted) => {
        fn omitted(&self) -> bool {
            $crate::compose::Format::omitted(&self.0)
        }
    };
    ($inner:ty, schema) => {
        fn schema(schemas: &mut $crate::compose::Schemas) -> serde_json::Value {
            <$inner as $crate::compose::Format>::schema(schemas)
        }
    };
    ($inner:ty, keys) => {
        fn keys() -> $crate::compose::Keys {
            <$inner as $crate::compose::Format>::keys()
        }
    };
    ($inner:ty, visit) => {
        fn visit(node: &$crate::yaml::tree::Node, visitor: &mut $crate::compose::Visitor<'_>) {
            <$inner as $crate::compose::Format>::visit(node, visitor);
        }
    };
}

pub(crate) use {inherit, method};
