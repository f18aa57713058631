//! Stand-in for the door: plans one by one, without MULTI.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftcache::codec::resp::value::RespValue;
use raftcache::front::FrontLimits;
use raftcache::front::door::{Call, Door, Kind};
use raftcache::front::resp::plan::{Context, Plan, plan};
use raftcache::service::{Multi, Operation, Response, Service};
use raftcache::types::clock::{Clock, SystemClock, now};
use raftcache::types::metrics::Metrics;
use raftcache::types::{Consistency, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ours::{Group, service};
use crate::reply::Reply;

pub async fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let metrics = Metrics::new();
    let door = Arc::new(Door::new(Arc::new(service(&metrics)), FrontLimits::default(), &metrics));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(connection(socket, Arc::clone(&door)));
        }
    });
    port
}

async fn connection(mut socket: TcpStream, door: Arc<Door<Service<Group>>>) {
    let mut input = Vec::new();
    loop {
        if let Some((Reply::Array(Some(words)), took)) =
            (!input.is_empty()).then(|| Reply::parse(&input)).flatten()
        {
            input.drain(..took);
            let args: Vec<Bytes> =
                words.iter().map(|w| Bytes::copy_from_slice(w.bulk().unwrap())).collect();
            let mut out = Vec::new();
            put(&mut out, answer(&door, &args).await);
            socket.write_all(&out).await.unwrap();
            continue;
        }
        let mut more = vec![0; 65536];
        let n = socket.read(&mut more).await.unwrap();
        if n == 0 {
            return;
        }
        input.extend(&more[..n]);
    }
}

async fn answer(door: &Door<Service<Group>>, args: &[Bytes]) -> RespValue {
    let consistency = Consistency::Linearizable;
    let context = Context { limits: &door.limits, now_ms: SystemClock.wall_ms(), consistency };
    let (arrived, deadline) = (now(), now() + Duration::from_secs(5));
    let call = Call { arrived, deadline, trace: None, activity: None };
    let run = async |operation: Operation| {
        let kind = Kind::of(&operation);
        door.run(kind, Ok((operation, None)), call).await
    };
    match plan(args, &context) {
        None => RespValue::error("ERR unknown"),
        Some(Err(error)) => error,
        Some(Ok(Plan::Reply(value))) => value,
        Some(Ok(Plan::Step { step: Step::Write(command), render })) => {
            render(run(Operation::Write(command)).await)
        }
        Some(Ok(Plan::Step { step: Step::Read(query), render })) => {
            render(run(Operation::Read { query, consistency }).await)
        }
        Some(Ok(Plan::Operation { operation, render })) => render(run(operation).await),
        Some(Ok(Plan::Procedure(procedure))) => procedure.run(door, call).await,
        Some(Ok(Plan::Steps { steps, render })) => {
            let multi = Multi { steps, atomic: false, watches: Vec::new(), consistency };
            let Ok(Response::Multi(results)) = run(Operation::Multi(multi)).await else { panic!() };
            render(&mut results.into_iter())
        }
    }
}

fn put(out: &mut Vec<u8>, value: RespValue) {
    match value {
        RespValue::Simple(text) => out.extend(format!("+{text}\r\n").bytes()),
        RespValue::Error(text) => out.extend(format!("-{text}\r\n").bytes()),
        RespValue::Integer(n) => out.extend(format!(":{n}\r\n").bytes()),
        RespValue::Bulk(data) => {
            out.extend(format!("${}\r\n", data.len()).bytes());
            out.extend(&data);
            out.extend(b"\r\n");
        }
        RespValue::Null => out.extend(b"$-1\r\n"),
        RespValue::Array(items) => {
            out.extend(format!("*{}\r\n", items.len()).bytes());
            items.into_iter().for_each(|item| put(out, item));
        }
        other => panic!("{other:?}"),
    }
}
