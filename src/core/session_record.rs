//! Sessions in a snapshot. Append only.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::reply_record::{get_reply_of, put_reply};
use super::session::{Remembered, Session, Slots, weight};
use crate::types::limits::{SESSION_REPLIES_MAX, TRANSACTION_OPERATIONS_MAX};
use crate::types::wire::{Error, get_u8, get_varint, put_varint};
use crate::types::{Asker, Refusal, Reply, RoutingEpoch, SLOTS, Slot};

/// Appends a session.
pub fn put_session(out: &mut BytesMut, asker: Asker, id: u128, session: &Session) {
    out.put_u8(match asker {
        Asker::Node => 0,
        Asker::Caller => 1,
    });
    out.put_u128_le(id);
    put_varint(out, session.used_version);
    put_varint(out, session.used_age_ms);
    put_varint(out, session.forgotten_below);
    put_varint(out, session.forgotten_ms);
    put_varint(out, session.replies().len() as u64);
    for known in session.replies() {
        put_varint(out, known.sequence);
        put_varint(out, known.part.into());
        let slots = known.slots.as_slice();
        put_varint(out, slots.len() as u64);
        slots.iter().for_each(|slot| out.put_u16_le(slot.0));
        put_remembered(out, &known.reply);
        if let Some(version) = session.heavy_version(known.name()) {
            put_varint(out, version);
        }
    }
}

/// Reads a session.
///
/// # Errors
/// If the bytes are none.
pub fn get_session(input: &mut Bytes) -> Result<(Asker, u128, Session), Error> {
    let asker = match get_u8(input, "session asker")? {
        0 => Asker::Node,
        1 => Asker::Caller,
        tag => return Err(Error::Tag { what: "session asker", tag: u64::from(tag) }),
    };
    if input.remaining() < 16 {
        return Err(Error::Short { what: "session id" });
    }
    let id = input.get_u128_le();
    let mut session = Session::default();
    session.used_version = get_varint(input, "session use")?;
    session.used_age_ms = get_varint(input, "session age")?;
    session.forgotten_below = get_varint(input, "session window")?;
    session.forgotten_ms = get_varint(input, "session beginning")?;
    let what = "session replies";
    let count = get_varint(input, what)?;
    if count > SESSION_REPLIES_MAX as u64 {
        return Err(Error::Malformed { what });
    }
    for _ in 0..count {
        let sequence = get_varint(input, "session sequence")?;
        let part = u16::try_from(get_varint(input, "session part")?);
        let part = part.map_err(|_| Error::Malformed { what })?;
        let slots = get_slots(input)?;
        let reply = get_remembered(input)?;
        let version = match weight(&reply) {
            0 => None,
            _ => Some(get_varint(input, "session reply version")?),
        };
        if !session.import(Remembered { sequence, part, slots, reply }, version) {
            return Err(Error::Malformed { what });
        }
    }
    Ok((asker, id, session))
}

fn get_slots(input: &mut Bytes) -> Result<Slots, Error> {
    let what = "session slots";
    let count = get_varint(input, what)?;
    // Of the keys of a transaction, two of a step at most, and those it watches.
    if count > 3 * TRANSACTION_OPERATIONS_MAX as u64 || input.remaining() < 2 * count as usize {
        return Err(Error::Malformed { what });
    }
    let slots: Vec<Slot> = (0..count).map(|_| Slot(input.get_u16_le())).collect();
    let ascending = slots.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || slots.last().is_some_and(|last| last.0 >= SLOTS) {
        return Err(Error::Malformed { what });
    }
    Ok(Slots::from_slots(slots.into_iter()))
}

/// As `reply_record` has it, but for two refusals whose tags were given here the other way round.
fn put_remembered(out: &mut BytesMut, reply: &Reply) {
    match reply {
        Reply::Refused(Refusal::TooLarge { bytes, bytes_max }) => {
            out.put_u8(7);
            put_varint(out, *bytes);
            put_varint(out, *bytes_max);
        }
        Reply::Refused(Refusal::NotOwner { epoch }) => {
            out.put_u8(8);
            put_varint(out, epoch.0);
        }
        other => put_reply(out, other),
    }
}

fn get_remembered(input: &mut Bytes) -> Result<Reply, Error> {
    let what = "remembered reply";
    Ok(match get_u8(input, what)? {
        7 => Reply::Refused(Refusal::TooLarge {
            bytes: get_varint(input, what)?,
            bytes_max: get_varint(input, what)?,
        }),
        8 => Reply::Refused(Refusal::NotOwner { epoch: RoutingEpoch(get_varint(input, what)?) }),
        tag => {
            let mut reply = get_reply_of(tag, input)?;
            // Not to keep the chunk alive.
            reply.detach(usize::MAX);
            reply
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Version;

    fn known(sequence: u64, part: u16, slots: &[u16], reply: Reply) -> Remembered {
        let slots = Slots::from_slots(slots.iter().map(|slot| Slot(*slot)));
        Remembered { sequence, part, slots, reply }
    }

    fn session() -> Session {
        let mut session = Session::new(4);
        (session.used_version, session.used_age_ms, session.forgotten_below) = (300, 5, 2);
        let version = Version(9);
        assert!(session.remember(known(3, 0, &[7], Reply::Set { version }), 0));
        assert!(session.remember(known(3, 2, &[1, 258], Reply::NotFound), 0));
        let float = Reply::Float { version, text: "1".into() };
        assert!(session.remember(known(6, 0, &[], float), 10));
        session
    }

    #[test]
    fn golden_bytes() {
        let mut out = BytesMut::new();
        put_session(&mut out, Asker::Caller, 0x0102, &session());
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "01 02010000000000000000000000000000 ac02 05 02 04 03 \
                      03 00 01 0700 01 09 \
                      03 02 02 0100 0201 03 \
                      06 00 00 15 09 01 31 0a";
        assert_eq!(hex, golden.replace(' ', ""));
        let mut input = out.freeze();
        let decoded = get_session(&mut input).expect("it was just written");
        assert_eq!(decoded, (Asker::Caller, 0x0102, session()));
        assert!(input.is_empty());
    }

    #[test]
    fn what_is_no_session_is_an_error() {
        let mut out = BytesMut::new();
        put_session(&mut out, Asker::Node, 7, &session());
        let bytes = out.freeze();
        for end in 0..bytes.len() {
            assert!(get_session(&mut bytes.slice(..end)).is_err(), "cut at {end}");
        }
        let altered = |at: usize, byte: u8| {
            let mut altered = bytes.to_vec();
            altered[at] = byte;
            get_session(&mut altered.into())
        };
        assert!(altered(0, 2).is_err(), "nobody's");
        // Out of order, and a slot that there is none of.
        let first =
            bytes.windows(4).position(|part| part == [3, 0, 1, 7]).expect("the first reply");
        assert!(altered(first, 9).is_err());
        assert!(altered(first + 4, 0xff).is_err());
    }
}
