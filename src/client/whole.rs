//! What is about all keys.

use bytes::Bytes;

use super::ask::{Answer, Ask};
use super::calls::{Client, Task};
use super::error::Error;
use super::messages;
use super::operations::other_answer;
use super::requests::{Consistency, ScanOptions};
use crate::pb;
use crate::types::{SLOTS, Slot};

/// Any node gathers what all shards say: each is asked as often as it has replicas.
fn anywhere() -> Slot {
    Slot(rand::random_range(0..SLOTS))
}

impl Task {
    /// About all keys: any node will do. It is work for every shard, so it is asked for once.
    fn of_all_keys(ask: Ask, write: bool) -> Task {
        Task { write, any: true, ..Task::write(ask, anywhere()) }
    }
}

/// A walk over all keys, page by page.
#[derive(Clone, Debug)]
pub struct Scan {
    client: Client,
    options: ScanOptions,
    cursor: u64,
    ended: bool,
}

impl Scan {
    /// The next keys; none at the end. A page may be empty although there are more. After an error the
    /// same page can be asked for again.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn page(&mut self) -> Result<Option<Vec<Bytes>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let (consistency, max_staleness) = messages::consistency(self.options.consistency);
        let pattern = self.options.pattern.clone();
        let ask = Ask::Scan(pb::ScanRequest {
            cursor: self.cursor,
            count: self.options.count,
            pattern_form: pattern.map(pb::scan_request::PatternForm::PatternBytes),
            consistency,
            max_staleness,
        });
        let read = |answer, _: &_| match answer {
            Answer::Scan(reply) => Ok(reply),
            _ => other_answer("a scan"),
        };
        let page = self.client.run(Task::of_all_keys(ask, false), read).await?;
        (self.cursor, self.ended) = (page.cursor, page.cursor == 0);
        Ok(Some(page.keys))
    }

    /// Every key that is left, in memory.
    ///
    /// # Errors
    /// As [`Scan::page`]. What was found so far is lost then.
    pub async fn all(mut self) -> Result<Vec<Bytes>, Error> {
        let mut keys = Vec::new();
        while let Some(page) = self.page().await? {
            keys.extend(page);
        }
        Ok(keys)
    }
}

impl Client {
    /// Walks over all keys. Complete for keys that exist from the first page to the last; a key may
    /// be found twice after slots have moved.
    pub fn scan(&self, options: ScanOptions) -> Scan {
        Scan { client: self.clone(), options, cursor: 0, ended: false }
    }

    /// How many keys are alive, each shard at its own moment.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn size(&self, consistency: Consistency) -> Result<u64, Error> {
        let (consistency, max_staleness) = messages::consistency(consistency);
        let ask = Ask::Size(pb::SizeRequest { consistency, max_staleness });
        let read = |answer, _: &_| match answer {
            Answer::Size(reply) => Ok(reply.keys),
            _ => other_answer("a question for the size"),
        };
        self.run(Task::of_all_keys(ask, false), read).await
    }

    /// Removes every key, locks as well, each shard at its own moment.
    ///
    /// # Errors
    /// As [`Client::set`]. Some shards may be empty then and others not.
    pub async fn flush(&self) -> Result<(), Error> {
        let ticket = self.ticket()?;
        let ask = Ask::Flush(pb::FlushRequest { request_id: Some(ticket.id()) });
        let read = |answer, _: &_| match answer {
            Answer::Flush(pb::FlushResponse {}) => Ok(()),
            _ => other_answer("a flush"),
        };
        self.run(Task::of_all_keys(ask, true), read).await
    }
}
