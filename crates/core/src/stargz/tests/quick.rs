use super::super::{decode, quick};
use super::*;

/// How writers spell entries, and what is not for the quick way.
fn texts() -> Vec<String> {
    let sha = format!("sha256:{SHA}");
    let mut out: Vec<String> = [Spelling::Lines, Spelling::OneLine]
        .iter()
        .flat_map(|&spelling| {
            golden().into_iter().map(move |entry| {
                let text = String::from_utf8(spell(spelling, &[entry], None)).unwrap();
                let (start, end) = (text.find('[').unwrap(), text.rfind(']').unwrap());
                text[start + 1..end].to_owned()
            })
        })
        .collect();
    out.push(format!(
        r#" {{"name":"a/b","type":"reg","size":12,"modtime":"2024-02-29T12:00:00.5Z","mode":33188,"uid":7,"gid":0,"userName":"me","offset":1,"innerOffset":2,"endOffset":3,"digest":"{sha}","chunkDigest":"{sha}","chunkSize":9,"chunkOffset":0}} ,"#
    ));
    out.push(r#"{"name":"d/","type":"dir","linkName":"x","devMajor":1,"digest":""}"#.into());
    out.push(r#"{"name":"h","type":"hardlink","linkName":"d/f","name":"i","size":100000000000000000}"#.into());
    out.push(r#"{"name":"","type":"chunk","modtime":"never","digest":"md5:1"}"#.into());
    out
}

#[test]
fn what_writers_spell_is_read_the_quick_way() {
    let read: Vec<bool> = texts().iter().map(|text| quick::entry(text.as_bytes()).is_some()).collect();
    let plainly = [false, false, true, true, true, false, true, true];
    let expected = [&plainly[..], &plainly[..], &[true, true, true, false]].concat();
    assert_eq!(read, expected);
}

#[test]
fn names_that_are_refused_are_never_read_the_quick_way() {
    let refused =
        ["a/".repeat(2048) + "a", "a".repeat(256), "a/".repeat(1 << 20), "a//b".into(), "../a".into(), "a/.".into()];
    for (name, allowed) in refused.iter().map(|name| (name.clone(), false)).chain([("a/".repeat(2047) + "a", true)]) {
        let link = format!(r#"{{"name":"l","type":"hardlink","linkName":"{name}"}}"#);
        for text in [link, format!(r#"{{"name":"{name}","type":"fifo"}}"#)] {
            assert_eq!(quick::entry(text.as_bytes()).is_some(), allowed, "{}", &name[..name.len().min(20)]);
        }
    }
}

#[test]
fn what_is_read_the_quick_way_is_read_alike_the_other() {
    let spoilt: &[u8] = b"\0\t \"\\/.0-9eE{}[],:nZz\x7f\x80\xffu";
    let mut quickly = 0;
    let mut compare = |text: &[u8]| {
        let Some((entry, used)) = quick::entry(text) else { return };
        let mut all = text::Text::new(text);
        let value = all.value().unwrap();
        assert_eq!(value, text[..used].trim_ascii_start());
        assert_eq!(decode::entry(value).unwrap(), entry, "{}", String::from_utf8_lossy(text));
        quickly += 1;
    };
    for text in texts() {
        let text = text.as_bytes();
        for at in 0..text.len() {
            compare(&text[..at]);
            compare(&[&text[..at], &text[at + 1..]].concat());
            for &byte in spoilt {
                compare(&[&text[..at], &[byte], &text[at + 1..]].concat());
                compare(&[&text[..at], &[byte], &text[at..]].concat());
            }
        }
    }
    assert!(quickly > 1_000);
}
