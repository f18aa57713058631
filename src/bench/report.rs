//! What was measured.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use super::load::{Options, Tally};

/// Result of one run.
#[derive(Debug)]
pub struct Report {
    options: Options,
    elapsed: Duration,
    latencies: Histogram<u64>,
    errors: u64,
    example: Option<String>,
}

impl Report {
    pub(super) fn new(options: &Options, elapsed: Duration) -> anyhow::Result<Self> {
        let latencies = Tally::new().latencies;
        Ok(Report { options: options.clone(), elapsed, latencies, errors: 0, example: None })
    }

    pub(super) fn add(&mut self, tally: &Tally) -> anyhow::Result<()> {
        self.latencies.add(&tally.latencies)?;
        self.errors += tally.errors;
        if self.example.is_none() {
            self.example.clone_from(&tally.example);
        }
        Ok(())
    }

    /// Successful operations a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Failed operations.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Everything, for machines. Latencies in microseconds.
    pub fn to_json(&self) -> serde_json::Value {
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        json!({
            "target": format!("{:?}", self.options.target).to_lowercase(),
            "mode": format!("{:?}", self.options.mode).to_lowercase(),
            "kind": format!("{:?}", self.options.kind).to_lowercase(),
            "callers": self.options.callers,
            "connections": self.options.connections,
            "value_bytes": self.options.value_bytes,
            "keys": self.options.keys,
            "seconds": self.elapsed.as_secs_f64(),
            "operations": self.latencies.len(),
            "operations_per_second": self.rate(),
            "errors": self.errors,
            "error_example": self.example,
            "latency_us": {
                "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999),
                "max": self.latencies.max(),
            },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1_000.0;
        writeln!(
            f,
            "{:?} {:?} {:?}, {} callers, {} connections, {} B values, {} keys, {:.1} s",
            self.options.target,
            self.options.mode,
            self.options.kind,
            self.options.callers,
            self.options.connections,
            self.options.value_bytes,
            self.options.keys,
            self.elapsed.as_secs_f64()
        )?;
        writeln!(f, "  {:.0} op/s, {} errors", self.rate(), self.errors)?;
        if let Some(example) = &self.example {
            writeln!(f, "  for example: {example}")?;
        }
        write!(
            f,
            "  latency ms: p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}",
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(0.999),
            self.latencies.max() as f64 / 1_000.0
        )
    }
}
