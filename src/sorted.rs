//! Sorted collections and short sorted lists, in little code.
//!
//! The standard library sorts fast and pays with 4 KB of code for each type and order: so does every `collect` into a
//! `BTreeMap` or `BTreeSet`, because it sorts first. The agent's lists are short: what is here inserts one by one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// What `collect` does, for the sorted collections.
pub trait IntoSorted: Iterator + Sized {
    /// Each item once.
    fn into_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        for item in self {
            set.insert(item);
        }
        set
    }

    /// Of several entries with one key, the last.
    fn into_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        for (key, value) in self {
            map.insert(key, value);
        }
        map
    }
}

impl<I: Iterator> IntoSorted for I {}

/// Sorts a short list; what is equal stays in its order. Few comparisons, many moves: a list that may have thousands of
/// entries is for `slice::sort_by`.
pub fn sort_by<T>(list: &mut [T], mut order: impl FnMut(&T, &T) -> Ordering) {
    for end in 1..list.len() {
        let at = list[..end].partition_point(|before| order(before, &list[end]) != Ordering::Greater);
        for place in (at..end).rev() {
            list.swap(place, place + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sorted_and_equal_entries_keep_their_order() {
        let mut list = [(2, 'a'), (1, 'b'), (2, 'c'), (0, 'd'), (1, 'e')];
        sort_by(&mut list, |a, b| a.0.cmp(&b.0));
        assert_eq!(list, [(0, 'd'), (1, 'b'), (1, 'e'), (2, 'a'), (2, 'c')]);
        sort_by(&mut Vec::<u8>::new(), Ord::cmp);
    }

    #[test]
    fn collections_are_those_of_collect() {
        let entries = [(3, 'x'), (1, 'y'), (3, 'z')];
        assert_eq!(entries.into_iter().into_map(), entries.into_iter().collect());
        assert_eq!(entries.into_iter().into_set(), entries.into_iter().collect());
    }
}
