//! One target of `tests/fuzz/targets` under libFuzzer, which keeps inputs that reach code no earlier one
//! reached. `RAFTCACHE_FUZZ_TARGET` names the target; where `RAFTCACHE_FUZZ_SOUND` names a directory, the
//! target's sound inputs are put there first. See `run.sh`.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::cell::RefCell;
use std::path::PathBuf;

use targets::{NAMES, Target, of_name};

thread_local! {
    /// libFuzzer calls from one thread.
    static TARGET: RefCell<Option<Target>> = const { RefCell::new(None) };
}

fn choose() {
    let name = std::env::var("RAFTCACHE_FUZZ_TARGET").unwrap_or_default();
    let Some(mut target) = of_name(&name) else {
        eprintln!("RAFTCACHE_FUZZ_TARGET is {name:?}; it is one of {}", NAMES.join(" "));
        std::process::exit(2);
    };
    let sound_dir = std::env::var_os("RAFTCACHE_FUZZ_SOUND").map(PathBuf::from);
    for (number, input) in target.sound.iter().enumerate() {
        assert!((target.take)(input), "{name}: what is sound is understood: {input:?}");
        if let Some(dir) = &sound_dir {
            let path = dir.join(format!("sound-{number}"));
            std::fs::write(&path, input).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
    TARGET.with(|chosen| *chosen.borrow_mut() = Some(target));
}

libfuzzer_sys::fuzz_target!(init: choose(), |input: &[u8]| {
    TARGET.with(|chosen| {
        let mut target = chosen.borrow_mut();
        let target = target.as_mut().expect("chosen before the first input");
        (target.take)(input);
    });
});
