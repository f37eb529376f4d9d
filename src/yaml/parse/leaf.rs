//! A scalar becomes a node, and a tag of any value a directive.

use std::borrow::Cow;

use saphyr_parser::{ScalarStyle, Tag};

use super::{
    Anchored, Builder, Finished, Frame, FrameKind, Tagged,
    tag::{self, Meaning},
    trimmed,
};
use crate::{
    diagnostics::{Diagnostic, Span},
    yaml::{
        scalar,
        tree::{Directive, Node, Scalar, ScalarKind, Value},
    },
};

impl<'a> Builder<'a> {
    pub(super) fn scalar(
        &mut self,
        text: Cow<'a, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Tagged<'a>,
        span: Span,
    ) -> Result<Finished, Diagnostic> {
        let directive = self.directive(tag.as_deref(), &span);
        let tag = tag.map(|tag| (tag, trimmed(span.clone())));
        let written = trimmed(if anchor > 0 || tag.is_some() { without_properties(&span) } else { span });
        let merge = text == "<<"
            && style == ScalarStyle::Plain
            && tag
                .as_ref()
                .is_none_or(|(tag, _)| matches!(tag::meaning(tag), Meaning::Nothing | Meaning::Core("merge")));
        let (text, kind) = match &tag {
            // What would be taken away is not looked at.
            Some(_) if directive == Some(Directive::Reset) => (Cow::Borrowed(""), ScalarKind::Null),
            Some((tag, whole)) => tag::scalar(text, style, tag, whole)?,
            None if style == ScalarStyle::Plain => {
                let kind = scalar::classify(&text);
                (text, kind)
            }
            None => (text, ScalarKind::String),
        };
        if directive == Some(Directive::Override)
            && style == ScalarStyle::Plain
            && scalar::classify(&text) == ScalarKind::Null
        {
            self.diagnostics.push(
                Diagnostic::warning(format!("`!override` makes this the text `{text}`, not nothing"))
                    .at(&written)
                    .hint("to take away what earlier files say, write `!reset null`"),
            );
        }
        if text.contains('\0') {
            return Err(Diagnostic::error("the value contains a NUL character, which no text has").at(&written));
        }
        self.text += text.len();
        self.count(1, &written)?;
        let scalar = Scalar { text: self.texts.get(&text), kind, interpolated: false };
        let node = Node { directive, ..Node::new(written, Value::Scalar(scalar)) };
        if anchor > 0 {
            let node = node.clone();
            self.anchors.insert(anchor, Some(Anchored { node, nodes: 1, text: text.len(), height: 0 }));
        }
        Ok(Finished { node, height: 0, merge })
    }

    /// The directive that a tag is, and what there is to say about the tag.
    pub(super) fn directive(&mut self, tag: Option<&Tag>, span: &Span) -> Option<Directive> {
        let tag = tag?;
        let span = trimmed(span.clone());
        let Meaning::Directive(directive) = tag::meaning(tag) else {
            tag::warn_unknown(tag, &span, self.diagnostics);
            return None;
        };
        let key = matches!(
            self.stack.last(),
            Some(Frame { kind: FrameKind::Mapping(mapping), .. }) if !mapping.expects_value()
        );
        let shown = tag::shown(tag);
        let nothing = if key {
            Some(("on a key", "put it in front of the value"))
        } else if self.overriding > 0 && directive == Directive::Reset {
            Some(("below `!override`", "leave the key out: nothing of what earlier files say is kept here"))
        } else if self.stack.is_empty() && directive == Directive::Override {
            Some(("on a whole file", "put it in front of the values that are to be replaced"))
        } else {
            None
        };
        if let Some((place, hint)) = nothing {
            let message = format!("`{shown}` does nothing {place}");
            self.diagnostics.push(Diagnostic::warning(message).at(&span).hint(hint));
        }
        if nothing.is_some() || self.overriding > 0 {
            return None;
        }
        self.resets += usize::from(directive == Directive::Reset);
        Some(directive)
    }
}

/// The span of a scalar without the tag and the anchor in front of it.
fn without_properties(span: &Span) -> Span {
    let text = span.text();
    let mut rest = text;
    while rest.starts_with(['&', '!']) {
        rest = rest.find(char::is_whitespace).map_or("", |end| rest[end..].trim_start());
    }
    // A value of nothing stands where its properties do.
    if rest.is_empty() { span.clone() } else { span.part(text.len() - rest.len()..text.len()) }
}
