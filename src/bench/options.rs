//! What is asked for.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::keys::Distribution;
use crate::types::limits;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $type { $($(#[$variant_doc])* $variant),+ }

        impl $type {
            /// As it is typed and shown.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok($type::$variant),)+
                    _ => Err(format!("{text:?} is none of {}", [$($name),+].join(", "))),
                }
            }
        }
    };
}

names! {
    /// Which program.
    System {
        /// This one.
        Raftcache = "raftcache",
        /// One Redis, or what speaks like it.
        Redis = "redis",
        /// A Redis Cluster: each key is sent to the node of its slot.
        RedisCluster = "redis-cluster",
        /// etcd v3.
        Etcd = "etcd",
    }
}

names! {
    /// Through which of its doors.
    Via {
        /// One gRPC call an operation.
        Unary = "unary",
        /// gRPC `Pipeline` streams, one a connection.
        Pipeline = "pipeline",
        /// The client that knows the leaders, over `Pipeline` streams.
        Smart = "smart",
        /// The same over unary calls.
        SmartUnary = "smart-unary",
        /// RESP, as any client of Redis speaks it.
        Resp = "resp",
        /// RESP, each key to the node of its slot.
        RespCluster = "resp-cluster",
        /// HTTP/1.1, one operation at a time on each connection.
        Http = "http",
    }
}

/// Whom to put load on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Which program.
    pub system: System,
    /// Through which door.
    pub via: Via,
    /// Addresses, `host:port`, used in turns.
    pub addrs: Vec<String>,
}

impl Target {
    /// The door that is taken unless another is asked for.
    pub fn via_default(system: System) -> Via {
        match system {
            System::Raftcache | System::Etcd => Via::Unary,
            System::Redis => Via::Resp,
            System::RedisCluster => Via::RespCluster,
        }
    }

    /// Program and door.
    pub fn name(&self) -> String {
        match self.system {
            System::Raftcache => format!("raftcache/{}", self.via.name()),
            other => other.name().to_owned(),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    /// `SYSTEM=ADDR,...` or `raftcache/DOOR=ADDR,...`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, addrs) = text.split_once('=').ok_or("SYSTEM=HOST:PORT,... is needed")?;
        let (system, via) = name.split_once('/').map_or((name, None), |(s, v)| (s, Some(v)));
        let system: System = system.parse()?;
        let via = via.map_or(Ok(Target::via_default(system)), Via::from_str)?;
        let addrs = addrs.split(',').map(str::to_owned).collect();
        Ok(Target { system, via, addrs })
    }
}

/// Bytes of values: one size, or any of a range, each as often as the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Smallest.
    pub min: usize,
    /// Largest.
    pub max: usize,
}

impl FromStr for Sizes {
    type Err = String;

    /// `64` or `16-1024`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number"));
        let sizes = Sizes { min: number(min)?, max: number(max)? };
        if sizes.min > sizes.max || sizes.max > limits::VALUE_BYTES_MAX {
            return Err(format!("BYTES or MIN-MAX of 0 to {}", limits::VALUE_BYTES_MAX));
        }
        Ok(sizes)
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}-{}", self.min, self.max)
        }
    }
}

/// What to measure. The same for every target.
#[derive(Clone, Debug)]
pub struct Options {
    /// Measured one after the other, in this order.
    pub targets: Vec<Target>,
    /// Share of reads, 0 to 1.
    pub reads: f64,
    /// Operations in flight at most, over all connections.
    pub callers: usize,
    /// Connections, over all addresses. HTTP takes one a caller.
    pub connections: usize,
    /// Keys.
    pub keys: u64,
    /// How they are chosen.
    pub distribution: Distribution,
    /// Bytes of a value.
    pub sizes: Sizes,
    /// Operations a second that fall due, whether or not earlier ones were answered; as fast as the
    /// callers can, if none.
    pub rate: Option<f64>,
    /// Time before measuring.
    pub warmup: Duration,
    /// Time measured.
    pub duration: Duration,
    /// Same seed, same operations.
    pub seed: u64,
}

impl Options {
    /// Names the option that makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        for target in &self.targets {
            let fits = match target.system {
                System::Raftcache => true,
                System::Redis => target.via == Via::Resp,
                System::RedisCluster => target.via == Via::RespCluster,
                System::Etcd => target.via == Via::Unary,
            };
            let (system, via) = (target.system.name(), target.via.name());
            ensure!(fits, "--via: {system} is not spoken to through {via}");
            ensure!(target.addrs.iter().all(|addr| addr.contains(':')), "--addr: HOST:PORT,...");
        }
        ensure!(!self.targets.is_empty(), "--target: at least one");
        ensure!((0.0..=1.0).contains(&self.reads), "--reads: 0 to 1");
        ensure!((1..=100_000).contains(&self.callers), "--callers: 1..=100000");
        ensure!((1..=10_000).contains(&self.connections), "--connections: 1..=10000");
        ensure!(self.keys > 0, "--keys: at least 1");
        ensure!(!self.duration.is_zero(), "--duration: at least 1");
        if let Some(rate) = self.rate {
            ensure!(rate > 0.0 && rate <= 1e8, "--rate: above 0, at most 100000000");
        }
        Ok(())
    }

    /// `set`, `get`, or `mixed`.
    pub fn kind(&self) -> &'static str {
        match self.reads {
            reads if reads <= 0.0 => "set",
            reads if reads >= 1.0 => "get",
            _ => "mixed",
        }
    }
}

/// Host and port of an address.
pub(super) fn authority(addr: &str) -> anyhow::Result<(String, u16)> {
    let (host, port) = addr.rsplit_once(':').with_context(|| format!("{addr}: no port"))?;
    let port = port.parse().with_context(|| format!("{addr}: bad port"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let target: Target = "redis=127.0.0.1:6379".parse().unwrap();
        assert_eq!((target.system, target.via), (System::Redis, Via::Resp));
        let target: Target = "raftcache/smart=a:1,b:2".parse().unwrap();
        assert_eq!((target.via, target.addrs.len()), (Via::Smart, 2));
        assert_eq!(target.name(), "raftcache/smart");
        for bad in ["redis", "mysql=a:1", "raftcache/carrier-pigeon=a:1"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_one_or_a_range() {
        assert_eq!("64".parse(), Ok(Sizes { min: 64, max: 64 }));
        assert_eq!("16-1024".parse(), Ok(Sizes { min: 16, max: 1024 }));
        for bad in ["", "9-1", "-", "1-", "2000000", "x"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        let good = Options {
            targets: vec!["redis=a:1".parse().unwrap()],
            reads: 0.5,
            callers: 1,
            connections: 1,
            keys: 1,
            distribution: Distribution::Uniform,
            sizes: Sizes { min: 1, max: 1 },
            rate: None,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            seed: 1,
        };
        good.check().unwrap();
        let named = |options: Options, name: &str| {
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        };
        named(Options { reads: 1.5, ..good.clone() }, "--reads");
        named(Options { reads: f64::NAN, ..good.clone() }, "--reads");
        named(Options { rate: Some(0.0), ..good.clone() }, "--rate");
        named(Options { callers: 0, ..good.clone() }, "--callers");
        named(Options { keys: 0, ..good.clone() }, "--keys");
        let mut wrong = good.clone();
        wrong.targets[0].via = Via::Http;
        named(wrong, "--via");
        named(Options { targets: Vec::new(), ..good }, "--target");
    }
}
