//! Words for a model where the rest of pyro speaks to a person at a command line: tools for verbs, arguments for flags.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// `'pyro workspace file list …'`, in quotes.
static VERB: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"'pyro (?:workspace|ws) ([a-z]+(?: [a-z]+)?)(?: [^']*)?'").expect("a constant"));
/// `--disk-gib`.
static FLAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"--([a-z][a-z-]+)").expect("a constant"));
/// What only a person can run.
static PERSON: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"'pyro (doctor|env)\b").expect("a constant"));

/// The verbs of two words: of the others the second word is an argument.
const NOUNS: [&str; 4] = ["file", "patch", "sync", "snapshot"];

/// A hint as a model can follow it.
pub(super) fn for_model(hint: &str) -> String {
    let hint = VERB.replace_all(hint, |found: &Captures<'_>| {
        let words: Vec<&str> = found[1].split(' ').collect();
        match words.as_slice() {
            [noun, verb] if NOUNS.contains(noun) => format!("workspace_{noun}_{verb}"),
            [verb, ..] => format!("workspace_{verb}"),
            [] => String::new(),
        }
    });
    let hint = PERSON.replace_all(&hint, "the user's 'pyro $1");
    FLAG.replace_all(&hint, |found: &Captures<'_>| found[1].replace('-', "_")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::for_model;

    #[test]
    fn verbs_become_tools_and_flags_arguments() {
        let check = |hint: &str, told: &str| assert_eq!(for_model(hint), told);
        check("'pyro workspace file list' shows what is there", "workspace_file_list shows what is there");
        check("'pyro workspace diff 0123456789ab' shows them", "workspace_diff shows them");
        check("'pyro workspace logs fix' shows what was run", "workspace_logs shows what was run");
        check("replace all with --replace-all", "replace all with replace_all");
        check("'pyro doctor' says what this host lacks", "the user's 'pyro doctor' says what this host lacks");
        check("name one that is there", "name one that is there");
    }
}
