//! One attempt, and for reads a second one beside it when the first is slow: the tail at scale (Dean
//! and Barroso, 2013).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;

use super::ask::Answer;
use super::calls::{Client, Task};
use super::error::Failure;
use super::node::Node;
use super::router::{Choice, Router};
use crate::types::clock::Instant;
use crate::types::task;

type Attempt = BoxFuture<'static, Result<Answer, Failure>>;

/// One attempt at one node, and what the router learns from it.
async fn attempt(
    router: Arc<Router>,
    choice: Choice,
    task: Task,
    until: Instant,
) -> Result<Answer, Failure> {
    router.counts.attempts.fetch_add(1, Ordering::Relaxed);
    match choice.node.call(task.ask, until).await {
        Ok((answer, epoch)) => {
            router.saw_epoch(epoch);
            Ok(answer)
        }
        Err(failure) => {
            router.failed(task.slot, &choice, &failure);
            let message = format!("{}: {}", choice.node.address, failure.message);
            Err(Failure { message, ..failure })
        }
    }
}

/// Hears an attempt out that nobody waits for any more.
///
/// The hedge was faster; that alone says nothing against the first node, as the time before a hedge
/// is far shorter than a node may take. Nor may its silence be forgotten: a node that hangs would
/// stay the first choice of every read, and cost each of them that time. So the attempt goes on
/// until its own time is over, and the node's breaker hears what it would have heard without a
/// hedge: an answer, however late, or one silence. As many are heard out at once as open a breaker;
/// more would tell nothing new, and a crowd of reads must not leave a crowd of tasks.
fn hear_out(node: &Arc<Node>, attempt: Attempt) {
    let Ok(place) = Arc::clone(&node.heard_out).try_acquire_owned() else { return };
    task::spawn("client abandoned attempt", async move {
        let _place = place;
        // Whoever wanted the answer has another; `attempt` has noted how it ended.
        drop(attempt.await);
    });
}

impl Client {
    /// One attempt, `made` after the first, at two nodes if it may be hedged and the first is slow.
    ///
    /// The second is another node than the first and in good standing: a read asked for twice is a
    /// guess, for which no half-open breaker spends its single try. Without such a node there is no
    /// second.
    pub(super) async fn hedged(
        &self,
        choice: &Choice,
        task: &Task,
        until: Instant,
        made: u32,
    ) -> Result<Answer, Failure> {
        let router = &self.inner.router;
        if made > 0 {
            router.counts.retries.fetch_add(1, Ordering::Relaxed);
        }
        let asked =
            |choice: &Choice| attempt(Arc::clone(router), choice.clone(), task.clone(), until);
        let Some(after) = self.inner.options.hedge_after.filter(|_| task.hedge) else {
            return asked(choice).await;
        };
        let mut first: Attempt = Box::pin(asked(choice));
        tokio::select! { biased;
            result = &mut first => return result,
            () = tokio::time::sleep(after) => {}
        }
        let Some(other) = router.other(task.slot, task.any, choice) else {
            return first.await;
        };
        router.counts.hedges.fetch_add(1, Ordering::Relaxed);
        let mut second: Attempt = Box::pin(asked(&other));
        tokio::select! { biased;
            result = &mut first => match result {
                // The second is under way already; a pause and a third would be later.
                Err(failure) if failure.again() => second.await.map_err(|_| failure),
                result => {
                    hear_out(&other.node, second);
                    result
                }
            },
            result = &mut second => match result {
                Ok(answer) => {
                    hear_out(&choice.node, first);
                    Ok(answer)
                }
                Err(_) => first.await,
            },
        }
    }
}
