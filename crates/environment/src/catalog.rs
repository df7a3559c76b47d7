//! The environments pyro knows by name: `catalog.toml`, read.

use serde::Deserialize;

const TEXT: &str = include_str!("catalog.toml");

/// An environment of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Its name, such as `debian:12`.
    pub name: String,
    /// What it is for, in one line.
    pub description: String,
    /// The Debian release it is made of, such as `bookworm`.
    pub release: String,
    /// Packages wanted beside the essential and required ones, sorted.
    pub packages: Vec<String>,
}

/// The whole catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Its environments, in the order of the file.
    pub entries: Vec<CatalogEntry>,
    /// The package that depends on the newest guest kernel.
    pub kernel_package: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kernel: String,
    environment: Vec<Row>,
}

/// What a user adds: environments only, of the same kernel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    environment: Vec<Row>,
}

/// Why rows cannot be added to the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// They cannot be read.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Where, counted from 1.
        line: usize,
        /// What the parser did not like.
        reason: String,
    },
    /// A name is taken.
    #[error("the environment {name} is there already")]
    Taken {
        /// The name.
        name: String,
    },
    /// A row includes what there is not.
    #[error("the environment {name} includes {included}, which does not come before it")]
    Included {
        /// The row.
        name: String,
        /// What it includes.
        included: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    description: String,
    release: String,
    includes: Option<String>,
    packages: Vec<String>,
}

impl Catalog {
    /// The catalog that is part of the program.
    #[must_use]
    pub fn builtin() -> Self {
        let file: File = toml::from_str(TEXT).expect("the catalog in the program is read by a test");
        let entries = file.environment.iter().map(|row| {
            let mut packages = row.packages.clone();
            let mut included = row.includes.as_ref();
            while let Some(name) = included {
                let other = file.environment.iter().find(|other| other.name == *name);
                packages.extend(other.into_iter().flat_map(|other| other.packages.iter().cloned()));
                included = other.and_then(|other| other.includes.as_ref());
            }
            packages.sort_unstable();
            packages.dedup();
            let (name, description, release) = (row.name.clone(), row.description.clone(), row.release.clone());
            CatalogEntry { name, description, release, packages }
        });
        Self { entries: entries.collect(), kernel_package: file.kernel.clone() }
    }

    /// The same with the rows of `text`, in the form of the program's own catalog without its kernel. A row may include
    /// any that comes before it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn with(mut self, text: &str) -> Result<Self, CatalogError> {
        let addition: Addition = toml::from_str(text).map_err(|error| CatalogError::Syntax {
            line: error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
            reason: error.message().lines().next().unwrap_or("not TOML").to_owned(),
        })?;
        for row in addition.environment {
            let Row { name, description, release, includes, mut packages } = row;
            if self.find(&name).is_some() {
                return Err(CatalogError::Taken { name });
            }
            if let Some(included) = includes {
                let Some(other) = self.find(&included) else { return Err(CatalogError::Included { name, included }) };
                packages.extend(other.packages.iter().cloned());
            }
            packages.sort_unstable();
            packages.dedup();
            self.entries.push(CatalogEntry { name, description, release, packages });
        }
        Ok(self)
    }

    /// The environment of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// All names, for messages.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Catalog, CatalogError, File, TEXT};

    #[test]
    fn every_environment_has_what_all_need() {
        let catalog = Catalog::builtin();
        assert!(catalog.find("debian:12").is_some());
        assert!(catalog.find("debian:13").is_none());
        for entry in &catalog.entries {
            for needed in ["apt", "kmod", "usr-is-merged"] {
                assert!(entry.packages.iter().any(|package| package == needed), "{} has no {needed}", entry.name);
            }
        }
    }

    #[test]
    fn rows_can_be_added() {
        let row = |name: &str, includes: &str| {
            let packages = "packages = ['jq', 'apt']";
            format!(
                "[[environment]]\nname = '{name}'\ndescription = ''\nrelease = 'bookworm'\nincludes = '{includes}'\n{packages}\n"
            )
        };
        let catalog = Catalog::builtin().with(&row("mine", "debian:12-base")).unwrap();
        let packages = &catalog.find("mine").unwrap().packages;
        assert!(packages.iter().any(|package| package == "jq") && packages.iter().any(|package| package == "kmod"));
        assert_eq!(packages.iter().filter(|package| *package == "apt").count(), 1);

        let refused = |text: &str| Catalog::builtin().with(text).unwrap_err();
        assert!(matches!(refused(&row("debian:12", "debian:12-base")), CatalogError::Taken { .. }));
        assert!(matches!(refused(&row("mine", "yours")), CatalogError::Included { .. }));
        assert!(matches!(refused("kernel = 'mine'"), CatalogError::Syntax { line: 1, .. }));
    }

    #[test]
    fn what_is_included_exists() {
        let file: File = toml::from_str(TEXT).unwrap();
        for row in &file.environment {
            let exists = |name: &String| file.environment.iter().any(|other| other.name == *name && *name != row.name);
            assert!(row.includes.as_ref().is_none_or(exists), "{} includes nothing known", row.name);
        }
    }
}
