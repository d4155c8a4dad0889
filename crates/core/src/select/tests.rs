//! What patterns and rule files mean. That they mean what git says is tested against git itself, in Python.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::scan::Root;

/// Whether the tree has the entry at `path`, by the rules of each directory on the way.
fn has(root: &Path, selection: &Selection, path: &str) -> bool {
    let root = Root::open(root).unwrap();
    let rules = Rules::new(&root, selection);
    let mut at = String::new();
    for name in path.split('/') {
        // As if every directory had rule files: each is looked for.
        let in_force = rules.of(at.as_bytes(), selection.rule_names()).unwrap();
        let whole = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
        let is_dir = root.stat(whole.as_bytes()).is_ok_and(|stat| stat.kind() == crate::scan::Kind::Directory);
        if rules.leave_out(&in_force, at.as_bytes(), name.as_bytes(), is_dir) {
            return false;
        }
        at = whole;
    }
    true
}

fn excluding(patterns: &[&str], gitignore: bool) -> Selection {
    Selection::new(patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect(), gitignore).unwrap()
}

fn place(files: &[(&str, &str)]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = place.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    place
}

fn refusal(files: &[(&str, &str)]) -> String {
    let place = place(files);
    let root = Root::open(place.path()).unwrap();
    let selection = excluding(&[], true);
    let said = Rules::new(&root, &selection).of(b"", selection.rule_names()).err().unwrap().to_string();
    said.replace(place.path().to_str().unwrap(), "ROOT")
}

#[test]
fn asterisks_beside_something_else_are_as_one() {
    let place = tempfile::tempdir().unwrap();
    let selection = excluding(&["/a**/b", "c***d", "**e", "/f/**/g", "/h/***"], false);
    for path in ["ax/b", "a/b", "cxd", "x/cd", "xe", "x/e", "f/g", "f/x/y/g", "h/x", "h/x/y"] {
        assert!(!has(place.path(), &selection, path), "{path}");
    }
    for path in ["ax/y/b", "c/d", "h", "x/f/g"] {
        assert!(has(place.path(), &selection, path), "{path}");
    }
}

#[test]
fn the_deeper_file_wins_over_the_shallower_and_the_caller_over_both() {
    let place = place(&[(".sapwoodignore", "*.o\n!keep.o\n"), ("d/.sapwoodignore", "!*.o\nkeep.o\n"), ("d/e/x.o", "")]);
    let none = Selection::default();
    assert!(!has(place.path(), &none, "a.o") && has(place.path(), &none, "keep.o"));
    assert!(has(place.path(), &none, "d/a.o") && has(place.path(), &none, "d/e/x.o"));
    assert!(!has(place.path(), &none, "d/keep.o"));
    let selection = excluding(&["d/*.o", "!a.o"], false);
    assert!(has(place.path(), &selection, "a.o") && has(place.path(), &selection, "d/a.o"));
    assert!(!has(place.path(), &selection, "d/b.o") && has(place.path(), &selection, "d/e/x.o"));
}

#[test]
fn in_one_directory_our_file_wins_over_gits_which_counts_only_when_asked() {
    let place = place(&[(".gitignore", "a\nb\n"), (".sapwoodignore", "!b\nc\n")]);
    let (git, none) = (excluding(&[], true), Selection::default());
    assert_eq!(["a", "b", "c"].map(|name| has(place.path(), &git, name)), [false, true, false]);
    assert_eq!(["a", "b", "c"].map(|name| has(place.path(), &none, name)), [true, true, false]);
}

#[test]
fn a_repository_is_left_out_with_gitignore_unless_the_caller_wants_it() {
    let place = place(&[(".sapwoodignore", "!.git\n"), (".git/HEAD", ""), ("sub/.git", "gitdir: elsewhere")]);
    let git = excluding(&[], true);
    assert!(!has(place.path(), &git, ".git/HEAD") && !has(place.path(), &git, "sub/.git"));
    assert!(has(place.path(), &Selection::default(), ".git/HEAD"));
    assert!(has(place.path(), &excluding(&["!.git"], true), ".git/HEAD"));
}

#[test]
fn only_a_regular_file_is_a_rule_file() {
    let place = place(&[("rules", "a\n"), ("d/.sapwoodignore/x", "a")]);
    std::os::unix::fs::symlink("rules", place.path().join(".sapwoodignore")).unwrap();
    assert!(has(place.path(), &Selection::default(), "a") && has(place.path(), &Selection::default(), "d/a"));
}

#[test]
fn names_that_are_not_utf8_are_matched_byte_by_byte() {
    let place = place(&[(".sapwoodignore", "a?\n!b*\n")]);
    let root = Root::open(place.path()).unwrap();
    let selection = Selection::default();
    let rules = Rules::new(&root, &selection);
    let in_force = rules.of(b"\xfe", &[]).unwrap();
    assert!(rules.leave_out(&in_force, b"\xfe", b"a\xff", false));
    assert!(!rules.leave_out(&in_force, b"\xfe", b"a\xff\xff", false));
    assert!(!rules.leave_out(&in_force, b"\xfe", b"b\xff", false));
}

#[test]
fn what_is_no_pattern_is_refused_by_name_and_place() {
    for (pattern, why) in [
        ("[a", "the pattern [a: a class without an end"),
        ("a\\", "the pattern a\\: it ends with a backslash"),
        ("[[:letter:]]", "the pattern [[:letter:]]: an unknown kind of characters"),
        ("[/]", "the pattern [/]: a class that nothing is in"),
        ("[à-ü]", "the pattern [à-ü]: a range of characters beyond ASCII"),
        ("a//b", "the pattern a//b: an empty name in it"),
        ("# a", "the pattern # a: it matches nothing"),
        ("  ", "the pattern   : it matches nothing"),
    ] {
        let refused = Selection::new(vec![b"fine".to_vec(), pattern.as_bytes().to_vec()], false);
        assert_eq!(refused.err().unwrap().to_string(), why);
    }
    let refused = Selection::new(vec![b"\xff".to_vec()], false).err().unwrap();
    assert_eq!(refused.to_string(), "the pattern \\xff: not UTF-8");
    let said = refusal(&[(".sapwoodignore", "# fine\r\nfine\n[a\n")]);
    assert_eq!(said, "ROOT/.sapwoodignore, line 3: [a: a class without an end");
}

#[test]
fn a_rule_file_of_more_than_a_mebibyte_is_refused() {
    assert_eq!(refusal(&[(".gitignore", &"a\n".repeat(1 << 20))]), "ROOT/.gitignore: a rule file of more than 1 MiB");
}

#[test]
fn a_line_of_gits_file_that_is_no_pattern_matches_nothing_as_git_has_it() {
    let place = place(&[(".gitignore", "[a\nb\n")]);
    let git = excluding(&[], true);
    assert!(has(place.path(), &git, "[a") && has(place.path(), &git, "a") && !has(place.path(), &git, "b"));
}

#[test]
fn a_directory_tells_when_its_rules_leave_themselves_out() {
    let place = place(&[(".sapwoodignore", ".*\n"), ("d/x", "")]);
    let root = Root::open(place.path()).unwrap();
    let selection = Selection::default();
    let rules = Rules::new(&root, &selection);
    assert!(rules.of(b"", &[b".sapwoodignore", b"d"]).unwrap().hides_rules);
    assert!(!rules.of(b"d", &[b"x"]).unwrap().hides_rules);
}

#[test]
fn selections_are_told_apart() {
    let all = [&[][..], &["a"], &["a", "b"], &["b", "a"]].map(|patterns| [false, true].map(|git| (patterns, git)));
    let said: Vec<_> = all.concat().iter().map(|(patterns, git)| excluding(patterns, *git).said()).collect();
    let different: std::collections::HashSet<_> = said.iter().collect();
    assert!(different.len() == said.len() && said[0].is_empty());
}
