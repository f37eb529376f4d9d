//! The variables that a file may name, and where each was set.

use std::collections::BTreeMap;

use super::tree::Origin;

/// A value and where it was set.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// Variables by name. What is inserted first stays: the stronger source comes first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, Variable>);

impl Variables {
    /// The environment of the caller.
    pub(crate) fn of_environment(environment: &BTreeMap<String, String>) -> Self {
        let variable = |value: &String| Variable { value: value.clone(), origin: Origin::Environment };
        Self(environment.iter().map(|(name, value)| (name.clone(), variable(value))).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|variable| variable.value.as_str())
    }

    /// Sets a variable, over whatever it was.
    pub(crate) fn set(&mut self, name: impl Into<String>, variable: Variable) {
        self.0.insert(name.into(), variable);
    }

    /// Adds those of `weaker` that are not there yet.
    pub(crate) fn under(&mut self, weaker: Self) {
        for (name, variable) in weaker.0 {
            self.0.entry(name).or_insert(variable);
        }
    }

    /// Names with values alone.
    pub(crate) fn values(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, variable)| (name.clone(), variable.value.clone())).collect()
    }

    /// Keeps those whose name is `wanted`.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.0.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// Sets a variable of nscompose's own.
    pub(crate) fn set_built(&mut self, name: &str, value: &str) {
        self.set(name, Variable { value: value.to_owned(), origin: Origin::Built });
    }
}
