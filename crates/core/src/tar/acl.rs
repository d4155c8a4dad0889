//! Access control lists as star writes them, made into those of the kernel (`system.posix_acl_access` and `…_default`).

const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHER: u16 = 32;
const NOBODY: u32 = u32::MAX;

/// The kernel's form of a text as `user::rwx,user:joe:r-x:1000,group::r--,mask::r-x,other::---`, where the number after the
/// rights, or a number instead of the name, tells who. `None` when it tells a name only, or is no list at all.
pub(super) fn binary(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut list = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split('#').next().unwrap_or(line).trim();
        if !line.is_empty() {
            list.push(entry(line)?);
        }
    }
    list.sort_unstable();
    let count = |tag| list.iter().filter(|entry| entry.0 == tag).count();
    let each_once = list.windows(2).all(|pair| (pair[0].0, pair[0].1) != (pair[1].0, pair[1].1));
    let whole = [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|&tag| count(tag) == 1);
    let masked = count(USER) + count(GROUP) == 0 || count(MASK) == 1;
    if !(each_once && whole && masked) {
        return None;
    }
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, id, rights) in list {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&rights.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    Some(out)
}

/// Whether a list in the kernel's form says no more than a mode does; the kernel keeps no such list of access.
pub(super) fn is_a_mode(binary: &[u8]) -> bool {
    binary.len() == 4 + 3 * 8
}

/// Tag, whose, rights.
fn entry(line: &str) -> Option<(u16, u32, u16)> {
    let parts: Vec<&str> = line.split(':').map(str::trim).collect();
    let (whose, rights, number) = match parts[..] {
        // Without the empty part in the middle, as Solaris writes it.
        [_, rights] => ("", rights, None),
        [_, whose, rights] => (whose, rights, None),
        [_, whose, rights, number] => (whose, rights, Some(number)),
        _ => return None,
    };
    let tag = match (parts[0], whose.is_empty()) {
        ("user" | "u", true) => USER_OBJ,
        ("user" | "u", false) => USER,
        ("group" | "g", true) => GROUP_OBJ,
        ("group" | "g", false) => GROUP,
        ("mask" | "m", true) => MASK,
        ("other" | "o", true) => OTHER,
        _ => return None,
    };
    let id = if matches!(tag, USER | GROUP) { number.unwrap_or(whose).parse().ok()? } else { NOBODY };
    let mut bits = 0;
    for right in rights.chars() {
        bits |= match right {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    (rights.len() <= 3).then_some((tag, id, bits))
}
