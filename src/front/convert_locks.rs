//! Messages of locks and fills <-> the one request type.

use bytes::Bytes;

use super::convert::{
    Checked, duration, entry, key_of, mismatch, request_id, ttl_of_ms, value_of, version,
};
use super::validate::{self, invalid};
use super::{FrontLimits, pb};
use crate::service::{Operation, Response};
use crate::types::limits::{
    LEASE_BETA_MILLI_MAX, LEASE_WAIT_MS_MAX, LOCK_OWNER_BYTES_MAX, LOCK_TTL_MS_MAX, LOCKS_MAX,
};
use crate::types::{
    Command, Error, Expiry, Fill, GetOrLease, Leased, Lock, Renew, Reply, Unlock, Version,
};

fn owner(owner: Bytes) -> Result<Bytes, Error> {
    match owner.len() {
        1..=LOCK_OWNER_BYTES_MAX => Ok(owner),
        n => {
            let allowed = format!("1 to {LOCK_OWNER_BYTES_MAX} are allowed");
            Err(invalid("owner", format!("has {n} bytes; {allowed}")))
        }
    }
}

fn lock_ttl_ms(ttl: Option<pb::Ttl>) -> Result<u64, Error> {
    let ttl = ttl.ok_or_else(|| invalid("ttl", "is missing"))?;
    match validate::millis_up(duration("ttl", ttl)?) {
        ttl_ms @ 1..=LOCK_TTL_MS_MAX => Ok(ttl_ms),
        ttl_ms => {
            let allowed = format!("1 to {LOCK_TTL_MS_MAX} are allowed");
            Err(invalid("ttl", format!("is {ttl_ms} ms; {allowed}")))
        }
    }
}

fn token(token: u64) -> Result<u64, Error> {
    if token == 0 { Err(invalid("token", "is 0; tokens start at 1")) } else { Ok(token) }
}

/// Checks a lock.
pub fn lock(limits: &FrontLimits, request: pb::LockRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, lock_request, request.key_form);
    let (owner, ttl_ms) = (owner(request.owner)?, lock_ttl_ms(request.ttl)?);
    // The service knows how many there may be.
    let lock = Lock { key, owner, ttl_ms, locks_max: LOCKS_MAX };
    Ok((Operation::Write(Command::Lock(lock)), request_id(request.request_id)?))
}

/// Checks a renewal.
pub fn renew(limits: &FrontLimits, request: pb::RenewRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, renew_request, request.key_form);
    let (owner, ttl_ms) = (owner(request.owner)?, lock_ttl_ms(request.ttl)?);
    let renew = Renew { key, owner, token: Version(token(request.token)?), ttl_ms };
    Ok((Operation::Write(Command::Renew(renew)), request_id(request.request_id)?))
}

/// Checks an unlock.
pub fn unlock(limits: &FrontLimits, request: pb::UnlockRequest) -> Result<Checked, Error> {
    let key = key_of!(limits, unlock_request, request.key_form);
    let token = Version(token(request.token)?);
    let unlock = Unlock { key, owner: owner(request.owner)?, token };
    Ok((Operation::Write(Command::Unlock(unlock)), request_id(request.request_id)?))
}

/// Answer to a lock and to a renewal.
pub fn lock_response(response: Response) -> Result<pb::LockResponse, Error> {
    Ok(match response {
        Response::Written(Reply::Locked { token, deadline_ms }) => pb::LockResponse {
            held: true,
            token: token.0,
            expire_at_ms: deadline_ms,
            held_by_other_for: None,
        },
        Response::Written(Reply::LockHeld { token, ttl_ms }) => pb::LockResponse {
            token: token.0,
            held_by_other_for: Some(ttl_of_ms(ttl_ms)),
            ..pb::LockResponse::default()
        },
        Response::Written(Reply::NotHeld { current }) => {
            pb::LockResponse { token: version(current), ..pb::LockResponse::default() }
        }
        other => return Err(mismatch(&other)),
    })
}

/// Answer to an unlock.
pub fn unlock_response(response: Response) -> Result<pb::UnlockResponse, Error> {
    match response {
        Response::Written(Reply::Deleted { .. }) => {
            Ok(pb::UnlockResponse { unlocked: true, current_token: 0 })
        }
        Response::Written(Reply::NotHeld { current }) => {
            Ok(pb::UnlockResponse { unlocked: false, current_token: version(current) })
        }
        other => Err(mismatch(&other)),
    }
}

/// Checks a read that may end in a fill.
pub fn get_or_lease(
    limits: &FrontLimits,
    request: pb::GetOrLeaseRequest,
) -> Result<Checked, Error> {
    let key = key_of!(limits, get_or_lease_request, request.key_form);
    let wait = request.wait.map(|wait| duration("wait", wait)).transpose()?;
    let wait_ms = wait.map_or(0, validate::millis_up);
    if wait_ms > LEASE_WAIT_MS_MAX {
        let problem = format!("is {wait_ms} ms; at most {LEASE_WAIT_MS_MAX} are allowed");
        return Err(invalid("wait", problem));
    }
    let beta_max = LEASE_BETA_MILLI_MAX as f32 / 1_000.0;
    if !(0.0..=beta_max).contains(&request.beta) {
        let problem = format!("is {}; 0 to {beta_max} are allowed", request.beta);
        return Err(invalid("beta", problem));
    }
    // In its range, as was checked.
    let beta_milli = (request.beta * 1_000.0).round() as u32;
    let ask = GetOrLease { key, wait_ms, stale_ok: request.stale_ok, beta_milli };
    Ok((Operation::GetOrLease(ask), None))
}

/// Answer to it.
pub fn lease_response(response: Response) -> Result<pb::GetOrLeaseResponse, Error> {
    use pb::get_or_lease_response::State;
    let Response::Leased(leased) = response else { return Err(mismatch(&response)) };
    let none = pb::GetOrLeaseResponse::default();
    Ok(match *leased {
        Leased::Hit(found) => {
            pb::GetOrLeaseResponse { state: State::Hit.into(), entry: Some(entry(found)), ..none }
        }
        Leased::Stale { found, age_ms } => pb::GetOrLeaseResponse {
            state: State::Stale.into(),
            entry: Some(entry(found)),
            stale_for: Some(ttl_of_ms(age_ms)),
            ..none
        },
        Leased::Fill { token, token_ms, found } => pb::GetOrLeaseResponse {
            state: State::Fill.into(),
            entry: found.map(entry),
            token,
            token_ttl: Some(ttl_of_ms(token_ms)),
            ..none
        },
        Leased::Busy => pb::GetOrLeaseResponse { state: State::Busy.into(), ..none },
    })
}

/// Checks a fill. Its answer is a set's.
pub fn fill(limits: &FrontLimits, request: pb::FillRequest) -> Result<Checked, Error> {
    use pb::fill_request::Expiry as Wire;
    let key = key_of!(limits, fill_request, request.key_form);
    let value = value_of!(limits, fill_request, request.value_form);
    let expiry = match request.expiry {
        None => Expiry::Never,
        Some(Wire::Ttl(ttl)) => Expiry::AfterMs(validate::ttl_ms(limits, duration("ttl", ttl)?)?),
        Some(Wire::ExpireAtMs(at_ms)) => Expiry::AtMs(validate::expire_at_ms(at_ms)?),
    };
    let soft = request.soft_ttl.map(|ttl| duration("soft_ttl", ttl)).transpose()?;
    let soft_ms = match soft.map(validate::millis_up) {
        Some(0) => return Err(invalid("soft_ttl", "is 0; leave it out for none")),
        Some(ms) if ms > limits.ttl_ms_max => {
            let problem = format!("is {ms} ms; at most {} are allowed", limits.ttl_ms_max);
            return Err(invalid("soft_ttl", problem));
        }
        soft_ms => soft_ms,
    };
    let cost = request.cost.map(|cost| duration("cost", cost)).transpose()?;
    let cost_ms = cost.map_or(0, validate::millis_up);
    let token = token(request.token)?;
    let fill = Fill { key, value, soft_ms, expiry, cost_ms, token, since: None };
    Ok((Operation::Write(Command::Fill(fill)), request_id(request.request_id)?))
}
