//! The reference of keys as a page of Markdown, from the declarations of the format.

use std::fmt::Write;

use super::{
    Field, Format, Group, Project, Support,
    values::{HARMLESS, REFUSED},
};

/// A page with every key of the format: what it says, and what is made of it.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    let top = Project::keys();
    let fields: Vec<&Field> = top.groups.iter().flat_map(|group| group.fields.iter().copied()).collect();
    let alone = |field: &&Field| (field.keys)().groups.is_empty();
    table(&mut page, |rows| fields.iter().filter(|field| alone(field)).for_each(|field| row(rows, "", field, None)));
    for field in fields.iter().filter(|field| !alone(field)) {
        let keys = (field.keys)();
        let _ = writeln!(page, "\n## `{}`", field.name);
        if keys.groups.len() == 1 {
            table(&mut page, |rows| row(rows, "", field, None));
            continue;
        }
        table(&mut page, |rows| only(rows, "", field, None));
        let prefix = format!("{}{}", field.name, keys.below);
        for group in &keys.groups {
            let _ = writeln!(page, "\n### {}", text(group.doc).trim_end_matches('.'));
            table(&mut page, |rows| all(rows, &prefix, group, below(None, field.support)));
        }
    }
    page.push_str("\n## Values that are refused\n\nOf keys that work:\n\n| key | values | instead |\n|---|---|---|\n");
    for refused in REFUSED {
        let _ = writeln!(page, "| `{}` | {} | {} |", refused.path, listed(refused.values), cell(refused.hint));
    }
    page.push_str(
        "\n## Values that are taken\n\nOf keys that are refused, since they say what is so anyway; so does an empty list or \
         mapping, and one whose parts all do:\n\n| key | values |\n|---|---|\n",
    );
    for (path, values) in HARMLESS {
        let _ = writeln!(page, "| `{path}` | {} |", listed(values));
    }
    page
}

const HEAD: &str = "\
# Keys of a Compose file

Generated from the types of the format by `UPDATE_GOLDEN=1 cargo test --test reference`; `cargo test` checks that it is
current.

- **works**: it does what the Compose Specification says. What other programs keep in a daemon or an image is done without.
- **in part**: some values are refused, which the end of this page lists.
- **loading**: it has done its work once the file is loaded.
- **metadata**: it tells people and tools something, and nothing that runs is any different for it. It is taken in silence.
- **no effect**: leaving it out loses nothing that is worth an error; a warning says so.
- **refused**: it is an error, or, with `--allow-unsupported`, left out with a warning. Some values are taken all the same:
  see the end.

What stands below a key that does not work is as that key. Everywhere but in a few mappings keys that begin with `x-` may
stand too, which are the author's own. In a path, `*` is a name of the author's choice, and `[]` an item of a list.
";

fn table(page: &mut String, rows: impl FnOnce(&mut String)) {
    page.push_str("\n| key | | what it says |\n|---|---|---|\n");
    rows(page);
}

/// The keys of a group and all that is below them.
fn all(rows: &mut String, prefix: &str, group: &Group, from: Option<Support>) {
    group.fields.iter().for_each(|field| row(rows, prefix, field, from));
}

/// A key and all that is below it; `from` is what is made of the key above, where that is what counts.
fn row(rows: &mut String, prefix: &str, field: &Field, from: Option<Support>) {
    only(rows, prefix, field, from);
    let keys = (field.keys)();
    let prefix = format!("{}{}", path(prefix, field), keys.below);
    keys.groups.iter().for_each(|group| all(rows, &prefix, group, below(from, field.support)));
}

fn below(from: Option<Support>, own: Support) -> Option<Support> {
    from.or((own != Support::Works).then_some(own))
}

fn path(prefix: &str, field: &Field) -> String {
    if prefix.is_empty() { field.name.to_owned() } else { format!("{prefix}.{}", field.name) }
}

/// The row of one key.
fn only(rows: &mut String, prefix: &str, field: &Field, from: Option<Support>) {
    let path = path(prefix, field);
    let in_part = REFUSED.iter().any(|refused| refused.path.trim_end_matches("[]") == path);
    let (support, more) = match from.unwrap_or(field.support) {
        Support::Works if in_part => ("in part", ""),
        Support::Works => ("works", ""),
        Support::Loaded => ("loading", ""),
        Support::Metadata => ("metadata", ""),
        Support::NoEffect(why) => ("no effect", why),
        Support::Refused(hint) => ("refused", hint),
    };
    let says = cell(&text(field.doc));
    // Said once, at the key that it is about.
    let says = if more.is_empty() || from.is_some() { says } else { format!("{says} *{}.*", cell(more)) };
    let _ = writeln!(rows, "| `{path}` | {support} | {says} |");
}

fn listed(values: &[&str]) -> String {
    // What is no value but says which has blanks.
    let shown = |value: &&str| if value.contains(' ') { (*value).to_owned() } else { format!("`{value}`") };
    values.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn text(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_keys_that_there_are() {
        let page = reference();
        for (path, support) in REFUSED
            .iter()
            .map(|refused| (refused.path, "in part"))
            .chain(HARMLESS.iter().map(|(path, _)| (*path, "refused")))
        {
            let row = format!("\n| `{}` | {support} |", path.trim_end_matches("[]"));
            // Keys below one that takes any have no rows of their own.
            let above = path.rsplit_once('.').map(|(above, _)| format!("\n| `{above}` | works | More "));
            assert!(page.contains(&row) || above.is_some_and(|above| page.contains(&above)), "{row}");
        }
    }
}
