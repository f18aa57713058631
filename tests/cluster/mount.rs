//! A small file system of its own for one node, so that it can be filled up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::until;

/// A mounted tmpfs; unmounted when this is dropped, whatever happened before.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).output();
    let out = out.map_err(|error| format!("{program}: {error}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

impl Mount {
    /// Mounts a tmpfs of so many MiB at `path`, which is made.
    pub fn tmpfs(path: &Path, mebibytes: u32) -> Result<Mount, String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let name = path.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs", name])?;
        Ok(Mount { path: path.to_owned() })
    }

    /// Makes it read-only, or writable again. Tries again while a file is open for writing there,
    /// as that of the node's probe is now and then.
    pub async fn read_only(&self, read_only: bool) {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        until(how, Duration::from_secs(10), async || {
            run("mount", &["-o", how, self.path.to_str().unwrap()]).ok()
        })
        .await;
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes room until only about `left` bytes are free; 0 takes all there is.
    pub fn fill(&self, left: u64) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let block = [0x42; 64 * 1024];
        while self.free_bytes() > left {
            let room = usize::try_from(self.free_bytes() - left).unwrap().min(block.len());
            if file.write_all(&block[..room]).is_err() {
                return;
            }
        }
    }

    /// Gives the room back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Bytes that are free, as `df` says.
    pub fn free_bytes(&self) -> u64 {
        let path = self.path.to_str().unwrap();
        let out = Command::new("df").args(["--output=avail", "-B1", path]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.path.to_str().unwrap_or_default();
        if run("umount", &[path]).is_err()
            && let Err(why) = run("umount", &["-l", path])
        {
            eprintln!("{path} is still mounted: {why}");
        }
    }
}
