//! Alarms at the command line, and what the doors share of them: `alarm list` and `alarm ack` ask any
//! node over HTTP.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};

use super::cluster::{HttpTarget, http_call};
use super::page::AlarmsPage;
use super::render;
use super::validate::invalid;
use crate::core::cluster::alarms::AckAlarms;
use crate::types::Error;
use crate::types::limits::ALARMS_MAX;

/// Exit code of `alarm list` while an alarm is active.
pub const EXIT_ACTIVE: u8 = 1;

/// What is acknowledged; the body of `POST /admin/alarms/ack`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// These, by their ids.
    #[serde(default)]
    pub ids: Vec<u64>,
    /// Every alarm that is active when it is applied.
    #[serde(default)]
    pub all: bool,
}

impl Ack {
    /// Checks what a caller gave.
    ///
    /// # Errors
    /// If it names no alarm, or some and all, or more than there can be.
    pub fn checked(self) -> Result<AckAlarms, Error> {
        match (self.ids.len(), self.all) {
            (0, true) => Ok(AckAlarms::All),
            (0, false) => Err(invalid("ids", "is empty: name alarms, or all of them")),
            (_, true) => Err(invalid("ids", "must be empty where all are meant")),
            (ids, false) if ids > ALARMS_MAX => {
                Err(invalid("ids", format!("has {ids} alarms, at most {ALARMS_MAX} are allowed")))
            }
            (_, false) => Ok(AckAlarms::Ids(self.ids)),
        }
    }
}

/// Writes the alarms that are active. Exit code 1 if there is one.
///
/// # Errors
/// If the node cannot be asked.
pub async fn run_list(options: &HttpTarget, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let page = call(options, Method::GET, "/admin/alarms", Bytes::new()).await?;
    show(options, &page, out)?;
    let none = page.alarms.is_empty();
    Ok(if none { ExitCode::SUCCESS } else { ExitCode::from(EXIT_ACTIVE) })
}

/// Acknowledges alarms and writes those that are still active.
///
/// # Errors
/// If the node cannot be asked, or refuses; then nothing was acknowledged, or the error says that it
/// may have been.
pub async fn run_ack(
    options: &HttpTarget,
    ack: &Ack,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let body = serde_json::to_vec(ack)?.into();
    let page = call(options, Method::POST, "/admin/alarms/ack", body).await?;
    show(options, &page, out)?;
    Ok(ExitCode::SUCCESS)
}

fn show(options: &HttpTarget, page: &AlarmsPage, out: &mut impl Write) -> anyhow::Result<()> {
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(page)?)?;
    } else {
        out.write_all(render::alarms(&page.alarms, ALARMS_MAX).as_bytes())?;
    }
    Ok(())
}

/// The part of a problem that people read.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    outcome: String,
}

async fn call(
    options: &HttpTarget,
    method: Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<AlarmsPage> {
    let addr = &options.http_addr;
    let (code, body) = http_call(addr, method, path, body, options.timeout).await?;
    if code != 200 {
        let problem: Problem = serde_json::from_slice(&body)
            .with_context(|| format!("{addr} answered {code} and no problem"))?;
        anyhow::bail!("{addr} answered {code}: {} ({})", problem.detail, problem.outcome);
    }
    serde_json::from_slice(&body).with_context(|| format!("{addr} sent no alarms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_or_all_but_not_both_and_not_more_than_there_can_be() {
        let ack = |ids: Vec<u64>, all| Ack { ids, all }.checked();
        assert_eq!(ack(Vec::new(), true), Ok(AckAlarms::All));
        assert_eq!(ack(vec![3], false), Ok(AckAlarms::Ids(vec![3])));
        let most: Vec<u64> = (0..ALARMS_MAX as u64).collect();
        assert_eq!(ack(most.clone(), false), Ok(AckAlarms::Ids(most.clone())));
        assert!(ack(Vec::new(), false).is_err());
        assert!(ack(vec![3], true).is_err());
        assert!(ack([most, vec![9]].concat(), false).is_err());
    }
}
