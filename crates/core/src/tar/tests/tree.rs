//! What remains of a stream when all of it was unpacked.

use std::collections::HashMap;

use super::*;

fn directory(name: &str) -> Header {
    entry(name.as_bytes(), Kind::Directory)
}

fn plain(name: &str) -> Header {
    file(name.as_bytes(), 1)
}

fn link(name: &str, first: &str) -> Header {
    entry(name.as_bytes(), Kind::HardLink { first: first.as_bytes().to_vec() })
}

fn tree(headers: &[Header]) -> Result<Tree> {
    let mut builder = TreeBuilder::new("test");
    headers.iter().try_for_each(|header| builder.push(header))?;
    builder.finish()
}

/// `name@entry` of each, of a link `name=first`.
fn remains(headers: &[Header]) -> Vec<String> {
    let tree = tree(headers).unwrap();
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    let spell = |placed: &Placed| match placed.first {
        Some(first) => {
            assert_eq!(tree.entries[first as usize].entry, placed.entry);
            format!("{}={}", text(&placed.name), text(&tree.entries[first as usize].name))
        }
        None => format!("{}@{}", text(&placed.name), placed.entry),
    };
    tree.entries.iter().map(spell).collect()
}

#[track_caller]
fn refused(headers: &[Header], why: &str) {
    assert_eq!(tree(headers).unwrap_err().to_string(), format!("test is damaged: {why}"));
}

#[test]
fn the_last_of_a_name_counts_at_its_place() {
    assert_eq!(remains(&[plain("a"), plain("b"), plain("a")]), ["b@1", "a@2"]);
    assert_eq!(remains(&[directory(""), directory("d"), plain("d/a"), directory("d")]), ["@0", "d/a@2", "d@3"]);
    assert_eq!(remains(&[plain("d"), directory("d"), plain("d/a")]), ["d@1", "d/a@2"]);
}

#[test]
fn a_layer_may_have_links_to_what_is_not_in_it() {
    let remains = |headers: &[Header]| {
        let mut builder = TreeBuilder::new("test").of_layer(true);
        headers.iter().try_for_each(|header| builder.push(header)).unwrap();
        let tree = builder.finish().unwrap();
        let told = |placed: &Placed| (placed.entry, placed.first, placed.is_own);
        tree.entries.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(remains(&[link("b", "a")]), [(0, None, true)]);
    assert_eq!(remains(&[link("b", "a"), link("c", "a")]), [(0, None, true), (1, None, true)]);
    assert_eq!(remains(&[link("c", "b"), link("b", "a")]), [(1, None, true), (1, Some(0), false)]);
    assert_eq!(remains(&[link("b", "a"), plain("a")]), [(1, None, true), (1, Some(0), false)]);
    assert_eq!(remains(&[link("b", "a"), plain("b")]), [(1, None, true)]);
}

#[test]
fn links_are_to_the_file_that_had_the_name_when_they_came() {
    assert_eq!(remains(&[plain("a"), link("b", "a"), link("c", "b")]), ["a@0", "b=a", "c=a"]);
    assert_eq!(remains(&[plain("a"), link("b", "a"), plain("a")]), ["b@0", "a@2"]);
    assert_eq!(remains(&[plain("a"), link("b", "a"), link("c", "a"), plain("a")]), ["b@0", "c=b", "a@3"]);
    assert_eq!(remains(&[plain("a"), link("a", "a")]), ["a@0"]);
    assert_eq!(remains(&[plain("a"), link("b", "a"), plain("b")]), ["a@0", "b@2"]);
}

#[test]
fn links_that_come_first_stand_behind_their_file() {
    assert_eq!(remains(&[link("b", "a"), plain("x"), plain("a")]), ["x@1", "a@2", "b=a"]);
    assert_eq!(remains(&[link("c", "b"), link("b", "a"), plain("a"), link("d", "c")]), ["a@2", "c=a", "b=a", "d=a"]);
    assert_eq!(remains(&[link("b", "a"), plain("a"), plain("a")]), ["a@2", "b=a"]);
}

#[test]
fn missing_directories_are_told() {
    let tree = tree(&[plain("a/b/c/d"), directory("a/b"), plain("e/f")]).unwrap();
    assert_eq!(tree.invented, [b"a".to_vec(), b"a/b/c".to_vec(), b"e".to_vec()]);
}

#[test]
fn what_is_no_tree_is_refused_by_name() {
    refused(&[link("b", "a")], "b is a hard link to a, which is not there");
    refused(&[link("c", "b"), link("b", "a")], "b is a hard link to a, which is not there");
    refused(&[directory("d"), link("b", "d")], "b is a hard link to d, which is a directory");
    refused(&[link("b", "d"), directory("d")], "b is a hard link to d, which is a directory");
    refused(&[link("b", "")], "b is a hard link to ., which is not there");
    refused(&[link("a", "a")], "a is a hard link in a circle");
    let circle = tree(&[link("a", "b"), link("b", "c"), link("c", "a")]).unwrap_err().to_string();
    assert!(circle.ends_with("is a hard link in a circle"), "{circle}");
    refused(&[plain("d"), plain("d/a")], "d/a lies below d, which is no directory");
    refused(
        &[plain("d/x/a"), entry(b"d", Kind::Symlink { target: b"/etc".to_vec() })],
        "d/x/a lies below d, which is no directory",
    );
    refused(&[directory("d"), plain("d/a"), plain("d")], "d/a lies below d, which is no directory");
    refused(&[plain("")], "its root is no directory");
    let deep = |letter: &str| plain(&format!("{}end", format!("{letter}/").repeat(20_000)));
    refused(&[deep("a"), deep("b")], "it lies in more directories that it does not name than are allowed");
}

#[test]
fn a_chain_of_a_hundred_thousand_links_is_followed_once() {
    let count = 100_000;
    let mut headers: Vec<Header> = (0..count).map(|at| link(&at.to_string(), &(at + 1).to_string())).collect();
    headers.push(plain(&count.to_string()));
    let tree = tree(&headers).unwrap();
    assert!(tree.entries[1..].iter().all(|placed| placed.first == Some(0) && placed.entry == count));
}

#[test]
fn what_remains_is_what_unpacking_leaves() {
    // A model: names, and inodes by the entry that made them.
    let names = ["a", "b", "c", "d"];
    let mut state = 7u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..5_000 {
        let mut model: HashMap<&str, u32> = HashMap::new();
        let mut headers = Vec::new();
        for at in 0..1 + draw(8) as u32 {
            let name = names[draw(4)];
            match model.get(names[draw(4)]).copied() {
                Some(entry) if draw(2) == 0 => {
                    let first = model.iter().find(|other| *other.1 == entry).unwrap().0;
                    headers.push(link(name, first));
                    model.insert(name, entry);
                }
                _ => {
                    headers.push(plain(name));
                    model.insert(name, at);
                }
            }
        }
        let tree = tree(&headers).unwrap();
        let left: HashMap<&str, u32> =
            tree.entries.iter().map(|placed| (std::str::from_utf8(&placed.name).unwrap(), placed.entry)).collect();
        assert_eq!(left, model);
        for (at, placed) in tree.entries.iter().enumerate() {
            let first = tree.entries.iter().position(|other| other.entry == placed.entry).unwrap();
            assert_eq!(placed.first, (first != at).then_some(first as u32));
        }
        let data: Vec<u32> =
            tree.entries.iter().filter(|placed| placed.first.is_none()).map(|placed| placed.entry).collect();
        assert!(data.is_sorted());
    }
}
