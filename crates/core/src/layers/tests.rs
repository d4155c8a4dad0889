use std::sync::Arc;

use super::{keep, merge, open};
use crate::archive::frame::Form;
use crate::digest::Digest;
use crate::error::Error;
use crate::filemap::{ChunkAt, Content, Entry, FileMap, FrameAt, Kind, Summary, hash_directories, parent_and_name};
use crate::job::Job;
use crate::scan::Time;

/// A layer: paths and what is there: `/` a directory, `/MODE` one that says more, `->` a symlink, `=` a hard link, else a file's
/// text. The mode of files is the number of the layer.
fn layer(number: u8, what: &[(&str, &str)]) -> Arc<FileMap> {
    let pack = Arc::new([number; 32]);
    let entry = |&(path, what): &(&str, &str)| {
        let mut entry = crate::filemap::bare(path.into(), Kind::Fifo, number.into());
        entry.mtime = Time { sec: 9, nsec: 0 };
        if let Some(mode) = what.strip_prefix('/') {
            entry.kind = Kind::Directory { digest: None };
            entry.mode = if mode.is_empty() { 0o755 } else { mode.parse().unwrap() };
            entry.mtime.sec = if mode.is_empty() { 0 } else { 9 };
        } else if let Some(target) = what.strip_prefix("->") {
            entry.kind = Kind::Symlink { target: target.into() };
        } else if let Some(first) = what.strip_prefix('=') {
            entry.kind = Kind::HardLink { first: first.into() };
        } else {
            let digest = Digest::of(what.as_bytes());
            let frame = FrameAt { pack: pack.clone(), offset: 0, length: 1, plain: 8 };
            let chunks = vec![ChunkAt { digest, frame, inner: 0 }];
            entry.kind = Kind::Regular(Content { digest, chunks, holes: vec![] });
        }
        entry
    };
    let root = [("", "/")];
    let mut entries: Vec<Entry> = root.iter().filter(|_| !what[0].0.is_empty()).chain(what).map(entry).collect();
    for entry in &mut entries {
        let is_name = |what: &str| what.strip_prefix('=').is_some_and(|first| first.as_bytes() == entry.path);
        entry.links = 1 + what.iter().filter(|(_, what)| is_name(what)).count() as u32;
    }
    entries.sort_by(|a, b| parent_and_name(&a.path).cmp(&parent_and_name(&b.path)));
    let tree = hash_directories(&mut entries);
    let summary = Summary { push: None, tree, entries: entries.len() as u64, bytes: 0, tar: None };
    Arc::new(FileMap::of_archive(summary, entries, &pack))
}

fn merged(layers: &[Arc<FileMap>]) -> Vec<Entry> {
    let map = merge(layers, &Job::default()).unwrap();
    let all: Vec<Entry> = (0..map.pages().len()).flat_map(|page| map.rows(page).unwrap().to_vec()).collect();
    assert_eq!(map.summary.entries, all.len() as u64);
    assert!(all.is_sorted_by(|a, b| parent_and_name(&a.path) < parent_and_name(&b.path)));
    let mut again = all.clone();
    assert_eq!(hash_directories(&mut again), map.summary.tree);
    assert_eq!(again, all, "each directory has its digest");
    all
}

/// What is seen: of each path the layer that says it, and what it is.
fn seen(layers: &[Arc<FileMap>]) -> Vec<String> {
    let told = |entry: Entry| {
        let path = String::from_utf8(entry.path.clone()).unwrap();
        match &entry.kind {
            Kind::Directory { .. } => format!("{path}/ {}", entry.mode),
            Kind::Regular(content) => format!("{path} {} x{}", content.chunks[0].frame.pack[0], entry.links),
            Kind::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::HardLink { first } => format!("{path} = {}", String::from_utf8_lossy(first)),
            _ => path,
        }
    };
    merged(layers).into_iter().skip(1).map(told).collect()
}

#[test]
fn a_name_says_what_the_topmost_layer_says() {
    let layers = [
        layer(1, &[("a", "one"), ("d", "/448"), ("d/x", "one"), ("d/y", "one")]),
        layer(2, &[("d", "/493"), ("d/y", "two"), ("d/z", "two")]),
        layer(3, &[("b", "three"), ("d", "/"), ("d/z", "three")]),
    ];
    assert_eq!(seen(&layers), ["a 1 x1", "b 3 x1", "d/ 493", "d/x 1 x1", "d/y 2 x1", "d/z 3 x1"]);
}

#[test]
fn a_whiteout_takes_a_name_from_the_layers_below_its_own_alone() {
    let below = layer(1, &[("a", "one"), ("d", "/448"), ("d/x", "one"), ("d/sub", "/448"), ("d/sub/deep", "one")]);
    let gone = layer(2, &[(".wh.a", ""), (".wh.d", ""), (".wh.never", ""), (".wh.", "")]);
    assert_eq!(seen(&[below.clone(), gone.clone()]), [""; 0]);
    let back = layer(3, &[("d", "/449"), ("d/new", "three")]);
    assert_eq!(seen(&[below.clone(), gone, back]), ["d/ 449", "d/new 3 x1"]);
    let both = layer(2, &[(".wh.d", ""), ("d", "/449"), ("d/new", "two"), ("a", "two"), (".wh.a", "")]);
    assert_eq!(seen(&[below, both]), ["a 2 x1", "d/ 449", "d/new 2 x1"]);
}

#[test]
fn an_opaque_directory_hides_what_lower_layers_have_in_it() {
    let layers = [
        layer(1, &[("d", "/448"), ("d/x", "one"), ("d/sub", "/448"), ("d/sub/deep", "one"), ("e", "one")]),
        layer(2, &[("d", "/449"), ("d/!", "two"), ("d/.wh..wh..opq", ""), ("d/sub", "/450"), ("d/y", "two")]),
        layer(3, &[("d", "/"), ("d/z", "three")]),
    ];
    assert_eq!(seen(&layers), ["d/ 449", "e 1 x1", "d/! 2 x1", "d/sub/ 450", "d/y 2 x1", "d/z 3 x1"]);
}

#[test]
fn what_is_no_directory_hides_all_that_was_below_it() {
    let layers = [
        layer(1, &[("d", "/448"), ("d/x", "one"), ("e", "one")]),
        layer(2, &[("d", "two"), ("e", "/448"), ("e/f", "two")]),
        layer(3, &[("d", "/449"), ("d/y", "three"), ("e", "->d")]),
    ];
    assert_eq!(seen(&layers[..2]), ["d 2 x1", "e/ 448", "e/f 2 x1"]);
    assert_eq!(seen(&layers), ["d/ 449", "e -> d", "d/y 3 x1"]);
}

#[test]
fn a_file_keeps_the_names_that_are_still_seen_and_its_content_with_the_first() {
    let below = layer(1, &[("a", "one"), ("b", "=a"), ("c", "=a"), ("d", "/448"), ("d/e", "=a")]);
    assert_eq!(seen(std::slice::from_ref(&below)), ["a 1 x4", "b = a", "c = a", "d/ 448", "d/e = a"]);
    let without = layer(2, &[(".wh.a", ""), ("c", "two")]);
    assert_eq!(seen(&[below.clone(), without]), ["b 1 x2", "c 2 x1", "d/ 448", "d/e = b"]);
    let one_left = layer(2, &[(".wh.b", ""), ("c", "two"), (".wh.d", "")]);
    assert_eq!(seen(&[below.clone(), one_left]), ["a 1 x1", "c 2 x1"]);
    let another = layer(2, &[("a", "two"), ("b", "=a")]);
    assert_eq!(seen(&[below, another]), ["a 2 x2", "b = a", "c 1 x2", "d/ 448", "d/e = c"]);
}

#[test]
fn a_link_to_what_its_layer_has_not_is_to_the_file_that_the_layers_below_have() {
    let below = layer(1, &[("a", "one"), ("d", "/448"), ("d/e", "=a"), ("f", "one")]);
    let linked = layer(2, &[("b", "=a"), ("d", "/448"), ("d/g", "=f"), (".wh.f", "")]);
    let both = [below.clone(), linked.clone()];
    assert_eq!(seen(&both), ["a 1 x3", "b = a", "d/ 448", "d/e = a", "d/g 1 x1"]);
    // What a later layer puts or takes away there is another matter.
    let later = layer(3, &[("a", "three"), ("c", "=b"), (".wh.d", "")]);
    assert_eq!(seen(&[below.clone(), linked, later]), ["a 3 x1", "b 1 x2", "c = b"]);
    // A link that leads to such a one, in either order of their names.
    let chained = layer(2, &[("aa", "=f"), ("z", "=aa"), ("b", "=z")]);
    assert_eq!(
        seen(&[below.clone(), chained]),
        ["a 1 x2", "aa 1 x4", "b = aa", "d/ 448", "f = aa", "z = aa", "d/e = a"]
    );
    let through =
        [below, layer(2, &[("b", "=a")]), layer(3, &[(".wh.a", ""), ("a", "/449")]), layer(4, &[("c", "=b")])];
    assert_eq!(seen(&through), ["a/ 449", "b 1 x3", "c = b", "d/ 448", "f 1 x1", "d/e = b"]);
}

#[test]
fn a_link_to_what_is_not_to_be_seen_below_is_refused_by_name() {
    let below = layer(
        1,
        &[
            ("d", "/448"),
            ("d/sub", "/448"),
            ("d/sub/x", "one"),
            ("y", "one"),
            (".prefetch.landmark", ""),
            (".wh.q", ""),
        ],
    );
    let gone: [&[(&str, &str)]; 5] = [
        &[(".wh.d", ""), (".wh.y", "")],
        &[("d", "/448"), ("d/.wh.sub", ""), ("y", "/448")],
        &[("d", "/448"), ("d/sub", "two"), (".wh.y", "")],
        &[("d", "/448"), ("d/.wh..wh..opq", ""), ("y", "/448")],
        &[("d", "->y"), (".wh..wh..opq", "")],
    ];
    for hiding in gone {
        for first in ["d/sub/x", "y"] {
            let target = format!("={first}");
            let layers = [below.clone(), layer(2, hiding), layer(3, &[("link", &target)])];
            let error = merge(&layers, &Job::default()).err().unwrap().to_string();
            assert!(error.contains(&format!("link is a hard link to {first}, of which")), "{error}");
            // What is never seen is asked nothing.
            let hidden = layer(4, &[(".wh.link", "")]);
            assert!(merge(&[&layers[..], &[hidden]].concat(), &Job::default()).is_ok());
        }
    }
    for first in ["d", "d/sub", "nothing", ".wh.q", ".prefetch.landmark", "x/.wh..wh.plnk/1"] {
        let target = format!("={first}");
        assert!(
            merge(&[below.clone(), layer(2, &[("link", &target), (".wh.y", "")])], &Job::default()).is_err(),
            "{first}"
        );
    }
    assert!(merge(&[layer(1, &[("a", "=b"), ("b", "=a")])], &Job::default()).is_err());
}

#[test]
fn what_builders_and_archives_keep_for_themselves_is_not_seen() {
    let layers = [layer(
        1,
        &[
            (".wh..wh.plnk", "/448"),
            (".wh..wh.plnk/1", "x"),
            (".prefetch.landmark", "x"),
            ("d", "/448"),
            ("d/.prefetch.landmark", "x"),
        ],
    )];
    assert_eq!(seen(&layers), ["d/ 448", "d/.prefetch.landmark 1 x1"]);
}

#[test]
fn an_image_without_layers_is_an_empty_directory() {
    let root = merged(&[]);
    assert_eq!((root.len(), root[0].mode), (1, 0o755));
}

#[test]
fn the_root_is_that_of_the_topmost_layer_that_names_it() {
    let named = layer(1, &[("", "/448"), ("a", "one")]);
    assert_eq!(merged(&[named, layer(2, &[("b", "two")])])[0].mode, 448);
}

#[test]
fn frames_are_led_if_those_of_any_layer_are() {
    let led = || {
        let mut map = Arc::into_inner(layer(2, &[("b", "two")])).unwrap();
        map.form = Form::Led;
        Arc::new(map)
    };
    let form = |layers: &[Arc<FileMap>]| merge(layers, &Job::default()).unwrap().form;
    assert_eq!(form(&[layer(1, &[("a", "one")])]), Form::Archive);
    assert_eq!(form(&[layer(1, &[("a", "one")]), led()]), Form::Led);
}

#[test]
fn too_many_layers_are_refused_and_work_can_be_stopped() {
    let one = layer(1, &[("a", "one")]);
    assert!(matches!(merge(&vec![one.clone(); 5000], &Job::default()), Err(Error::Damaged { .. })));
    let job = Job::default();
    job.stop();
    assert!(matches!(merge(&[one], &job), Err(Error::Stopped)));
}

#[test]
fn a_map_that_was_kept_says_the_same_and_is_proved() {
    let layers = [
        layer(1, &[("a", "one"), ("b", "=a"), ("d", "/448"), ("d/x", "one"), ("link", "->a")]),
        layer(2, &[(".wh.a", ""), ("d", "/449"), ("d/y", "two")]),
    ];
    let map = merge(&layers, &Job::default()).unwrap();
    let (mut file, name) = (Vec::new(), std::path::Path::new("kept"));
    let kept = keep(&map, &mut file, name, &Job::default()).unwrap();
    let fence = &file[kept.at as usize..][..kept.length as usize];
    for (is_led, form) in [(false, Form::Archive), (true, Form::Led)] {
        let again = open(fence, kept.digest, is_led).unwrap();
        assert_eq!((&again.summary, again.form), (&map.summary, form));
        for (number, page) in again.pages().iter().enumerate() {
            let stored = &file[page.frame.offset as usize..][..page.frame.length as usize];
            let plain = Form::Archive.open(stored, page.frame.plain).unwrap();
            let text = crate::archive::frame::chunk(&plain, page.inner, &page.digest).unwrap();
            again.add_page(number, text).unwrap();
        }
        let all = |map: &FileMap| -> Vec<Entry> {
            (0..map.pages().len()).flat_map(|page| map.rows(page).unwrap().to_vec()).collect()
        };
        assert_eq!(all(&again), all(&map));
    }
    let other = Digest { sha256: [7; 32], ..kept.digest };
    assert!(matches!(open(fence, other, false), Err(Error::Mismatch { .. })));
    assert!(matches!(keep(&layers[0], &mut file, name, &Job::default()), Err(Error::Missing { .. })));
}
