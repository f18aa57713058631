//! The compose file under a project name, an image name and ports of its own.

use std::process::{Command, Output};

use crate::ports::free_ports;

/// Seconds that any one command may take.
const PATIENCE_S: &str = "400";

/// Containers, volumes and image; all are removed when this is dropped, whatever happened before.
#[derive(Debug)]
pub struct Stack {
    env: Vec<(String, String)>,
    project: String,
    image: String,
    /// Scratch directory of `make image`.
    dir: tempfile::TempDir,
    /// gRPC address of each node.
    pub grpc: Vec<String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Standard output of a command that must succeed; the error says what it wrote.
fn output(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    if status.success() {
        Ok(stdout)
    } else {
        Err(format!("{command:?}: {status}\n{stdout}\n{stderr}"))
    }
}

/// A command that is ended when it takes too long.
fn bounded(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", PATIENCE_S, program]).args(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn docker(args: &[&str]) -> Result<String, String> {
    output(&mut bounded("docker", args))
}

/// Why there is nothing to test here.
pub fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("the image needs a binary for Linux".to_owned());
    }
    let first_line = |error: String| error.lines().last().unwrap_or_default().to_owned();
    let server = match docker(&["version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"]) {
        Ok(server) => server,
        Err(error) => return Some(format!("no Docker engine answers: {}", first_line(error))),
    };
    let own = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => other,
    };
    if server != own {
        return Some(format!("the engine is for {server}, this machine for {own}"));
    }
    let compose =
        [bounded("docker", &["compose", "version"]), bounded("docker-compose", &["version"])];
    if !compose.into_iter().any(|mut command| output(&mut command).is_ok()) {
        return Some("neither docker compose nor docker-compose answers".to_owned());
    }
    output(&mut bounded("make", &["--version"])).err().map(first_line)
}

impl Stack {
    /// Makes the image of the binary under test; starts nothing.
    pub fn build() -> Stack {
        let project = format!("raftcache-test-{:08x}", rand::random::<u32>());
        let image = format!("{project}:local");
        let ports = free_ports(9, 1);
        // Said here and not left to the defaults: a file .env of the user counts less than these.
        let own = [
            ("COMPOSE_PROJECT_NAME", project.as_str()),
            ("RAFTCACHE_DURABILITY", "wal"),
            ("RAFTCACHE_BIND", "127.0.0.1"),
            ("RAFTCACHE_MEMORY", "1g"),
        ];
        let mut env: Vec<(String, String)> =
            own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for (i, doors) in ports.chunks(3).enumerate() {
            for (name, port) in ["GRPC", "HTTP", "RESP"].iter().zip(doors) {
                env.push((format!("RAFTCACHE_{name}_PORT_{}", i + 1), port.to_string()));
            }
        }
        let grpc = ports.chunks(3).map(|pair| format!("127.0.0.1:{}", pair[0])).collect();
        let dir = tempfile::tempdir().unwrap();
        let stack = Stack { env, project, image, dir, grpc };
        let run_dir = format!("RUN_DIR={}", stack.dir.path().display());
        let binary = concat!("BINARY=", env!("CARGO_BIN_EXE_raftcache"));
        println!("{}", stack.make(&["image", binary, &run_dir]).unwrap());
        stack
    }

    /// `make ARGS`, for this project and image.
    fn make(&self, args: &[&str]) -> Result<String, String> {
        let mut command = bounded("make", &["--no-print-directory"]);
        // Variables of a make or a shell that this test was started from are none of ours.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let prefixes = ["RAFTCACHE_", "COMPOSE", "MAKE", "MFLAGS"];
            if prefixes.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command.args(args).arg(format!("IMAGE={}", self.image)).envs(self.env.iter().cloned());
        output(&mut command)
    }

    /// `make up`.
    pub fn up(&self) {
        println!("{}", self.make(&["up", "WAIT_S=180"]).unwrap());
    }

    /// `make down`: the volumes stay.
    pub fn down(&self) {
        self.make(&["down"]).unwrap();
    }

    /// Id of a node's container, by position.
    fn container(&self, at: usize) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service=node{}", at + 1);
        let list = ["ps", "--all", "--quiet", "--filter", &project, "--filter", &service];
        let found = docker(&list).unwrap();
        assert_eq!(found.lines().count(), 1, "containers of node {}: {found:?}", at + 1);
        found
    }

    fn inspect(&self, at: usize, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.container(at)]).unwrap()
    }

    /// SIGKILL.
    pub fn kill(&self, at: usize) {
        docker(&["kill", &self.container(at)]).unwrap();
    }

    /// SIGTERM, and how it ended: state, exit code, whether memory ran out.
    pub fn stop(&self, at: usize) -> String {
        docker(&["stop", &self.container(at)]).unwrap();
        self.inspect(at, "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}")
    }

    /// The process is not root's, its memory has a limit, and only its volume can be written.
    pub fn is_confined(&self) {
        // A health check may run beside process 1.
        let top = docker(&["top", &self.container(0), "-eo", "pid,uid"]).unwrap();
        let mut users = top.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap());
        assert!(users.all(|user| user != "0"), "{top}");
        assert_eq!(self.inspect(0, "{{.Config.User}}"), "65532:65532");
        let limits = self.inspect(0, "{{.HostConfig.Memory}} {{.HostConfig.ReadonlyRootfs}}");
        assert_eq!(limits, format!("{} true", 1u64 << 30));
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let project = format!("label=com.docker.compose.project={}", self.project);
            let found = docker(&["ps", "--all", "--quiet", "--filter", &project]);
            for container in found.unwrap_or_default().lines() {
                let mut logs = bounded("docker", &["logs", "--tail=40", container]);
                match logs.output() {
                    Ok(logs) => eprintln!("--- {container}\n{}", text(&logs.stderr)),
                    Err(error) => eprintln!("--- {container}: {error}"),
                }
            }
        }
        let removed = self.make(&["down", "VOLUMES=1"]);
        for result in [removed, docker(&["image", "rm", &self.image])] {
            if let Err(error) = result {
                eprintln!("left behind: {error}");
            }
        }
    }
}
