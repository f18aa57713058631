//! What a connection has said about itself, and what it is in the middle of.
//!
//! It lives as long as the connection. It is no session in the sense of `core::sessions`: the protocol
//! has no request ids, so a client that comes back on another connection cannot name what it asked for
//! on the first. What the node itself tries again carries an id of the node's own pool
//! (`service::request_ids`), exactly as if the connection had a session; one of the connection's would
//! add nothing but another limit.

use bytes::Bytes;

use super::clients::Listed;
use super::options::Redirect;
use super::parts::Lengths;
use crate::codec::resp::encode::Protocol;
use crate::types::{Consistency, Watch};

/// See the module's text.
pub(super) struct Session {
    pub(super) listed: Listed,
    pub(super) protocol: Protocol,
    /// Reads may be answered by any replica, as old as the configuration allows.
    pub(super) readonly: bool,
    /// As the door's configuration says, or the client since.
    pub(super) redirect: Redirect,
    redirect_default: Redirect,
    /// It has asked which node serves which slots.
    pub(super) asked_slots: bool,
    /// Between `MULTI` and `EXEC`.
    pub(super) queue: Option<Queue>,
    /// Keys that must not change until `EXEC`.
    pub(super) watches: Vec<Watch>,
    pub(super) replies: Replies,
    /// It said `QUIT`.
    pub(super) leaving: bool,
    /// How long its replies are, as far as those so far tell.
    reply_bytes: usize,
    /// And the values in them.
    pub(super) lengths: Lengths,
}

/// What a reply is taken for before there was one, bytes.
const REPLY_BYTES_FIRST: usize = 128 * 1024;

/// Commands that wait for `EXEC`.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) requests: Vec<Vec<Bytes>>,
    /// Bytes that their arguments take.
    pub(super) bytes: usize,
    /// One of them was refused, so `EXEC` will be.
    pub(super) spoiled: bool,
}

/// Which replies the client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Replies {
    All,
    /// All but that of the next command.
    SkipNext,
    /// All but that of this command.
    Skip,
    None,
}

impl Session {
    /// Bytes of what is queued and watched.
    pub(super) fn held_bytes(&self) -> usize {
        let queued = self.queue.as_ref().map_or(0, |queue| queue.bytes);
        let watched = |watch: &Watch| size_of::<Watch>() + watch.key.len();
        queued + self.watches.iter().map(watched).sum::<usize>()
    }

    pub(super) fn new(listed: Listed, redirect: Redirect) -> Self {
        Session {
            listed,
            protocol: Protocol::default(),
            readonly: false,
            redirect,
            redirect_default: redirect,
            asked_slots: false,
            queue: None,
            watches: Vec::new(),
            replies: Replies::All,
            leaving: false,
            reply_bytes: REPLY_BYTES_FIRST,
            lengths: Lengths::new(),
        }
    }

    /// As it began (`RESET`), but for its place in the list of clients.
    pub(super) fn reset(&mut self) {
        self.protocol = Protocol::default();
        self.readonly = false;
        self.redirect = self.redirect_default;
        self.asked_slots = false;
        self.queue = None;
        self.watches.clear();
        self.replies = Replies::All;
        self.listed.client.tell(|told| {
            told.name.clear();
            told.protocol = Protocol::default();
            told.readonly = false;
            (told.queued, told.watches) = (None, 0);
        });
    }

    /// Whether it is to be sent to the node that leads.
    pub(super) fn is_redirected(&self) -> bool {
        match self.redirect {
            Redirect::Moved => true,
            Redirect::Forward => false,
            Redirect::Auto => self.asked_slots,
        }
    }

    /// How fresh its reads are.
    pub(super) fn consistency(&self, readonly_staleness_ms: u64) -> Consistency {
        match self.readonly {
            true => Consistency::Bounded { staleness_ms_max: readonly_staleness_ms },
            false => Consistency::Linearizable,
        }
    }

    /// A command was refused: a transaction it was meant for must not be applied without it.
    pub(super) fn spoil(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.spoiled = true;
        }
    }

    /// How many replies may come about together so that they take about `bytes_max`. Nobody knows how
    /// long values are before they are read.
    pub(super) fn replies_together_max(&self, bytes_max: usize) -> usize {
        (bytes_max / self.reply_bytes.max(1)).max(1)
    }

    /// So many replies took so many bytes.
    pub(super) fn replied(&mut self, replies: usize, bytes: usize) {
        let average = bytes / replies.max(1);
        self.reply_bytes = average.max(self.reply_bytes / 2);
    }

    /// A command begins. True if its reply is not wanted.
    pub(super) fn begin(&mut self) -> bool {
        if self.replies == Replies::SkipNext {
            self.replies = Replies::Skip;
        }
        self.is_silent()
    }

    /// Whether the reply to the command under way is not wanted.
    pub(super) fn is_silent(&self) -> bool {
        self.replies != Replies::All
    }

    /// The command was taken up; the next one is another.
    pub(super) fn end(&mut self) {
        if self.replies == Replies::Skip {
            self.replies = Replies::All;
        }
    }
}
