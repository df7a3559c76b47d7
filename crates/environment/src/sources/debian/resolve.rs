//! From names to everything that must be installed with them, dependencies first. Pure: no files, no network, no clock.
//!
//! The rules are apt's where apt has no choice: the latest version of a package in any suite is the only candidate, the
//! first alternative of a dependency that can be had is taken. Recommended packages are not followed. There is no
//! backtracking; what is conflict-free without it, as every Debian release is for common packages, resolves.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::index::{Priority, Record};
use super::order;
use super::relation::{self, Clause, MalformedRelation, Relation};
use super::version;

/// The latest version of every package, over all suites.
#[derive(Debug, Default)]
pub struct Universe<'a> {
    candidates: BTreeMap<&'a str, Candidate<'a>>,
    providers: HashMap<&'a str, Vec<&'a str>>,
}

/// A package that could be installed.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What its list says of it.
    pub record: Record<'a>,
    /// Which list it is from: the position in what the universe was made of.
    pub list: usize,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Names of packages.
    pub packages: &'a [&'a str],
    /// Whether every essential or required package is wanted too.
    pub include_essential: bool,
    /// Which dependencies are followed.
    pub follow: Follow<'a>,
}

/// Which dependencies are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow<'a> {
    /// All of them: the result can be installed.
    All,
    /// Only those on packages whose name starts so: the result is files to take things from, and conflicts do not matter.
    OnlyPrefix(&'a str),
}

/// Why what is wanted cannot be installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A package that was asked for is not there.
    #[error("the archive has no package {name}")]
    UnknownPackage {
        /// The name.
        name: String,
    },
    /// A dependency cannot be met.
    #[error("the archive has nothing for `{clause}`, wanted by {}", wanted_by.join(", wanted by "))]
    Unmet {
        /// The dependency, with all its alternatives.
        clause: String,
        /// Who wants it, then who wants that one, up to what was asked for.
        wanted_by: Vec<String>,
    },
    /// Two packages exclude each other.
    #[error("{} conflicts with {} (`{relation}`)", package.join(", wanted by "), other.join(", wanted by "))]
    Conflict {
        /// The package that declares the conflict, then who wants it.
        package: Vec<String>,
        /// The other one, then who wants it.
        other: Vec<String>,
        /// What it declares.
        relation: String,
    },
    /// A package's dependency field is not valid.
    #[error("package {package}, field {field}")]
    Malformed {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
        /// The cause.
        #[source]
        source: MalformedRelation,
    },
}

impl<'a> Universe<'a> {
    /// Gathers lists, best loved first: of two equal versions the one of the earlier list is taken.
    ///
    /// # Errors
    /// [`ResolveError::Malformed`] when a package's `Provides` is not valid.
    pub fn new(lists: &[Vec<Record<'a>>]) -> Result<Self, ResolveError> {
        let mut candidates: BTreeMap<&'a str, Candidate<'a>> = BTreeMap::new();
        for (list, records) in lists.iter().enumerate() {
            for &record in records {
                let known = candidates.get(record.name);
                if known.is_none_or(|known| version::compare(record.version, known.record.version).is_gt()) {
                    candidates.insert(record.name, Candidate { record, list });
                }
            }
        }
        let mut providers: HashMap<&'a str, Vec<&'a str>> = HashMap::new();
        for candidate in candidates.values() {
            for provided in clauses(&candidate.record, "Provides", candidate.record.provides)?.into_iter().flatten() {
                providers.entry(provided.name).or_default().push(candidate.record.name);
            }
        }
        for names in providers.values_mut() {
            names.sort_by_key(|name| (candidates.get(name).map(|candidate| candidate.record.priority), *name));
            names.dedup();
        }
        Ok(Self { candidates, providers })
    }

    /// Everything the request needs, dependencies first.
    ///
    /// # Errors
    /// [`ResolveError`]; names the chain of packages that wanted what is not there.
    pub fn resolve(&self, request: &Request<'_>) -> Result<Vec<Candidate<'a>>, ResolveError> {
        let mut selection = Selection { universe: self, follow: request.follow, chosen: BTreeMap::new() };
        selection.close(request)?;
        if request.follow == Follow::All {
            selection.check_conflicts()?;
        }
        selection.ordered()
    }

    fn get(&self, name: &str) -> Option<&Candidate<'a>> {
        self.candidates.get(name)
    }

    /// The packages that meet a relation, in order of preference: the one of that name, then those that provide it.
    fn matches<'s>(&'s self, relation: &'s Relation<'_>) -> impl Iterator<Item = &'s Candidate<'a>> {
        let real = self.get(relation.name).into_iter();
        let providers = self.providers.get(relation.name).map(Vec::as_slice).unwrap_or_default();
        let virtual_ones = providers.iter().filter_map(|name| self.get(name));
        real.chain(virtual_ones).filter(|candidate| meets(&candidate.record, relation))
    }
}

/// Whether a package meets a relation, by its name or by what it provides.
fn meets(record: &Record<'_>, relation: &Relation<'_>) -> bool {
    let qualified = match relation.qualifier {
        None | Some("native" | "amd64") => true,
        Some("any") => record.any_architecture,
        Some(other) => other == record.architecture,
    };
    if record.name == relation.name {
        return qualified && relation.constraint.is_none_or(|constraint| constraint.admits(record.version));
    }
    // A `Provides` that is not valid was refused when the universe was made.
    relation::parse(record.provides).unwrap_or_default().iter().flatten().any(|provided| {
        provided.name == relation.name
            && (relation.qualifier != Some("any") || record.any_architecture || provided.qualifier == Some("any"))
            && match (relation.constraint, provided.constraint) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wanted), Some(offered)) => wanted.admits(offered.version),
            }
    })
}

fn clauses<'a>(record: &Record<'a>, field: &'static str, value: &'a str) -> Result<Vec<Clause<'a>>, ResolveError> {
    relation::parse(value).map_err(|source| ResolveError::Malformed { package: record.name.to_owned(), field, source })
}

/// The packages chosen so far.
struct Selection<'u, 'a> {
    universe: &'u Universe<'a>,
    follow: Follow<'u>,
    /// Each with the package that wanted it first; `None` for what was asked for.
    chosen: BTreeMap<&'a str, Option<&'a str>>,
}

/// A dependency not yet met.
struct Demand<'a> {
    clause: Clause<'a>,
    by: &'a str,
}

impl<'u, 'a> Selection<'u, 'a> {
    /// Chooses what was asked for and all it needs. Demands that leave a choice wait until no other is left, for what is
    /// chosen by then may meet them.
    fn close(&mut self, request: &Request<'_>) -> Result<(), ResolveError> {
        let mut plain = VecDeque::new();
        let mut open = VecDeque::new();
        for name in self.seeds(request)? {
            self.choose(name, None, &mut plain)?;
        }
        loop {
            if let Some(demand) = plain.pop_front() {
                if !self.is_met(&demand) {
                    match self.only_match(&demand)? {
                        Some(name) => self.choose(name, Some(demand.by), &mut plain)?,
                        None => open.push_back(demand),
                    }
                }
            } else if let Some(demand) = open.pop_front() {
                if !self.is_met(&demand) {
                    let name = self.best_match(&demand)?;
                    self.choose(name, Some(demand.by), &mut plain)?;
                }
            } else {
                return Ok(());
            }
        }
    }

    fn seeds(&self, request: &Request<'_>) -> Result<Vec<&'a str>, ResolveError> {
        let mut seeds = Vec::new();
        if request.include_essential {
            let needed = |record: &Record<'_>| record.essential || record.priority == Priority::Required;
            seeds
                .extend(self.universe.candidates.values().filter(|one| needed(&one.record)).map(|one| one.record.name));
        }
        for &name in request.packages {
            let relation = Relation { name, qualifier: None, constraint: None };
            let found = self.universe.matches(&relation).next();
            seeds.push(found.ok_or_else(|| ResolveError::UnknownPackage { name: name.to_owned() })?.record.name);
        }
        Ok(seeds)
    }

    fn choose(
        &mut self,
        name: &'a str,
        by: Option<&'a str>,
        demands: &mut VecDeque<Demand<'a>>,
    ) -> Result<(), ResolveError> {
        let Some(candidate) = self.universe.get(name) else { return Ok(()) };
        if self.chosen.contains_key(name) {
            return Ok(());
        }
        self.chosen.insert(candidate.record.name, by);
        let wanted = self.wanted_clauses(&candidate.record)?;
        demands.extend(wanted.into_iter().map(|(clause, _)| Demand { clause, by: candidate.record.name }));
        Ok(())
    }

    /// The dependencies of a package that are followed, and whether each is one that must be met before unpacking.
    fn wanted_clauses(&self, record: &Record<'a>) -> Result<Vec<(Clause<'a>, bool)>, ResolveError> {
        let early = clauses(record, "Pre-Depends", record.pre_depends)?.into_iter().map(|clause| (clause, true));
        let late = clauses(record, "Depends", record.depends)?.into_iter().map(|clause| (clause, false));
        let followed = |clause: &Clause<'_>| match self.follow {
            Follow::All => true,
            Follow::OnlyPrefix(prefix) => clause.iter().any(|relation| relation.name.starts_with(prefix)),
        };
        Ok(early.chain(late).filter(|(clause, _)| followed(clause)).collect())
    }

    fn is_met(&self, demand: &Demand<'a>) -> bool {
        self.meeting(&demand.clause).is_some()
    }

    /// The chosen package that meets a clause, by its first alternative if more than one does.
    fn meeting(&self, clause: &Clause<'a>) -> Option<&'a str> {
        let mut matches = clause.iter().flat_map(|relation| self.universe.matches(relation));
        matches.find(|found| self.chosen.contains_key(found.record.name)).map(|found| found.record.name)
    }

    /// The package that must be taken, or `None` where there is a choice.
    fn only_match(&self, demand: &Demand<'a>) -> Result<Option<&'a str>, ResolveError> {
        let mut names =
            demand.clause.iter().flat_map(|relation| self.universe.matches(relation)).map(|found| found.record.name);
        let Some(first) = names.next() else {
            return Err(ResolveError::Unmet {
                clause: relation::show(&demand.clause),
                wanted_by: self.chain(demand.by),
            });
        };
        Ok(names.all(|name| name == first).then_some(first))
    }

    /// The first package that meets the demand and conflicts with nothing chosen, or else the first one, so that the
    /// conflict is what is reported.
    fn best_match(&self, demand: &Demand<'a>) -> Result<&'a str, ResolveError> {
        let mut first = None;
        for found in demand.clause.iter().flat_map(|relation| self.universe.matches(relation)) {
            first.get_or_insert(found.record.name);
            if self.is_welcome(&found.record)? {
                return Ok(found.record.name);
            }
        }
        first.ok_or_else(|| ResolveError::Unmet {
            clause: relation::show(&demand.clause),
            wanted_by: self.chain(demand.by),
        })
    }

    fn is_welcome(&self, record: &Record<'a>) -> Result<bool, ResolveError> {
        for name in self.chosen.keys() {
            let Some(other) = self.universe.get(name) else { continue };
            if excludes(record, &other.record)?.is_some() || excludes(&other.record, record)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check_conflicts(&self) -> Result<(), ResolveError> {
        for candidate in self.chosen.keys().filter_map(|name| self.universe.get(name)) {
            let record = &candidate.record;
            if record.conflicts.is_empty() && record.breaks.is_empty() {
                continue;
            }
            for other in self.chosen.keys().filter_map(|name| self.universe.get(name)) {
                if let Some(relation) = excludes(record, &other.record)? {
                    let (package, other) = (self.chain(record.name), self.chain(other.record.name));
                    return Err(ResolveError::Conflict { package, other, relation: relation.to_string() });
                }
            }
        }
        Ok(())
    }

    /// A package, who wanted it, who wanted that one, and so on.
    fn chain(&self, name: &str) -> Vec<String> {
        let mut chain = vec![name.to_owned()];
        let mut at = self.chosen.get(name).copied().flatten();
        while let Some(name) = at {
            chain.push(name.to_owned());
            at = self.chosen.get(name).copied().flatten();
        }
        chain
    }

    fn ordered(&self) -> Result<Vec<Candidate<'a>>, ResolveError> {
        let chosen: Vec<&Candidate<'a>> = self.chosen.keys().filter_map(|name| self.universe.get(name)).collect();
        let numbers: HashMap<&str, usize> = chosen.iter().enumerate().map(|(at, one)| (one.record.name, at)).collect();
        let mut all = vec![Vec::new(); chosen.len()];
        let mut early = vec![Vec::new(); chosen.len()];
        for (at, candidate) in chosen.iter().enumerate() {
            for (clause, before_unpacking) in self.wanted_clauses(&candidate.record)? {
                let Some(&needed) = self.meeting(&clause).and_then(|name| numbers.get(name)) else { continue };
                if let Some(edges) = all.get_mut(at) {
                    edges.push(needed);
                }
                if let Some(edges) = early.get_mut(at).filter(|_| before_unpacking) {
                    edges.push(needed);
                }
            }
        }
        let order = order::dependencies_first(&all, &early);
        Ok(order.into_iter().filter_map(|at| chosen.get(at).map(|candidate| **candidate)).collect())
    }
}

/// What `record` declares against `other`, if it does. No package excludes itself, nor what it provides itself.
fn excludes<'a>(record: &Record<'a>, other: &Record<'_>) -> Result<Option<Relation<'a>>, ResolveError> {
    if record.name == other.name {
        return Ok(None);
    }
    for (field, value) in [("Conflicts", record.conflicts), ("Breaks", record.breaks)] {
        for relation in clauses(record, field, value)?.into_iter().flatten() {
            if meets(other, &relation) {
                return Ok(Some(relation));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
