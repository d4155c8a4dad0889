//! What pax headers say of an entry.
//!
//! Invariant: of a key that is said twice the last counts; an empty value takes back what was said.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::pax::XATTR;
use super::sparse::Runs;
use super::{acl, number};
use crate::scan::Time;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
/// With padding or without: bsdtar leaves it away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub sparse: SparseRecords,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Said in another form than the kernel's: count only where nothing was said in that.
    others: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// GNU's formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    pub version: (Option<u64>, Option<u64>),
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub runs: Runs,
    offset: Option<u64>,
}

impl Records {
    /// Heed all records of a pax header, over what was said before.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(&mut self, mut text: &[u8]) -> Result<(), String> {
        while !text.is_empty() {
            let (key, value, rest) = split(text).ok_or("its pax header is no list of records")?;
            self.heed(key, value).map_err(|found| format!("pax record {}: {found}", key.escape_ascii()))?;
            text = rest;
        }
        Ok(())
    }

    fn heed(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = count(value)?,
            b"uid" => self.uid = owner(value)?,
            b"gid" => self.gid = owner(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(number::time(value).ok_or("it is no time")?),
            b"SCHILY.devmajor" => self.major = device(value)?,
            b"SCHILY.devminor" => self.minor = device(value)?,
            b"SCHILY.acl.access" => {
                self.list(ACCESS, acl::binary(value).filter(|list| !acl::is_a_mode(list)));
            }
            b"SCHILY.acl.default" => self.list(DEFAULT, acl::binary(value)),
            b"RHT.security.selinux" if !value.is_empty() => {
                let label = [value, b"\0"].concat();
                self.others.insert(b"security.selinux".to_vec(), label);
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    let name = decode_percent(name, |code| matches!(code, b"25" | b"3D"));
                    self.xattrs.insert(attribute(name)?, value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = BASE64.decode(value).map_err(|_| "it is no base64")?;
                    self.others.insert(attribute(decode_percent(name, |_| true))?, value);
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.heed(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, name: &[u8], list: Option<Vec<u8>>) {
        match list {
            Some(list) => self.others.insert(name.to_vec(), list),
            None => self.others.remove(name),
        };
    }

    /// The extended attributes in order of their names.
    pub fn take_xattrs(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = std::mem::take(&mut self.others);
        all.append(&mut self.xattrs);
        all.into_iter().collect()
    }

    /// About how many bytes are kept.
    pub fn weight(&self) -> usize {
        let names = [&self.path, &self.link].into_iter().flatten().map(Vec::len);
        let xattrs = self.xattrs.iter().chain(&self.others).map(|(name, value)| 64 + name.len() + value.len());
        names.chain(xattrs).sum()
    }
}

impl SparseRecords {
    fn heed(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let pair = |offset: Option<u64>, length: Option<u64>| offset.zip(length).ok_or("its map of holes has a gap");
        match key {
            b"major" => self.version.0 = count(value)?,
            b"minor" => self.version.1 = count(value)?,
            b"name" => self.name = name(value)?,
            b"size" | b"realsize" => self.size = count(value)?,
            b"offset" => self.offset = count(value)?,
            b"numbytes" => {
                let (offset, length) = pair(self.offset.take(), count(value)?)?;
                self.runs.push(offset, length)?;
            }
            b"map" => self.runs = Runs::from_text(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// Key, value and what follows of the first record.
pub(super) fn split(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // No record within the bound has a length of more digits.
    let blank = text.iter().take(10).position(|&byte| byte == b' ')?;
    let length = usize::try_from(number::decimal(&text[..blank])?).ok()?;
    let (record, rest) = text.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// `None` of an empty value.
fn said<T>(value: &[u8], read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, &'static str> {
    if value.is_empty() { Ok(None) } else { read(value).map(Some).ok_or("it is no number that can be") }
}

fn count(value: &[u8]) -> Result<Option<u64>, &'static str> {
    said(value, number::decimal)
}

fn owner(value: &[u8]) -> Result<Option<u64>, &'static str> {
    // One bit more than sizes have: we write what we are told.
    said(value, |value| if value.first() == Some(&b'+') { None } else { std::str::from_utf8(value).ok()?.parse().ok() })
}

fn device(value: &[u8]) -> Result<Option<u32>, &'static str> {
    said(value, |value| u32::try_from(number::decimal(value)?).ok())
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    match value {
        [] => Ok(None),
        value if value.contains(&0) => Err("it has a NUL"),
        value => Ok(Some(value.to_vec())),
    }
}

fn attribute(name: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if name.is_empty() || name.contains(&0) { Err("it names no attribute") } else { Ok(name) }
}

/// With each `%XX` that `wanted` takes made into its byte.
fn decode_percent(name: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        let code = tail.get(..2).filter(|code| *byte == b'%' && wanted(code));
        let coded = code.filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        let coded = coded.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(coded.unwrap_or(*byte));
        rest = if coded.is_some() { &tail[2..] } else { tail };
    }
    out
}
