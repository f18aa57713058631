//! The ways a disk fails.

use std::path::PathBuf;

use super::history::{Round, below};
use super::image::Image;
use crate::types::random::Random;

/// Bytes that a device writes at once.
const SECTOR: usize = 512;

/// A damaged store, and what may be asked of it.
pub(super) struct Case {
    pub(super) image: Image,
    /// Only what was never acknowledged is damaged: the batch may be there as far as it got, and
    /// there is no reason to refuse the store.
    pub(super) innocent: bool,
}

/// Kinds of damage, with the number of seeded cases of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fault {
    /// The newest file ends somewhere in its last batch, or is zero from there on.
    Cut,
    /// The same, of a batch that was never acknowledged.
    CutUnflushed,
    /// Of a batch that was never acknowledged only some sectors were written.
    Reordered,
    /// Bits changed anywhere.
    Flipped,
    /// A block was written at another's place.
    Misdirected,
    /// The end of the newest file reads as zeros.
    Zeroed,
    /// A file is gone.
    Lost,
}

pub(super) const FAULTS: [(Fault, u64); 7] = [
    (Fault::Cut, 420),
    (Fault::CutUnflushed, 160),
    (Fault::Reordered, 160),
    (Fault::Flipped, 200),
    (Fault::Misdirected, 120),
    (Fault::Zeroed, 60),
    (Fault::Lost, 40),
];

/// The newest data file: the last changed one that a batch appends to.
fn newest(round: &Round) -> PathBuf {
    let changed = |path: &PathBuf| round.before.files.get(path) != round.after.files.get(path);
    let files = round.after.data_files();
    let log = |path: &&PathBuf| path.extension().is_none_or(|e| e != "rewrite");
    let newest = files.iter().filter(log).rfind(|path| changed(path));
    newest.or(files.last()).expect("a store has files").clone()
}

/// Where the batch begins in `path`, and where it ends.
fn batch_span(round: &Round, path: &PathBuf) -> (usize, usize) {
    let after = &round.after.files[path];
    let same =
        |at: &usize| round.before.files.get(path).is_some_and(|f| f.byte(*at) == after.byte(*at));
    let start = (0..after.data.len()).take_while(same).count();
    (start, after.data.len())
}

/// Whether the batch changed one file only: nothing was given back or begun in between.
fn one_file(round: &Round) -> bool {
    round.before.files.keys().eq(round.after.files.keys())
        && round.before.files.iter().filter(|(path, c)| round.after.files[*path] != **c).count()
            <= 2
}

/// Damages the files of one of `rounds`; the number of the case gives the place where one kind goes
/// through all places in turn. Gives the round it took as well.
pub(super) fn damage<'a>(
    fault: Fault,
    number: u64,
    rounds: &'a [Round],
    random: &mut Random,
) -> (&'a Round, Case) {
    let simple: Vec<&Round> = rounds.iter().filter(|round| one_file(round)).collect();
    let any = &rounds[below(random, rounds.len())];
    let simply = simple.get(below(random, simple.len())).copied();
    let mut case = Case { image: any.after.clone(), innocent: false };
    match (fault, simply) {
        (Fault::Cut, _) => {
            // The last of the rounds: each byte of its last batch in turn.
            let round = rounds.last().expect("there are rounds");
            let path = newest(round);
            let (start, end) = batch_span(round, &path);
            let at = start + number as usize % (end - start).max(1);
            case.image = round.after.clone();
            end_at(&mut case.image, &path, at, number.is_multiple_of(2));
            return (round, case);
        }
        (Fault::CutUnflushed, Some(round)) => {
            let path = newest(round);
            let (start, end) = batch_span(round, &path);
            case.image = unacknowledged(round);
            let at = start + below(random, end - start);
            end_at(&mut case.image, &path, at, number.is_multiple_of(2));
            case.innocent = true;
            return (round, case);
        }
        (Fault::Reordered, Some(round)) => {
            case.image = some_sectors(round, random);
            case.innocent = true;
            return (round, case);
        }
        (Fault::CutUnflushed | Fault::Reordered, None) | (Fault::Flipped, _) => {
            let files: Vec<PathBuf> = case.image.files.keys().cloned().collect();
            for _ in 0..1 + below(random, 4) {
                let path = &files[below(random, files.len())];
                let file = case.image.files.get_mut(path).expect("it was listed");
                let at = below(random, file.data.len());
                let byte = file.byte(at) ^ 1 << below(random, 8);
                file.put(at, &[byte]);
            }
        }
        (Fault::Misdirected, _) => misdirect(&mut case.image, random),
        (Fault::Zeroed, _) => {
            let path = newest(any);
            let file = case.image.files.get_mut(&path).expect("it was listed");
            let bytes = if number.is_multiple_of(2) { 4096 } else { 1 + below(random, 8192) };
            let (from, used) = (file.data.len().saturating_sub(bytes), file.data.len());
            file.put(from, &vec![0; used - from]);
        }
        (Fault::Lost, _) => {
            let files: Vec<PathBuf> = case.image.files.keys().cloned().collect();
            case.image.files.remove(&files[below(random, files.len())]);
        }
    }
    (any, case)
}

fn end_at(image: &mut Image, path: &PathBuf, at: usize, zeros: bool) {
    let file = image.files.get_mut(path).expect("it is the newest file");
    let len = file.len;
    file.cut(at);
    if zeros {
        file.len = len;
    }
}

/// The files after the batch, with the flush mark from before it: it is written after the sync.
fn unacknowledged(round: &Round) -> Image {
    let mut image = round.after.clone();
    let mark = PathBuf::from("flushed");
    image.files.insert(mark.clone(), round.before.files[&mark].clone());
    image
}

fn some_sectors(round: &Round, random: &mut Random) -> Image {
    let mut image = unacknowledged(round);
    for (path, after) in &round.after.files {
        let before = &round.before.files[path];
        if before == after || path.as_os_str() == "flushed" {
            continue;
        }
        let file = image.files.get_mut(path).expect("it is one of them");
        let keep = random.bits();
        for (number, at) in (0..before.len.max(after.len)).step_by(SECTOR).enumerate() {
            // Runs of sectors of every length come up.
            if (keep >> (number % 61)) & 1 == 0 || below(random, 5) == 0 {
                let old: Vec<u8> = (at..at + SECTOR).map(|at| before.byte(at)).collect();
                file.put(at, &old);
            }
            if at > before.data.len() && at > after.data.len() {
                break;
            }
        }
        if below(random, 3) == 0 {
            file.cut(before.len);
        }
    }
    image
}

fn misdirect(image: &mut Image, random: &mut Random) {
    let files = image.data_files();
    let from = &image.files[&files[below(random, files.len())]];
    let size = [64, SECTOR, 4096][below(random, 3)];
    let source = below(random, from.data.len().div_ceil(size)) * size;
    let block: Vec<u8> = (source..source + size).map(|at| from.byte(at)).collect();
    let to = image.files.get_mut(&files[below(random, files.len())]).expect("it was listed");
    let target = below(random, to.data.len().div_ceil(size)) * size;
    to.put(target, &block);
}
