//! What raft-engine 0.4.2 believes of its files without a checksum, looked at before it opens them.
//!
//! ```text
//! file   magic 53 bytes, version u64 BE, alignment u64 BE, batches
//! batch  length u56 BE, compression u8, offset of the items u64 BE, rest
//! ```
//!
//! A wrong alignment makes it ask for any number of bytes, which ends the process; so may the
//! length that it reads from a block which a wrong bit calls compressed. All else it checks.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const VERSION: u64 = 2;
/// Neither aligned nor compressed is what we ask for.
const ALIGNMENT: u64 = 0;
const COMPRESSED: u64 = 1;
/// Bytes of a batch's header, which its length includes.
const BATCH_HEADER: usize = 16;

/// Why a file must not be opened.
pub(super) type Finding = String;

/// Fills `buf`; false if the file ends before.
fn fill(file: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn check_file(path: &Path) -> io::Result<Result<(), Finding>> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut file = BufReader::with_capacity(64 * 1024, file);
    let mut magic = [0; MAGIC.len()];
    let mut numbers = [[0; 8]; 2];
    // What is not a file of its own, or shorter than a header, it handles.
    if !fill(&mut file, &mut magic)? || magic != MAGIC {
        return Ok(Ok(()));
    }
    for number in &mut numbers {
        if !fill(&mut file, number)? {
            return Ok(Ok(()));
        }
    }
    let [version, alignment] = numbers.map(u64::from_be_bytes);
    if (version, alignment) != (VERSION, ALIGNMENT) {
        return Ok(Err(format!("version {version}, alignment {alignment}")));
    }
    let mut at = (MAGIC.len() + 16) as u64;
    let mut header = [0; BATCH_HEADER];
    while fill(&mut file, &mut header)? {
        let (word, _) = header.split_at(8);
        let word = word.try_into().map_or(0, u64::from_be_bytes);
        let (length, compression) = (word >> 8, word & 0xff);
        if length < BATCH_HEADER as u64 || length > bytes - at {
            // Broken, or the zeros at the end: it goes no further either.
            break;
        }
        if compression == COMPRESSED {
            return Ok(Err(format!("a compressed batch at {at}")));
        }
        at += length;
        let rest = i64::try_from(length).map_err(io::Error::other)? - BATCH_HEADER as i64;
        file.seek_relative(rest)?;
    }
    Ok(Ok(()))
}

/// Looks at all files in `dir`, if it is there.
pub(super) fn check(dir: &Path) -> io::Result<Result<(), Finding>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "raftlog" || end == "rewrite")
            && let Err(finding) = check_file(&path)?
        {
            return Ok(Err(format!("{}: {finding}", path.display())));
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u64, alignment: u64, batches: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend(alignment.to_be_bytes());
        for (length, compression) in batches {
            bytes.extend((length << 8 | compression).to_be_bytes());
            bytes.extend(vec![0xff; *length as usize - 8]);
        }
        bytes
    }

    #[test]
    fn only_what_it_would_believe_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(&dir.path().join("none")).unwrap(), Ok(()));
        let look = |bytes: &[u8]| {
            std::fs::write(dir.path().join("0000000000000001.raftlog"), bytes).unwrap();
            check(dir.path()).unwrap()
        };
        let whole = file(VERSION, 0, &[(40, 0), (99, 0), (16, 0)]);
        assert_eq!(look(&whole), Ok(()));
        for cut in 0..whole.len() {
            assert_eq!(look(&whole[..cut]), Ok(()), "it handles a torn end itself");
        }
        let zeros = [whole, vec![0; 5000]].concat();
        assert_eq!(look(&zeros), Ok(()));
        look(&file(VERSION, 1 << 58, &[(40, 0)])).unwrap_err();
        look(&file(1, 0, &[(40, 0)])).unwrap_err();
        let finding = look(&file(VERSION, 0, &[(40, 0), (99, 1)])).unwrap_err();
        assert!(finding.contains("compressed batch at 109"), "{finding}");
    }
}
