//! Relations between packages: `git (>= 1:2.0) | git-core:any, libc6` taken apart.

use std::fmt;

use super::version;

/// One clause of a dependency field: any of its alternatives will do.
pub type Clause<'a> = Vec<Relation<'a>>;

/// One package named by a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The package's name.
    pub name: &'a str,
    /// Which architecture of it, where one is said.
    pub qualifier: Option<&'a str>,
    /// Which versions of it, where some are said.
    pub constraint: Option<Constraint<'a>>,
}

/// A demand on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraint<'a> {
    /// How the version compares.
    pub operator: Operator,
    /// The version it is compared with.
    pub version: &'a str,
}

/// How a version compares to the one named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// A dependency field that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a relation to a package")]
pub struct MalformedRelation {
    /// The part that was not understood, shortened.
    pub text: String,
}

const SHOWN_CHARS_MAX: usize = 80;

/// Takes a dependency field apart. An empty one has no clauses.
///
/// # Errors
/// [`MalformedRelation`] for what a binary package cannot say, such as `[amd64]`.
pub fn parse(field: &str) -> Result<Vec<Clause<'_>>, MalformedRelation> {
    field
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .map(|clause| clause.split('|').map(parse_one).collect())
        .collect()
}

fn parse_one(text: &str) -> Result<Relation<'_>, MalformedRelation> {
    let text = text.trim();
    let malformed = || MalformedRelation { text: text.chars().take(SHOWN_CHARS_MAX).collect() };
    let (target, constraint) = match text.split_once('(') {
        None => (text, None),
        Some((target, rest)) => {
            let inside = rest.strip_suffix(')').ok_or_else(malformed)?;
            (target.trim_end(), Some(parse_constraint(inside.trim()).ok_or_else(malformed)?))
        }
    };
    let (name, qualifier) = match target.split_once(':') {
        None => (target, None),
        Some((name, qualifier)) => (name, Some(qualifier)),
    };
    if !is_name(name) || qualifier.is_some_and(|qualifier| !is_name(qualifier)) {
        return Err(malformed());
    }
    Ok(Relation { name, qualifier, constraint })
}

fn parse_constraint(text: &str) -> Option<Constraint<'_>> {
    // `<` and `>` alone are what old packages write for `<=` and `>=`.
    const OPERATORS: [(&str, Operator); 7] = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
        ("<", Operator::EarlierOrEqual),
        (">", Operator::LaterOrEqual),
    ];
    let (rest, operator) = OPERATORS.iter().find_map(|(sign, operator)| Some((text.strip_prefix(sign)?, *operator)))?;
    let version = rest.trim();
    let good = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>=|".contains(&byte));
    good.then_some(Constraint { operator, version })
}

/// Whether a text can be the name of a package (a little wider than policy, which some packages outside Debian are, too).
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

impl Constraint<'_> {
    /// Whether a version meets the demand.
    #[must_use]
    pub fn admits(&self, version: &str) -> bool {
        let order = version::compare(version, self.version);
        match self.operator {
            Operator::Earlier => order.is_lt(),
            Operator::EarlierOrEqual => order.is_le(),
            Operator::Equal => order.is_eq(),
            Operator::LaterOrEqual => order.is_ge(),
            Operator::Later => order.is_gt(),
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(out, ":{qualifier}")?;
        }
        match self.constraint {
            Some(constraint) => write!(out, " ({} {})", constraint.operator, constraint.version),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        })
    }
}

/// A clause as the archive would write it.
#[must_use]
pub fn show(clause: &[Relation<'_>]) -> String {
    clause.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{parse, show};

    #[test]
    fn a_field_is_taken_apart_and_shown_again() {
        let field = "libc6 (>= 2.36), git:any (<< 1:3~) | git-core,\n perl (= 5.36.0-7), x(>>1), old (> 2) ,";
        let shown: Vec<String> = parse(field).unwrap().iter().map(|clause| show(clause)).collect();
        assert_eq!(
            shown,
            ["libc6 (>= 2.36)", "git:any (<< 1:3~) | git-core", "perl (= 5.36.0-7)", "x (>> 1)", "old (>= 2)"]
        );
        assert!(parse(" ").unwrap().is_empty());
    }

    #[test]
    fn what_a_binary_package_cannot_say_is_refused() {
        for field in ["a [amd64]", "a <!nocheck>", "a (1)", "a (>= )", "a (>= 1", "a |", "| a", "a:", "../a", "a b"] {
            assert!(parse(field).is_err(), "{field}");
        }
    }

    #[test]
    fn versions_are_admitted_or_not() {
        let admitted = |field: &str, version: &str| parse(field).unwrap()[0][0].constraint.unwrap().admits(version);
        assert!(admitted("a (>= 1.0)", "1.0") && admitted("a (>= 1.0)", "1.0-1") && !admitted("a (>= 1.0)", "1.0~1"));
        assert!(admitted("a (<< 2)", "1.9") && !admitted("a (<< 2)", "2") && admitted("a (<= 2)", "2"));
        assert!(admitted("a (= 1)", "0:1-0") && !admitted("a (>> 1)", "1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(field in "[a-z0-9(|,):<>= .]{0,60}") {
            if let Ok(clauses) = parse(&field) {
                for clause in clauses {
                    let shown = show(&clause);
                    prop_assert_eq!(&parse(&shown).unwrap()[0], &clause);
                }
            }
        }
    }
}
