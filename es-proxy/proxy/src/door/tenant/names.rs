//! Names and patterns of one kind, and whose they are. Looking one up costs the same with ten tenants and
//! with ten thousand: exact names and beginnings (`acme-*`) stand in tables; only patterns of other forms are
//! tried one by one, and of those there may be few.

use std::collections::HashMap;

use es_wire::matches_wildcard;

/// Patterns with a `*` elsewhere than at their end.
const MAX_ODD_PATTERNS: usize = 256;

/// See the head of this file. A tenant is its number.
#[derive(Debug, Default)]
pub(crate) struct Names {
    exact: HashMap<Box<str>, u32>,
    /// What stands before the `*`.
    beginnings: HashMap<Box<str>, u32>,
    /// Lengths of beginnings, longest first.
    lengths: Vec<usize>,
    odd: Vec<(Box<str>, u32)>,
}

/// Why a name was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// It is that tenant's already.
    Taken(u32),
    TooManyPatterns,
}

impl Names {
    /// Makes a name or pattern a tenant's.
    pub(crate) fn add(&mut self, name: &str, tenant: u32) -> Result<(), NotTaken> {
        let table = match name.find('*') {
            None => &mut self.exact,
            Some(at) if at + 1 == name.len() => {
                let length = at;
                if let Err(place) = self.lengths.binary_search_by(|probe| length.cmp(probe)) {
                    self.lengths.insert(place, length);
                }
                &mut self.beginnings
            }
            Some(_) => return self.add_odd(name, tenant),
        };
        let key = name.strip_suffix('*').unwrap_or(name);
        match table.get(key) {
            Some(&owner) if owner != tenant => Err(NotTaken::Taken(owner)),
            Some(_) => Ok(()),
            None => {
                table.insert(key.into(), tenant);
                Ok(())
            }
        }
    }

    fn add_odd(&mut self, pattern: &str, tenant: u32) -> Result<(), NotTaken> {
        match self.odd.iter().find(|(known, _)| **known == *pattern) {
            Some(&(_, owner)) if owner != tenant => Err(NotTaken::Taken(owner)),
            Some(_) => Ok(()),
            None if self.odd.len() >= MAX_ODD_PATTERNS => Err(NotTaken::TooManyPatterns),
            None => {
                self.odd.push((pattern.into(), tenant));
                Ok(())
            }
        }
    }

    /// Whose name it is: an exact one before a pattern, a longer beginning before a shorter one, and other
    /// patterns last, in their order.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        if let Some(&tenant) = self.exact.get(name) {
            return Some(tenant);
        }
        let beginnings = self.lengths.iter().filter_map(|&length| name.get(..length));
        let by_beginning = beginnings.filter_map(|beginning| self.beginnings.get(beginning)).copied().next();
        by_beginning.or_else(|| {
            self.odd.iter().find(|(pattern, _)| matches_wildcard(pattern, name)).map(|&(_, tenant)| tenant)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.beginnings.is_empty() && self.odd.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[(&str, u32)]) -> Names {
        let mut names = Names::default();
        all.iter().for_each(|(name, tenant)| names.add(name, *tenant).unwrap());
        names
    }

    #[test]
    fn the_most_special_name_wins() {
        let many = names(&[("*", 0), ("a-*", 1), ("a-b*", 2), ("a-bc", 3), ("*-x", 4), ("ä*", 5)]);
        for (name, tenant) in [("a-bc", 3), ("a-bcd", 2), ("a-c", 1), ("z", 0), ("", 0), ("ö", 0), ("äö", 5)]
        {
            assert_eq!(many.find(name), Some(tenant), "{name}");
        }
        let without_all = names(&[("*-x", 4), ("ab*", 1)]);
        assert_eq!(without_all.find("q-x"), Some(4));
        assert_eq!(without_all.find("a"), None);
        // The length of a beginning may lie inside of a character.
        assert_eq!(without_all.find("aä"), None);
    }

    #[test]
    fn a_name_has_one_owner() {
        let mut names = names(&[("a", 1), ("b*", 2), ("c*d", 3)]);
        for (name, owner) in [("a", 1), ("b*", 2), ("c*d", 3)] {
            assert_eq!(names.add(name, 9), Err(NotTaken::Taken(owner)));
            assert_eq!(names.add(name, owner), Ok(()));
        }
        for number in 0..MAX_ODD_PATTERNS - 1 {
            names.add(&format!("x*{number}"), 1).unwrap();
        }
        assert_eq!(names.add("y*y", 1), Err(NotTaken::TooManyPatterns));
    }
}
