//! Values in an order, found by their names.

use std::collections::HashMap;

/// Values by name, in the order in which they were set.
#[derive(Clone, Debug)]
pub(super) struct Variables<V> {
    by_name: HashMap<String, (usize, V)>,
    next: usize,
}

impl<V> Default for Variables<V> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            next: 0,
        }
    }
}

impl<V> Variables<V> {
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.by_name.get(name).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.by_name.get_mut(name).map(|(_, value)| value)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Sets a value, which comes last now.
    pub(super) fn set_last(&mut self, name: &str, value: V) {
        self.by_name.insert(name.to_owned(), (self.next, value));
        self.next += 1;
    }

    /// Sets a value; one that was set before keeps its place.
    pub(super) fn set(&mut self, name: &str, value: V) {
        match self.get_mut(name) {
            Some(old) => *old = value,
            None => self.set_last(name, value),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(super) fn in_order(&self) -> Vec<(&str, &V)> {
        let all = self.by_name.iter();
        let mut all: Vec<_> = all.map(|(name, (at, value))| (at, name, value)).collect();
        all.sort_unstable_by_key(|(at, ..)| **at);
        let pairs = all.into_iter();
        pairs
            .map(|(_, name, value)| (name.as_str(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Variables;

    #[test]
    fn a_place_is_kept_or_is_the_last() {
        let mut all = Variables::default();
        for name in ["a", "b", "c"] {
            all.set(name, 1);
        }
        all.set("b", 2);
        all.set_last("a", 3);
        assert_eq!(all.in_order(), [("b", &2), ("c", &1), ("a", &3)]);
        assert!(all.contains("a") && !all.contains("d"));
    }
}
