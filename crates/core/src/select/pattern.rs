//! One line of a rule file, from git's pattern language to that of the crate `ignore`.
//!
//! Invariant: what comes out means to `ignore` what git's wildmatch makes of the line. They differ in braces, classes,
//! runs of asterisks and white space at the end; compared with git itself in tests/unit/test_selection_git.py.

use std::iter::Peekable;
use std::str::Chars;

/// What is wrong with a pattern.
pub type Why = &'static str;

/// The line as `ignore` takes it; `None` when it says nothing.
///
/// # Errors
/// Why it is no pattern: git takes such a line to match nothing, without a word.
pub fn translate(line: &[u8]) -> Result<Option<String>, Why> {
    if line.starts_with(b"#") {
        return Ok(None);
    }
    let line = without_spaces(line);
    let text = str::from_utf8(line).map_err(|_| "not UTF-8")?;
    if text.contains('\0') {
        return Err("it has a NUL byte");
    }
    let (is_negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let (is_only_dir, text) = text.strip_suffix('/').map_or((false, text), |rest| (true, rest));
    let is_anchored = text.contains('/');
    let text = text.strip_prefix('/').unwrap_or(text);
    if text.is_empty() {
        return Ok(None);
    }
    // `ignore` sees a slash in any case, so its own anchoring never comes in.
    let mut out = format!("{}{}", if is_negated { "!" } else { "" }, if is_anchored { "/" } else { "**/" });
    glob(text, &mut out)?;
    if is_only_dir {
        out.push('/');
    } else if let Some(space) = out.chars().next_back().filter(|last| last.is_whitespace()) {
        // It would be trimmed; a choice of one is the same.
        out.truncate(out.len() - space.len_utf8());
        out.extend(['{', space, '}']);
    }
    Ok(Some(out))
}

/// Without the spaces at the end that no backslash quotes.
fn without_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b' ' => at += 1,
            b'\\' => {
                at += 2;
                end = at;
            }
            _ => {
                at += 1;
                end = at;
            }
        }
    }
    &line[..end.min(line.len())]
}

const EMPTY_NAME: Why = "an empty name in it";

fn glob(text: &str, out: &mut String) -> Result<(), Why> {
    let mut chars = text.chars().peekable();
    // At the beginning, or after a slash.
    let mut is_start = true;
    while let Some(c) = chars.next() {
        let was_start = std::mem::replace(&mut is_start, false);
        match c {
            '\\' => {
                let quoted = chars.next().ok_or("it ends with a backslash")?;
                is_start = quoted == '/';
                literal(quoted, out);
            }
            '/' if was_start => return Err(EMPTY_NAME),
            '/' => {
                is_start = true;
                out.push('/');
            }
            '*' => {
                let mut stars = 1;
                while chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                let is_end = matches!(chars.peek(), None | Some('/'));
                // Asterisks beside something else in a name are as one.
                out.push_str(if stars > 1 && was_start && is_end { "**" } else { "*" });
            }
            '?' => out.push('?'),
            '[' => Class::parse(&mut chars)?.write(out)?,
            c => literal(c, out),
        }
    }
    if is_start { Err(EMPTY_NAME) } else { Ok(()) }
}

fn literal(c: char, out: &mut String) {
    match c {
        // Not with a backslash: before a slash at the end `ignore` takes that away.
        '\\' => out.push_str("[\\]"),
        '*' | '?' | '[' | ']' | '{' | '}' => out.extend(['\\', c]),
        c => out.push(c),
    }
}

/// What stands in brackets.
#[derive(Default)]
struct Class {
    is_negated: bool,
    /// A bit for each character of ASCII.
    ascii: u128,
    /// Characters beyond ASCII.
    wide: String,
}

const UNCLOSED: Why = "a class without an end";
const WIDE_RANGE: Why = "a range of characters beyond ASCII";

impl Class {
    /// What follows the bracket, with the one that ends it.
    fn parse(chars: &mut Peekable<Chars<'_>>) -> Result<Class, Why> {
        let mut class = Class { is_negated: chars.next_if(|c| matches!(c, '!' | '^')).is_some(), ..Class::default() };
        // What a range may begin with.
        let mut before = None;
        let mut c = chars.next().ok_or(UNCLOSED)?;
        loop {
            before = match (c, before) {
                ('\\', _) => Some(class.put(chars.next().ok_or(UNCLOSED)?)),
                ('-', Some(first)) if chars.peek().ok_or(UNCLOSED)? != &']' => {
                    let last = match chars.next().ok_or(UNCLOSED)? {
                        '\\' => chars.next().ok_or(UNCLOSED)?,
                        last => last,
                    };
                    class.put_range(first, last)?;
                    None
                }
                ('[', _) if chars.peek() == Some(&':') => match named(chars)? {
                    Some(is_in) => {
                        (0..128_u8).filter(is_in).for_each(|c| class.ascii |= 1 << c);
                        None
                    }
                    None => Some(class.put('[')),
                },
                (c, _) => Some(class.put(c)),
            };
            c = chars.next().ok_or(UNCLOSED)?;
            if c == ']' {
                return Ok(class);
            }
        }
    }

    fn put(&mut self, c: char) -> char {
        if c.is_ascii() {
            self.ascii |= 1 << c as u32
        } else {
            self.wide.push(c)
        }
        c
    }

    fn put_range(&mut self, first: char, last: char) -> Result<(), Why> {
        if !first.is_ascii() || !last.is_ascii() {
            return Err(WIDE_RANGE);
        }
        (first..=last).for_each(|c| self.ascii |= 1 << c as u32);
        Ok(())
    }

    /// No class matches a slash. `ignore` quotes nothing in a class: each special character has its place.
    fn write(self, out: &mut String) -> Result<(), Why> {
        let slash = 1 << b'/';
        let ascii = if self.is_negated { self.ascii | slash } else { self.ascii & !slash };
        let has = |c: u8| ascii & 1 << c != 0;
        let [has_bracket, has_dash, has_caret, has_bang] = [b']', b'-', b'^', b'!'].map(has);
        let plain = (0..128_u8).filter(|&c| has(c) && !b"]-^!".contains(&c)).map(char::from);
        let plain: String = plain.chain(self.wide.chars()).collect();
        if !self.is_negated && plain.is_empty() && !has_bracket && !has_dash {
            match (has_caret, has_bang) {
                (true, true) => out.push_str("{^,!}"),
                (true, false) => out.push('^'),
                (false, true) => out.push('!'),
                (false, false) => return Err("a class that nothing is in"),
            }
            return Ok(());
        }
        out.push('[');
        let places = [(self.is_negated, '!'), (has_bracket, ']'), (has_dash && !has_bracket, '-')];
        places.iter().filter(|(is_there, _)| *is_there).for_each(|(_, c)| out.push(*c));
        out.push_str(&plain);
        let places = [(has_caret, '^'), (has_bang, '!'), (has_dash && has_bracket, '-'), (true, ']')];
        places.iter().filter(|(is_there, _)| *is_there).for_each(|(_, c)| out.push(*c));
        Ok(())
    }
}

type IsIn = fn(&u8) -> bool;

/// The characters of `[:name:]`, whose first bracket was taken; `None` when that is all it is.
fn named(chars: &mut Peekable<Chars<'_>>) -> Result<Option<IsIn>, Why> {
    let rest: String = chars.clone().skip(1).take_while(|&c| c != ']').collect();
    let Some(name) = rest.strip_suffix(':') else { return Ok(None) };
    let is_in: IsIn = match name {
        "alnum" => u8::is_ascii_alphanumeric,
        "alpha" => u8::is_ascii_alphabetic,
        "blank" => |c| matches!(c, b' ' | b'\t'),
        "cntrl" => u8::is_ascii_control,
        "digit" => u8::is_ascii_digit,
        "graph" => u8::is_ascii_graphic,
        "lower" => u8::is_ascii_lowercase,
        "print" => |c| c.is_ascii_graphic() || *c == b' ',
        "punct" => u8::is_ascii_punctuation,
        "space" => |c| matches!(c, b' ' | b'\t' | b'\n' | b'\r'),
        "upper" => u8::is_ascii_uppercase,
        "xdigit" => u8::is_ascii_hexdigit,
        _ => return Err("an unknown kind of characters"),
    };
    // The colon, the name with its colon, the bracket.
    chars.nth(rest.chars().count() + 1);
    Ok(Some(is_in))
}
