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
const NOUNS: [&str; 4] = ["file", "patch", "sync", "disk"];

/// Those whose tools are not called after the workspace.
const OWN_NOUNS: [&str; 3] = ["snapshot", "shell", "service"];

/// A hint as a model can follow it.
pub(super) fn for_model(hint: &str) -> String {
    let hint = VERB.replace_all(hint, |found: &Captures<'_>| {
        let words: Vec<&str> = found[1].split(' ').collect();
        match words.as_slice() {
            // What tools of other names tell, too.
            ["shell", "list"] => "workspace_status".to_owned(),
            ["port", _] => "service_list".to_owned(),
            [noun, verb] if NOUNS.contains(noun) => format!("workspace_{noun}_{verb}"),
            [noun, verb] if OWN_NOUNS.contains(noun) => format!("{noun}_{verb}"),
            [verb, ..] => format!("workspace_{verb}"),
            [] => String::new(),
        }
    });
    let hint = PERSON.replace_all(&hint, "the user's 'pyro $1");
    FLAG.replace_all(&hint, |found: &Captures<'_>| match &found[1] {
        // Only who starts the server can.
        "allow-path" => found[0].to_owned(),
        "dest" => "destination".to_owned(),
        flag => flag.replace('-', "_"),
    })
    .into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::profile::Profile;
    use super::{VERB, for_model};

    #[test]
    fn what_is_named_to_a_model_is_there() {
        let sources = [
            include_str!("../failure/mod.rs"),
            include_str!("../failure/service.rs"),
            include_str!("../failure/tool.rs"),
            include_str!("../failure/words.rs"),
            include_str!("../failure/workspace.rs"),
        ];
        let known: Vec<&str> = Profile::WorkspaceFull.tool_names().collect();
        for verb in sources.iter().flat_map(|source| VERB.find_iter(source)) {
            let named = for_model(verb.as_str());
            assert!(known.contains(&named.as_str()), "{} becomes {named}", verb.as_str());
        }
    }

    #[test]
    fn verbs_become_tools_and_flags_arguments() {
        let check = |hint: &str, told: &str| assert_eq!(for_model(hint), told);
        check("'pyro workspace file list' shows what is there", "workspace_file_list shows what is there");
        check("'pyro workspace diff 0123456789ab' shows them", "workspace_diff shows them");
        check("'pyro workspace logs fix' shows what was run", "workspace_logs shows what was run");
        check("'pyro workspace shell read fix s1' shows it", "shell_read shows it");
        check("'pyro workspace shell list' shows them", "workspace_status shows them");
        check("'pyro workspace port list' shows where it leads", "service_list shows where it leads");
        check("'pyro workspace snapshot list fix' shows them", "snapshot_list shows them");
        check("'pyro workspace service logs fix web' shows it", "service_logs shows it");
        check("replace all with --replace-all", "replace all with replace_all");
        check("name a directory with --dest", "name a directory with destination");
        check("the user can allow more with --allow-path", "the user can allow more with --allow-path");
        check("'pyro doctor' says what this host lacks", "the user's 'pyro doctor' says what this host lacks");
        check("name one that is there", "name one that is there");
    }
}
