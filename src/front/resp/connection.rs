//! One connection: reads, works on what is whole, writes.
//!
//! What was read is parsed as far as it is whole, at most `resp_pipeline_max` commands at a time;
//! those are worked on together ([`super::pipeline`]) while earlier answers are being written. A
//! client that does not take its answers is read from no more once `resp_output_bytes_max` wait, so
//! neither it nor a pipeline of a million commands makes the node hold more than that.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Share;
use super::pipeline::Pipeline;
use super::serve::Resp;
use super::session::Session;
use super::wire::{Event, Wire};
use crate::codec::resp::parse::{Parser, ProtocolError};
use crate::codec::resp::value::RespValue;
use crate::front::activity::Activity;
use crate::front::connection::Connection;
use crate::service::Execute;
use crate::types::clock::now;

/// See the module's text.
pub(super) struct Connected<S> {
    resp: Arc<Resp<S>>,
    activity: Arc<Activity>,
    wire: Wire,
    parser: Parser,
    session: Session,
    share: Share,
    /// Told to the activity: something is worked on or waits to be taken.
    busy: bool,
}

/// How long a connection that was refused is read on: its client may never stop.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// Why a connection ends.
enum End {
    /// All answers are given.
    Done,
    /// What it said cannot be understood, or is past a limit; the answer says what.
    Refused(String),
}

impl<S: Execute> Connected<S> {
    pub(super) fn new(resp: Arc<Resp<S>>, socket: Connection, address: SocketAddr) -> Self {
        let activity = socket.visitor().0;
        let parser = Parser::new(resp.door.limits.resp.request());
        let session = Session::new(resp.clients.add(address), resp.options.redirect);
        let share = resp.budget.share();
        let wire = Wire::new(socket);
        Connected { resp, activity, wire, parser, session, share, busy: false }
    }

    /// Serves the client until it leaves, breaks the protocol, or the door closes.
    pub(super) async fn serve(mut self) {
        let end = self.work().await;
        if let Ok(end) = end {
            let patience = match end {
                End::Refused(text) => {
                    self.wire.output.put(RespValue::Error(text), self.session.protocol);
                    Some(REFUSED_LINGER)
                }
                // Answers may be on their way, and what the client still sends must not cost them.
                End::Done if self.busy => {
                    Some(Duration::from_millis(self.resp.door.limits.stall_timeout_ms))
                }
                End::Done => None,
            };
            // A client that went away takes no farewell.
            if self.wire.close().await.is_ok()
                && let Some(patience) = patience
            {
                // What was sent is held no more, so nobody else has to wait for it.
                self.hold();
                self.wire.linger(patience).await;
            }
        }
        self.set_busy(false);
    }

    async fn work(&mut self) -> io::Result<End> {
        let resp = Arc::clone(&self.resp);
        let output_bytes_max = resp.door.limits.resp.output_bytes_max;
        // What lies in the input from the second round on has waited for its own client.
        let mut since = now();
        loop {
            let (requests, fault) = self.parse();
            if requests.is_empty() {
                if let Some(fault) = fault {
                    return Ok(End::Refused(fault.reply()));
                }
                if self.wire.output.is_empty() {
                    self.set_busy(false);
                }
                self.wire.rest();
                let half = !(self.parser.is_between() && self.wire.input.is_empty());
                self.activity.half_read(half);
                let next = self.wire.next(output_bytes_max);
                match resp.cancel.run_until_cancelled(next).await.transpose()? {
                    None | Some(Event::End) => return Ok(End::Done),
                    Some(Event::Read | Event::Room) => since = self.activity.read_at(),
                }
                if let Some(end) = self.room().await? {
                    return Ok(end);
                }
                continue;
            }
            self.activity.half_read(false);
            self.set_busy(true);
            let mut requests = VecDeque::from(requests);
            while !requests.is_empty() {
                let arrived = self.activity.read_at().max(since);
                let activity = Some(&*self.activity);
                let mut pipeline = Pipeline::new(&resp, &mut self.session, activity, arrived);
                self.wire.during(pipeline.run(&mut requests)).await?;
                let replies = pipeline.into_output();
                self.wire.output.append(replies);
                since = now();
                if let Some(end) = self.room().await? {
                    return Ok(end);
                }
            }
            if let Some(fault) = fault {
                return Ok(End::Refused(fault.reply()));
            }
            if self.session.leaving || resp.cancel.is_cancelled() {
                return Ok(End::Done);
            }
        }
    }

    /// Whole commands of the input, and why none follows them.
    fn parse(&mut self) -> (Vec<Vec<bytes::Bytes>>, Option<ProtocolError>) {
        let limits = &self.resp.door.limits.resp;
        let (mut requests, mut held_bytes) = (Vec::new(), 0);
        while requests.len() < limits.pipeline_max && held_bytes < limits.operations_bytes_max {
            match self.parser.next(&mut self.wire.input) {
                Ok(Some(request)) => {
                    held_bytes += request.iter().map(bytes::Bytes::len).sum::<usize>();
                    requests.push(request);
                }
                Ok(None) => break,
                Err(fault) => return (requests, Some(fault)),
            }
        }
        (requests, None)
    }

    /// Waits until the connection may hold more.
    async fn room(&mut self) -> io::Result<Option<End>> {
        let output_bytes_max = self.resp.door.limits.resp.output_bytes_max;
        let cancel = self.resp.cancel.clone();
        loop {
            let within = self.hold();
            let waits = self.wire.output.len();
            if waits == 0 && !within && !self.parser.is_between() {
                return Ok(Some(self.refuse()));
            }
            if waits <= output_bytes_max && (within || waits == 0) {
                return Ok(None);
            }
            // Where all connections together hold too much, this one goes on without any.
            let line = if within { output_bytes_max } else { 0 };
            let drained = async {
                match line {
                    0 => self.wire.drain().await.map(|()| Event::Room),
                    line => self.wire.next(line).await,
                }
            };
            if cancel.run_until_cancelled(drained).await.transpose()?.is_none() {
                return Ok(Some(End::Done));
            }
        }
    }

    /// Half a command is more than all connections together may hold.
    fn refuse(&self) -> End {
        self.resp.metrics.refused.with_label_values(&["resp_buffers"]).inc();
        let limit = self.resp.door.limits.resp.buffers_bytes_max;
        let what = "what half commands and answers not taken hold (limits.resp_buffers_bytes_max)";
        End::Refused(format!("TRYAGAIN {what} is at its limit of {limit}"))
    }

    /// Tells what the connection holds. False if all together hold too much.
    fn hold(&mut self) -> bool {
        let wire = &self.wire;
        let held = wire.input.len() + self.parser.held_bytes() + wire.output.len();
        self.share.hold(held + self.session.held_bytes())
    }

    fn set_busy(&mut self, busy: bool) {
        if busy != self.busy {
            self.busy = busy;
            if busy { self.activity.request_began() } else { self.activity.request_ended() }
        }
    }
}
