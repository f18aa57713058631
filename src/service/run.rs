//! One unit from the router to its answer: attempts until one succeeds, one is final, or the deadline.

use std::time::Duration;

use super::attempts::{Attempts, Next};
use super::execute::Inner;
use super::forward::{Ask, Served};
use super::local_group::LocalGroup;
use super::request_ids::{Lease, RequestIds};
use super::router::{Located, Target};
use super::unit::{Unit, Work};
use crate::types::clock::{Instant, now};
use crate::types::limits::{FIELD_WORK, WHAT_LOCKS};
use crate::types::{
    Answer, Asker, Consistency, Error, GetOrLease, Named, NodeId, Once, Reason, Refusal, Reply,
    Sent, Write,
};

/// One operation under way.
struct Run<'a> {
    work: &'a Work,
    /// The caller's id.
    request_id: Option<Named>,
    part: u16,
    /// The node's own, from the first attempt that needs it.
    lease: Option<Lease<'a>>,
    began: Instant,
    deadline: Instant,
    /// How long a caller waits for another's fill.
    waits_until: Instant,
    trace: u128,
    attempts: Attempts,
    /// Where the last answer pointed.
    hint: Option<NodeId>,
    /// Node that failed last, without a hint.
    avoid: Option<NodeId>,
    /// The local replica knew no leader for too long.
    doubt_local: bool,
    /// A replica was too stale: ask the leader.
    leader_only: bool,
}

impl<G: LocalGroup> Inner<G> {
    /// Runs a unit to its end or its deadline. Never answers `Reply::Refused`.
    pub(super) async fn run(&self, unit: &Unit) -> Result<Served, Error> {
        let mut run = Run::new(unit);
        loop {
            let at = self.router.locate(unit.route);
            if now() >= run.deadline {
                return Err(run.attempts.expired(at.ok().map(|at| at.shard)));
            }
            let at = match at {
                Ok(at) => at,
                Err(seen) => {
                    self.router.changed(None, None, seen, run.deadline).await;
                    continue;
                }
            };
            let believed = at.local.as_ref().and_then(LocalGroup::leader);
            let target = self.target(&mut run, &at);
            let error = match self.attempt(&mut run, &at, target).await {
                Some(Ok(served)) => return Ok(served),
                Some(Err(error)) => error,
                None => self.nobody(&at),
            };
            match self.after(&mut run, &at, target, error) {
                Next::Answer(error) => return Err(self.measures.refused(error)),
                Next::Follow(leader) => run.hint = Some(leader),
                Next::Pause => self.pause(&mut run, &at, target, believed).await,
            }
            self.measures.retried.inc();
        }
    }

    fn target(&self, run: &mut Run<'_>, at: &Located<G>) -> Target {
        if let Some(hint) = run.hint.take() {
            return self.router.to_hint(at, hint);
        }
        let turn = run.attempts.pauses();
        if run.any_replica() {
            return self.router.to_any(at, run.avoid, turn);
        }
        self.router.to_leader(at, run.avoid, turn, run.doubt_local)
    }

    /// Tries once; `None` if there is nobody to try.
    async fn attempt<'a>(
        &'a self,
        run: &mut Run<'a>,
        at: &Located<G>,
        target: Target,
    ) -> Option<Result<Served, Error>> {
        let ask = match target {
            Target::Nowhere => return None,
            Target::Local => run.ask(&self.ids, self.options.local_ids),
            Target::Remote(_) => run.ask(&self.ids, true),
        };
        let ask = match ask {
            Ok(ask) => ask,
            Err(error) => return Some(Err(error)),
        };
        let served = match (target, &at.local) {
            (Target::Remote(node), _) => {
                let to = (at.group, at.shard);
                self.forwarder.call(node, to, ask, (run.deadline, run.trace)).await
            }
            (_, Some(local)) => self.serve_one(local, ask, run.deadline).await,
            (_, None) => return None,
        };
        let served = match served {
            Ok(served) => served,
            Err(error) => return Some(Err(error)),
        };
        if let Target::Remote(node) = target
            && at.local.is_none()
            && !run.any_replica()
        {
            self.router.learn_leader(at.group, node);
        }
        Some(match served {
            Served::Reply(Reply::Refused(refusal)) => Err(refused(&refusal)),
            Served::Read(Answer::WrongKind, _) => Err(Reason::WrongKind.into()),
            served => Ok(served),
        })
    }

    /// Has this node's replica serve one operation.
    async fn serve_one(&self, local: &G, ask: Ask, deadline: Instant) -> Result<Served, Error> {
        let odd = || Error::from(Reason::Internal { detail: "one reply was due".to_owned() });
        match ask {
            Ask::Write(write) => {
                let replies = local.write(vec![write], deadline).await?;
                self.measures.wrote(&replies);
                replies.into_iter().next().map(Served::Reply).ok_or_else(odd)
            }
            Ask::Read(query, consistency) => {
                let (answers, freshness) = local.read(vec![query], consistency, deadline).await?;
                self.measures.read(&answers);
                let answer = answers.into_iter().next().ok_or_else(odd)?;
                Ok(Served::Read(answer, freshness))
            }
            Ask::Lease(ask) => {
                let leased = local.get_or_lease(&ask, deadline).await?;
                self.measures.leased(&leased);
                Ok(Served::Leased(Box::new(leased)))
            }
        }
    }

    /// Learns from a failed attempt and decides what follows.
    fn after(&self, run: &mut Run<'_>, at: &Located<G>, target: Target, error: Error) -> Next {
        run.avoid = None;
        if target == Target::Nowhere && matches!(error.reason, Reason::NoQuorum { .. }) {
            return run.attempts.cut_off(error);
        }
        if let Reason::NotOwner { epoch } = &error.reason {
            self.router.learn_epoch(*epoch);
        }
        match target {
            Target::Remote(node) => {
                self.router.forget_leader(at.group, node);
                run.avoid = Some(node);
            }
            Target::Local if run.any_replica() => run.avoid = Some(self.node),
            Target::Local | Target::Nowhere => {}
        }
        if let Reason::NotLeader { leader: Some(leader), .. } = &error.reason {
            self.router.learn_leader(at.group, *leader);
        }
        if matches!(error.reason, Reason::TooStale { .. }) && run.any_replica() {
            run.leader_only = true;
            return Next::Pause;
        }
        run.attempts.failed(error)
    }

    /// Waits until another attempt makes sense, at most until the deadline.
    async fn pause(
        &self,
        run: &mut Run<'_>,
        at: &Located<G>,
        target: Target,
        believed: Option<NodeId>,
    ) {
        let leaderless = target == Target::Nowhere && at.local.is_some() && believed.is_none();
        let until = match leaderless && !run.doubt_local {
            true => self.router.leaderless_until(),
            false => now() + Duration::from_millis(run.attempts.pause_ms()),
        };
        let until = until.min(run.deadline);
        let changed = self.router.changed(Some(at), believed, at.seen, until).await;
        run.doubt_local = !changed && (leaderless || run.doubt_local);
    }
}

impl<'a> Run<'a> {
    fn new(unit: &'a Unit) -> Self {
        let attempts = match &unit.work {
            Work::Write(_) => Attempts::of_write(unit.caller.request_id.is_some()),
            Work::Read(..) | Work::Lease(_) => Attempts::of_read(),
        };
        let wait_ms = match &unit.work {
            Work::Lease(ask) => ask.wait_ms,
            Work::Write(_) | Work::Read(..) => 0,
        };
        let began = now();
        Run {
            began,
            waits_until: began + Duration::from_millis(wait_ms),
            work: &unit.work,
            request_id: unit.caller.request_id,
            part: unit.caller.part,
            lease: None,
            deadline: unit.caller.deadline,
            trace: unit.caller.trace,
            attempts,
            hint: None,
            avoid: None,
            doubt_local: false,
            leader_only: false,
        }
    }

    /// Whether any replica may serve it.
    fn any_replica(&self) -> bool {
        match self.work {
            Work::Write(_) | Work::Lease(_) => false,
            Work::Read(_, consistency) => match consistency {
                Consistency::Linearizable | Consistency::Lease => false,
                Consistency::Bounded { .. } | Consistency::Stale => !self.leader_only,
            },
        }
    }

    /// What to ask a group for. The id stays the same through all attempts.
    fn ask(&mut self, ids: &'a RequestIds, with_id: bool) -> Result<Ask, Error> {
        let command = match self.work {
            Work::Read(query, consistency) => return Ok(Ask::Read(query.clone(), *consistency)),
            Work::Write(command) => command.clone(),
            Work::Lease(ask) => {
                // What was waited at a leader that is none any more counts.
                let left = self.waits_until.saturating_duration_since(now()).as_millis();
                let wait_ms = u64::try_from(left).unwrap_or(u64::MAX);
                return Ok(Ask::Lease(GetOrLease { wait_ms, ..ask.clone() }));
            }
        };
        if with_id && self.request_id.is_none() && self.lease.is_none() {
            self.lease = Some(ids.take()?);
            self.attempts.has_request_id();
        }
        let (id, asker, sent) = match (self.request_id, &self.lease) {
            (Some(named), _) => (named.id, Asker::Caller, named.sent),
            (None, Some(lease)) => (lease.id(), Asker::Node, Sent::First),
            (None, None) => return Ok(Ask::Write(Write { request_id: None, command })),
        };
        let age_ms_max = self.sent(sent).age_ms_max();
        let once = Once { id, part: self.part, asker, age_ms_max };
        Ok(Ask::Write(Write { request_id: Some(once), command }))
    }

    /// Whether it was sent before: as the caller says, or by this node since.
    fn sent(&self, said: Sent) -> Sent {
        if !self.attempts.may_have_been_proposed() {
            return said;
        }
        said.again_after(self.began.elapsed())
    }
}

/// A refusal at apply, as the caller sees it.
pub(super) fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::NotOwner { epoch } => Reason::NotOwner { epoch: *epoch },
        Refusal::TooLarge { bytes, bytes_max } => {
            Reason::TooLarge { bytes: *bytes, bytes_max: *bytes_max }
        }
        Refusal::SessionExpired => Reason::SessionExpired,
        Refusal::NotInteger => Reason::NotInteger,
        Refusal::Overflow => Reason::Overflow,
        Refusal::NotFloat => Reason::NotFloat,
        Refusal::NotFinite => Reason::NotFinite,
        Refusal::ReplyTooLarge { bytes, bytes_max } => {
            Reason::ReplyTooLarge { bytes: *bytes, bytes_max: *bytes_max }
        }
        Refusal::WrongKind => Reason::WrongKind,
        Refusal::Locks { limit } => Reason::ResourceExhausted { what: WHAT_LOCKS, limit: *limit },
        Refusal::OutdatedToken => Reason::OutdatedToken,
        Refusal::TooMuchWork { bytes, bytes_max } => Reason::InvalidArgument {
            field: FIELD_WORK,
            problem: format!(
                "the operations touch {bytes} bytes of them; at most {bytes_max} are allowed at once"
            ),
        },
    }
    .into()
}
