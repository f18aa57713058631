//! All commands of the door, as Redis's `COMMAND` tells of them.

use bytes::Bytes;

use crate::codec::resp::value::RespValue;

/// One command. See <https://redis.io/docs/latest/commands/command/>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// Arguments with the name; at least so many if negative.
    pub arity: i32,
    /// As `COMMAND` lists them.
    pub flags: &'static [&'static str],
    /// Where the first key stands; 0 without keys.
    pub first_key: i32,
    /// Where the last one stands; counted from the end if negative.
    pub last_key: i32,
    /// From one key to the next.
    pub step: i32,
    /// Its group in `COMMAND DOCS`.
    pub group: &'static str,
    /// What it does, one line.
    pub summary: &'static str,
}

impl Command {
    /// Redis's error if a command with `args` arguments (its name counted) has too few or too many.
    ///
    /// # Errors
    /// `ERR wrong number of arguments for '...' command`.
    pub fn check_arity(&self, args: usize) -> Result<(), RespValue> {
        let args = i64::try_from(args).unwrap_or(i64::MAX);
        let arity = i64::from(self.arity);
        if (arity >= 0 && args == arity) || (arity < 0 && args >= -arity) {
            return Ok(());
        }
        let name = self.name;
        Err(RespValue::error(format!("ERR wrong number of arguments for '{name}' command")))
    }

    /// The keys among its arguments.
    pub fn keys<'a>(&self, args: &'a [Bytes]) -> Vec<&'a Bytes> {
        let count = i64::try_from(args.len()).unwrap_or(i64::MAX);
        let last = i64::from(self.last_key);
        let last = if last < 0 { count + last } else { last };
        if self.first_key <= 0 || self.step <= 0 || self.check_arity(args.len()).is_err() {
            return Vec::new();
        }
        let at = |at: i64| usize::try_from(at).ok().and_then(|at| args.get(at));
        let step = usize::try_from(self.step).unwrap_or(1);
        (i64::from(self.first_key)..=last).step_by(step).filter_map(at).collect()
    }
}

/// All commands, in the order of their names.
pub const COMMANDS: &[Command] = &[];

/// The command of this name; the case does not matter.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}
