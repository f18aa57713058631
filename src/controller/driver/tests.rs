//! The driver against a scripted host under virtual time.

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::*;
use crate::codec::cluster_record;
use crate::controller::handle::tests::{Peers, controller};
use crate::controller::messages::{ControlAnswer, ControlRequest, decode, encode};
use crate::core::table::{NodeInfo, ReplicaPlacement, ShardPlacement};
use crate::transport::FrameKind;
use crate::types::watch;
use crate::types::{Generation, GroupId, Reason, RoutingEpoch, ShardId, task};

/// A replica, and the members its group began with.
type Initialized = (LogKey, Vec<(ReplicaId, NodeId)>);

/// What a host was asked, and what it should answer.
#[derive(Default)]
struct Host {
    running: Mutex<BTreeSet<LogKey>>,
    initialized: Mutex<Vec<Initialized>>,
    leading: Mutex<BTreeMap<LogKey, Leadership>>,
    handed_over: Mutex<Vec<(LogKey, ReplicaId)>>,
    /// Starts that fail before one succeeds.
    failures: Mutex<usize>,
    log_lost: Mutex<BTreeSet<LogKey>>,
    /// How long a start takes.
    start_takes: Duration,
    /// The disk lets nothing start.
    stalled: Mutex<bool>,
    /// Starts that came to their end.
    finished: Mutex<BTreeSet<LogKey>>,
    /// Left on the disk by replicas that do not run.
    left: Mutex<BTreeSet<LogKey>>,
    /// Starts and stops asked for.
    asked: watch::Sender<Vec<String>>,
}

impl Host {
    fn say(&self, what: String) {
        self.asked.send_modify(|asked| asked.push(what));
    }

    async fn wait(&self, met: impl Fn(&Self) -> bool) {
        let mut asked = self.asked.subscribe();
        while !met(self) {
            asked.changed().await.unwrap();
        }
    }
}

impl ReplicaHost for Host {
    fn start_replica(&self, start: StartReplica) -> BoxFuture<'_, Result<(), HostError>> {
        let mut failures = self.failures.lock();
        let result = if self.log_lost.lock().contains(&start.key) {
            Err(HostError::LogLost(start.key))
        } else if *failures > 0 {
            *failures -= 1;
            Err(HostError::Failed(Reason::Internal { detail: "disk".to_owned() }.into()))
        } else {
            assert!(self.running.lock().insert(start.key), "started twice");
            Ok(())
        };
        self.say(format!("start {}", start.key));
        async move {
            tokio::time::sleep(self.start_takes).await;
            if result.is_ok() {
                self.finished.lock().insert(start.key);
            }
            result
        }
        .boxed()
    }

    fn stop_replica(&self, key: LogKey) -> BoxFuture<'_, Result<(), HostError>> {
        assert!(self.running.lock().remove(&key));
        self.say(format!("stop {key}"));
        std::future::ready(Ok(())).boxed()
    }

    fn set_aside(&self, key: LogKey) -> BoxFuture<'_, Result<(), HostError>> {
        assert!(self.running.lock().remove(&key) || self.left.lock().remove(&key));
        self.say(format!("set aside {key}"));
        std::future::ready(Ok(())).boxed()
    }

    fn may_start(&self) -> bool {
        !*self.stalled.lock()
    }

    fn present(&self) -> BoxFuture<'_, Result<BTreeSet<LogKey>, HostError>> {
        let present = self.running.lock().union(&self.left.lock()).copied().collect();
        std::future::ready(Ok(present)).boxed()
    }

    fn running(&self) -> BTreeSet<LogKey> {
        self.running.lock().clone()
    }

    fn initialize(
        &self,
        key: LogKey,
        members: Vec<(ReplicaId, NodeId)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        self.initialized.lock().push((key, members));
        self.say(format!("initialize {key}"));
        std::future::ready(Ok(())).boxed()
    }

    fn leading(&self) -> BTreeMap<LogKey, Leadership> {
        self.leading.lock().clone()
    }

    fn hand_over(
        &self,
        key: LogKey,
        to: ReplicaId,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<(), Error>> {
        self.handed_over.lock().push((key, to));
        self.leading.lock().remove(&key);
        self.say(format!("hand over {key}"));
        std::future::ready(Ok(())).boxed()
    }
}

fn key(group: u32, replica: u64) -> LogKey {
    LogKey { group: GroupId(group), replica: ReplicaId(replica) }
}

/// Two shards: of the first node 9 holds the lowest replica, of the second the other node does.
fn table(epoch: u64) -> RoutingTable {
    let shard = |replicas: [(u64, u64); 2]| ShardPlacement {
        generation: Generation(1),
        bytes_max: 0,
        hash_seed: 0,
        replicas: replicas
            .map(|(replica, node)| ReplicaPlacement {
                replica: ReplicaId(replica),
                node: NodeId(node),
            })
            .to_vec(),
    };
    let info = NodeInfo {
        store_id: 900,
        peer_addr: "9".to_owned(),
        grpc_addr: String::new(),
        http_addr: String::new(),
        zone: String::new(),
        resp_addr: String::new(),
    };
    RoutingTable {
        epoch: RoutingEpoch(epoch),
        shards: BTreeMap::from([
            (ShardId(0), shard([(11, 9), (12, 1)])),
            (ShardId(1), shard([(13, 1), (14, 9)])),
        ]),
        nodes: BTreeMap::from([(NodeId(9), info)]),
        ..RoutingTable::default()
    }
}

struct Rig {
    controller: Controller,
    host: Arc<Host>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Option<()>>,
}

impl Rig {
    fn new(host: Host) -> Self {
        Self::among(Peers::new(|_, _, _| None), host)
    }

    fn among(peers: Arc<Peers>, host: Host) -> Self {
        let controller = controller(peers, true);
        let (host, cancel) = (Arc::new(host), CancellationToken::new());
        let driver = Driver::new(controller.clone(), Arc::clone(&host) as Arc<dyn ReplicaHost>);
        let task = task::spawn("driver", driver.run(cancel.clone()));
        Rig { controller, host, cancel, task }
    }

    fn stand(&self, standing: Standing) {
        self.controller.inner.standing.send_replace(standing);
    }

    fn publish(&self, epoch: u64) {
        self.controller.inner.table.send_replace(Arc::new(table(epoch)));
    }

    async fn end(self) {
        self.cancel.cancel();
        assert_eq!(self.task.await.unwrap(), Some(()), "no panic, and it ends");
    }
}

fn both() -> BTreeSet<LogKey> {
    BTreeSet::from([key(1, 11), key(2, 14)])
}

#[tokio::test(start_paused = true)]
async fn runs_what_is_placed_here_and_initializes_its_own() {
    let rig = Rig::new(Host { failures: Mutex::new(3), ..Host::default() });
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    rig.host.wait(|host| *host.running.lock() == both()).await;
    rig.host.wait(|host| !host.initialized.lock().is_empty()).await;
    // Another table, another pass: nothing is started or initialized twice.
    rig.publish(2);
    tokio::time::sleep(BALANCE_EVERY * 3).await;
    let members = vec![(ReplicaId(11), NodeId(9)), (ReplicaId(12), NodeId(1))];
    assert_eq!(*rig.host.initialized.lock(), [(key(1, 11), members)]);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn starts_nothing_before_the_table_speaks_of_this_life() {
    let rig = Rig::new(Host::default());
    rig.publish(4);
    tokio::time::sleep(BALANCE_EVERY * 2).await;
    assert!(rig.host.running().is_empty(), "not registered");
    rig.stand(Standing::Registered { epoch: RoutingEpoch(5) });
    tokio::time::sleep(BALANCE_EVERY * 2).await;
    assert!(rig.host.running().is_empty(), "the table is older than the registration");
    rig.publish(5);
    rig.host.wait(|host| *host.running.lock() == both()).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_stops_everything() {
    let rig = Rig::new(Host::default());
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    rig.host.wait(|host| *host.running.lock() == both()).await;
    rig.stand(Standing::StoreLost { known: 1 });
    rig.host.wait(|host| host.running.lock().is_empty()).await;
    let asked = rig.host.asked.borrow().clone();
    assert!(asked.contains(&"stop g1-r11".to_owned()), "{asked:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_taken_off_this_node_is_stopped_and_set_aside() {
    let rig = Rig::new(Host::default());
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    rig.host.wait(|host| *host.running.lock() == both()).await;
    let mut moved = table(2);
    moved.shards.get_mut(&ShardId(1)).unwrap().replicas.pop();
    rig.controller.inner.table.send_replace(Arc::new(moved));
    rig.host.wait(|host| *host.running.lock() == BTreeSet::from([key(1, 11)])).await;
    let asked = rig.host.asked.borrow().clone();
    assert!(asked.contains(&"set aside g2-r14".to_owned()), "{asked:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_log_is_lost_is_not_tried_again() {
    let log_lost = Mutex::new(BTreeSet::from([key(1, 11)]));
    let rig = Rig::new(Host { log_lost, ..Host::default() });
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    rig.host.wait(|host| host.running.lock().contains(&key(2, 14))).await;
    tokio::time::sleep(BALANCE_EVERY * 5).await;
    rig.publish(2);
    tokio::time::sleep(BALANCE_EVERY * 5).await;
    let asked = rig.host.asked.borrow().clone();
    assert_eq!(asked.iter().filter(|what| *what == "start g1-r11").count(), 1, "{asked:?}");
    assert!(rig.host.initialized.lock().is_empty());
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_found_lost_later_is_reported_by_its_id() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let peers = Peers::new(move |_, kind, payload| {
        assert_eq!(kind, FrameKind::Control);
        let request: ControlRequest = decode(&payload, "control").unwrap();
        hears.lock().push(cluster_record::decode_command(request.command).unwrap());
        let done = ClusterReply::Done { epoch: RoutingEpoch(2) };
        Some(Ok(encode(&ControlAnswer::Reply(cluster_record::encode_reply(&done)))))
    });
    let log_lost = Mutex::new(BTreeSet::from([key(1, 11)]));
    let rig = Rig::among(peers, Host { log_lost, ..Host::default() });
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    rig.host.wait(|host| host.running.lock().contains(&key(2, 14))).await;
    tokio::time::sleep(BALANCE_EVERY * 5).await;
    let replicas = vec![ReplicaId(11)];
    let report = ReportLost { node: NodeId(9), incarnation: 1, replicas };
    assert_eq!(*told.lock(), [ClusterCommand::ReportLost(report)], "once");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_the_cluster_counts_as_lost_is_stopped_and_keeps_its_log() {
    let rig = Rig::new(Host::default());
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    rig.host.wait(|host| *host.running.lock() == both()).await;
    let lost = BTreeSet::from([ReplicaId(14)]);
    rig.controller.inner.table.send_replace(Arc::new(RoutingTable { lost, ..table(2) }));
    rig.host.wait(|host| *host.running.lock() == BTreeSet::from([key(1, 11)])).await;
    tokio::time::sleep(BALANCE_EVERY * 2).await;
    let asked = rig.host.asked.borrow().clone();
    assert_eq!(asked.last(), Some(&"stop g2-r14".to_owned()), "{asked:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_abandoned_replicas_left_is_set_aside_and_what_is_lost_but_placed_here_stays() {
    let left = Mutex::new(BTreeSet::from([key(1, 5), key(2, 14), key(9, 77)]));
    let log_lost = Mutex::new(BTreeSet::from([key(2, 14)]));
    let rig = Rig::new(Host { left, log_lost, ..Host::default() });
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    tokio::time::sleep(BALANCE_EVERY * 2).await;
    assert_eq!(rig.host.left.lock().len(), 3, "without a table nothing is known");
    rig.publish(1);
    rig.host.wait(|host| host.left.lock().len() == 1).await;
    assert_eq!(*rig.host.left.lock(), BTreeSet::from([key(2, 14)]));
    let asked = rig.host.asked.borrow().clone();
    assert!(asked.contains(&"set aside g1-r5".to_owned()), "{asked:?}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_under_way_is_brought_to_its_end_and_no_other_begins() {
    let rig = Rig::new(Host { start_takes: Duration::from_secs(3), ..Host::default() });
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    rig.host.wait(|host| !host.running.lock().is_empty()).await;
    let host = Arc::clone(&rig.host);
    assert!(host.finished.lock().is_empty(), "it is under way");
    rig.end().await;
    assert_eq!(
        *host.finished.lock(),
        BTreeSet::from([key(1, 11)]),
        "nobody forgets it half started"
    );
    assert_eq!(*host.asked.borrow(), ["start g1-r11"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_while_the_disk_does_not_let_it() {
    let rig = Rig::new(Host { stalled: Mutex::new(true), ..Host::default() });
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    tokio::time::sleep(BALANCE_EVERY * 5).await;
    assert!(rig.host.asked.borrow().is_empty());
    *rig.host.stalled.lock() = false;
    rig.host.wait(|host| *host.running.lock() == both()).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stable_leadership_goes_back_to_the_preferred_replica() {
    let rig = Rig::new(Host::default());
    let led = Leadership { term: 3, caught_up: vec![ReplicaId(13)] };
    rig.host.leading.lock().insert(key(2, 14), led);
    rig.stand(Standing::Registered { epoch: RoutingEpoch(1) });
    rig.publish(1);
    let start = now();
    rig.host.wait(|host| !host.handed_over.lock().is_empty()).await;
    assert_eq!(*rig.host.handed_over.lock(), [(key(2, 14), ReplicaId(13))]);
    assert!(now() - start >= Duration::from_secs(10), "only when it was stable");
    rig.end().await;
}
