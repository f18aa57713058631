//! A cluster of processes.

use std::path::PathBuf;
use std::time::Duration;

use raftcache::front::cluster::{fetch, http_get};
use raftcache::front::page::StatusPage;
use raftcache::types::clock::now;

use crate::mount::Mount;
use crate::ports::free_ports;
use crate::process::{Process, until};

/// How long a cluster may take to form, on a busy machine.
pub const FORMS: Duration = Duration::from_secs(180);
/// What the configuration of a patient node has beside.
const PATIENT: &str = "[limits]\ndoor_delay_target_ms = 60000\nqueue_delay_target_ms = 60000\n";
/// How long one page may take.
const PAGE: Duration = Duration::from_secs(20);

/// Shape of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: usize,
    pub shards: u16,
    pub durability: &'static str,
    /// More flags of `serve`.
    pub flags: &'static [&'static str],
    /// Waiting for a turn is no reason to refuse: a busy machine is no overload, unless the test is
    /// about that.
    pub patient: bool,
}

impl Shape {
    pub fn new(durability: &'static str) -> Shape {
        Shape { nodes: 3, shards: 16, durability, flags: &[], patient: true }
    }
}

/// Where a node is reached.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: usize,
    pub grpc: String,
    pub http: String,
    #[allow(dead_code, reason = "not every test binary speaks to this door")]
    pub resp: String,
    config: PathBuf,
}

/// Nodes as processes; all are killed when this is dropped.
#[derive(Debug)]
pub struct ProcessCluster {
    pub members: Vec<Member>,
    /// By position, not by id.
    pub running: Vec<Option<Process>>,
    /// Unmounted when the processes are gone and before the directory goes.
    pub mounts: Vec<Mount>,
    flags: &'static [&'static str],
    pub dir: tempfile::TempDir,
}

impl Drop for ProcessCluster {
    /// What failed is looked into: logs and data stay.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("logs and data of the nodes are in {}", self.dir.path().display());
        }
    }
}

impl ProcessCluster {
    /// Writes the configurations; starts nothing.
    pub fn prepare(shape: Shape) -> ProcessCluster {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(4 * shape.nodes, 1);
        let addr = |port: u16| format!("127.0.0.1:{port}");
        let seeds: Vec<String> = ports.chunks(4).map(|ports| addr(ports[2])).collect();
        let member = |(at, ports): (usize, &[u16])| {
            let id = at + 1;
            let config = dir.path().join(format!("node{id}.toml"));
            let (grpc, http, peer) = (addr(ports[0]), addr(ports[1]), addr(ports[2]));
            let resp = addr(ports[3]);
            let data = dir.path().join(format!("data{id}"));
            let text = format!(
                "durability = {:?}\n[node]\nid = {id}\nzone = \"zone{id}\"\ndata_dir = {data:?}\n\
                 [listen]\ngrpc = {grpc:?}\nhttp = {http:?}\npeer = {peer:?}\nresp = {resp:?}\n\
                 [cluster]\nseeds = {seeds:?}\nexpected_nodes = {}\nshards = {}\nreplicas = {}\n{}",
                shape.durability,
                shape.nodes,
                shape.shards,
                shape.nodes,
                if shape.patient { PATIENT } else { "" }
            );
            std::fs::write(&config, text).unwrap();
            Member { id, grpc, http, resp, config }
        };
        let members: Vec<Member> = ports.chunks(4).enumerate().map(member).collect();
        let running = members.iter().map(|_| None).collect();
        ProcessCluster { members, running, mounts: Vec::new(), flags: shape.flags, dir }
    }

    /// Gives a node a small disk of its own for its logs; false, and why on standard error, where
    /// mounting is not permitted.
    pub fn small_disk(&mut self, at: usize, mebibytes: u32) -> bool {
        match Mount::tmpfs(&self.data_dir(at), mebibytes) {
            Ok(mount) => self.mounts.push(mount),
            Err(why) => {
                eprintln!("SKIPPED: no small disk can be mounted here: {why}");
                return false;
            }
        }
        true
    }

    /// Starts all nodes and waits until all are ready.
    pub async fn start(shape: Shape) -> ProcessCluster {
        let mut cluster = Self::prepare(shape);
        let started = now();
        (0..shape.nodes).for_each(|at| cluster.launch(at));
        cluster.all_ready().await;
        println!("{} nodes, {}: ready after {:?}", shape.nodes, shape.durability, now() - started);
        cluster
    }

    /// Starts a node, for the first time or again.
    pub fn launch(&mut self, at: usize) {
        self.launch_with(at, &[]);
    }

    /// As `launch`, with more flags for this life.
    #[allow(dead_code, reason = "not every test binary needs it")]
    pub fn launch_with(&mut self, at: usize, flags: &[&str]) {
        assert!(self.running[at].is_none(), "node {} runs", at + 1);
        let member = &self.members[at];
        let config = member.config.to_str().unwrap();
        let args = [&["serve", "--config", config], self.flags, flags].concat();
        self.running[at] =
            Some(Process::start(&format!("node{}", member.id), self.dir.path(), &args));
    }

    /// Where a node keeps its logs.
    pub fn data_dir(&self, at: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("data{}", at + 1))
    }

    /// The process of a node that runs.
    pub fn process(&mut self, at: usize) -> &mut Process {
        self.running[at].as_mut().expect("the node runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.running[at].take().expect("the node runs").kill();
    }

    /// SIGTERM, and waits for the end, which must be in order. How long it took.
    pub async fn stop(&mut self, at: usize) -> Duration {
        let mut process = self.running[at].take().expect("the node runs");
        let started = now();
        process.signal("TERM");
        let status = process.exit(Duration::from_secs(30)).await;
        assert_eq!(status.code(), Some(0), "graceful stop of node {}", at + 1);
        now() - started
    }

    /// Waits until every node that runs is ready.
    pub async fn all_ready(&mut self) {
        for at in 0..self.members.len() {
            if self.running[at].is_some() {
                self.ready(at).await;
            }
        }
    }

    /// Waits until this node is ready.
    pub async fn ready(&mut self, at: usize) {
        let started = now();
        loop {
            if let Some(status) = self.process(at).ended() {
                panic!("node {} ended: {status}", at + 1);
            }
            let (code, body) = self.page(at, "/ready").await;
            if code == 200 {
                return;
            }
            assert!(now() - started < FORMS, "node {} is not ready: {body}", at + 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `GET path` of a node; code 0 if it does not answer.
    pub async fn page(&self, at: usize, path: &str) -> (u16, String) {
        match http_get(&self.members[at].http, path, PAGE).await {
            Ok((code, body)) => (code, String::from_utf8(body.to_vec()).unwrap()),
            Err(error) => (0, error.to_string()),
        }
    }

    /// What a node that runs says of itself.
    pub async fn status(&self, at: usize) -> StatusPage {
        fetch(&self.members[at].http, PAGE).await.unwrap()
    }

    /// Positions of nodes that run.
    pub fn up(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|at| self.running[*at].is_some()).collect()
    }

    /// Waits until all replicas of every group have applied the same and hold the same (INV-3).
    pub async fn converged(&self) {
        until("equal replicas on all nodes", Duration::from_secs(30), async || {
            let mut groups = std::collections::BTreeMap::<_, Vec<_>>::new();
            for at in self.up() {
                for replica in self.status(at).await.status.replicas {
                    let shown = (replica.applied_index, replica.digest);
                    groups.entry(replica.group).or_default().push(shown);
                }
            }
            let equal = |shown: &Vec<_>| shown.iter().all(|one| *one == shown[0]);
            let complete = |shown: &Vec<_>| shown.len() == self.up().len();
            groups.values().all(|shown| equal(shown) && complete(shown)).then_some(())
        })
        .await;
    }
}
