//! Words of which one is chosen.

/// Declares an enum that is read from, and written as, one word of a list.
macro_rules! choice {
    ($(#[doc = $doc:literal])* pub enum $name:ident { $( $(#[doc = $variant_doc:literal])* $variant:ident = $word:literal, )* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
        pub enum $name {
            $( $(#[doc = $variant_doc])* #[serde(rename = $word)] $variant, )*
        }

        impl $crate::compose::Format for $name {
            fn read(
                node: &$crate::yaml::tree::Node,
                cx: &mut $crate::compose::Reader<'_>,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),*];
                match cx.string(node)? {
                    $( $word => Some(Self::$variant), )*
                    other => {
                        $crate::compose::choice::unknown(other, WORDS, node, cx);
                        None
                    }
                }
            }
            fn schema(schemas: &mut $crate::compose::Schemas) -> serde_json::Value {
                schemas.or_variable(serde_json::json!({"enum": [$($word),*]}))
            }
        }
    };
}

pub(crate) use choice;

use super::Reader;
use crate::{diagnostics::Diagnostic, yaml::tree::Node};

pub(crate) fn unknown(word: &str, words: &[&str], node: &Node, cx: &mut Reader<'_>) {
    let listed: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    let what = cx.what();
    let meant = cx.suggest(word, words.iter().copied());
    cx.report(
        Diagnostic::error(format!("`{word}` is nothing that {what} may be"))
            .did_you_mean(meant)
            .hint(format!("it may be {}", listed.join(", "))),
        node,
    );
}
