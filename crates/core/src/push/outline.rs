//! The outline: one line from which, with packs alone, fence index, snapshot and ref can be made again.
//! Bytes: docs/format.md, "Archives and packs".

use std::io::Write as _;

use crate::digest::{Digest, hex};
use crate::filemap::Summary;

/// `words` is a JSON object of what the core does not know: who, when, from what. Here it is gone on with.
/// `splits` are pages of split metadata, which there are where there is a tar.
pub fn outline(
    words: &[u8],
    summary: &Summary,
    pages: impl Iterator<Item = Digest>,
    splits: impl Iterator<Item = Digest>,
) -> Vec<u8> {
    let Summary { tree, entries, bytes, tar, .. } = summary;
    let mut out = words.strip_suffix(b"}").expect("the words are a JSON object").to_vec();
    let sha = |digest: &Digest| format!("\"sha256:{}\"", hex(&digest.sha256));
    write!(
        out,
        ",\"tree\":{},\"treeSize\":{},\"entries\":{entries},\"bytes\":{bytes},\"pages\":[",
        sha(tree),
        tree.size
    )
    .expect("a Vec takes every write");
    let push_all = |out: &mut Vec<u8>, pages: &mut dyn Iterator<Item = Digest>| {
        for (number, page) in pages.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(sha(&page).as_bytes());
        }
    };
    push_all(&mut out, &mut { pages });
    if let Some(tar) = tar {
        write!(out, "],\"tar\":{},\"tarSize\":{},\"splits\":[", sha(tar), tar.size).expect("a Vec takes every write");
        push_all(&mut out, &mut { splits });
    }
    out.extend_from_slice(b"]}\n");
    out
}
