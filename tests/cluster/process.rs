//! One process of the binary: started, signalled, watched, and surely stopped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use raftcache::types::clock::now;

/// How long any wait for something that must happen may last, whatever is usual: a busy machine is slow,
/// and only what never happens is a fault.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lines of a log shown when a test fails.
const TAIL: usize = 60;

/// A process that is killed when this is dropped, whatever happened before.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

fn append(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

impl Process {
    /// Starts `raftcache ARGS`; what it says is appended to `NAME.out` and `NAME.err` in `dir`.
    pub fn start(name: &str, dir: &Path, args: &[&str]) -> Process {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let child = Command::new(env!("CARGO_BIN_EXE_raftcache"))
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(append(&out))
            .stderr(append(&err))
            .spawn()
            .unwrap();
        Process { child, name: name.to_owned(), out, err }
    }

    /// Its process id.
    #[allow(dead_code, reason = "not every test binary measures its processes")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn out(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    /// The file that takes its standard error.
    pub fn err_path(&self) -> PathBuf {
        self.err.clone()
    }

    /// What it wrote to standard error so far.
    pub fn err(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    /// Sends a signal by name, for example `TERM`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid]).status();
        assert!(sent.unwrap().success(), "{signal} to {}", self.name);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // An error means that it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, which usually comes `within` so long.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let (started, within) = (now(), within.max(PATIENCE));
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(now() - started < within, "{} still runs after {within:?}", self.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            for path in [&self.out, &self.err] {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                eprintln!("--- end of {}, {}", self.name, path.display());
                for line in &lines[lines.len().saturating_sub(TAIL)..] {
                    eprintln!("{}", line.chars().take(400).collect::<String>());
                }
            }
        }
    }
}

/// Waits until `found` finds something, which it usually does `within` so long.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut found: impl AsyncFnMut() -> Option<T>,
) -> T {
    let (started, within) = (now(), within.max(PATIENCE));
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(now() - started < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
