//! What was measured.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::facts::{Facts, warnings};
use super::options::{Options, Target};
use super::shared::Tally;

/// Throughput of one stretch of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// End of the stretch, seconds since measuring began.
    pub at_s: f64,
    /// Successful operations a second.
    pub rate: f64,
    /// Failed operations, of the whole run so far.
    pub errors: u64,
}

/// Result of one run.
#[derive(Debug)]
pub struct Run {
    /// Whom.
    pub target: Target,
    /// What it says of itself.
    pub facts: Facts,
    /// Time measured.
    pub elapsed: Duration,
    /// Latencies of successful operations, microseconds. At a rate, from the time they were due.
    pub latencies: Histogram<u64>,
    /// Of the successful ones, reads that found nothing.
    pub missed: u64,
    /// Failed operations.
    pub errors: u64,
    /// Operations that were due and never sent, because too many were under way.
    pub unsent: u64,
    /// One of the failures.
    pub example: Option<String>,
    /// Throughput over time.
    pub samples: Vec<Sample>,
}

impl Run {
    /// Takes what one caller counted.
    pub fn add(&mut self, tally: &Tally) -> anyhow::Result<()> {
        self.latencies.add(&tally.latencies)?;
        self.missed += tally.missed;
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

    /// Latency at a quantile, milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// Longest latency, milliseconds.
    pub fn ms_max(&self) -> f64 {
        self.latencies.max() as f64 / 1_000.0
    }

    fn to_json(&self, options: &Options) -> Value {
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        let samples = self.samples.iter().map(|sample| {
            json!({ "at_s": sample.at_s, "operations_per_second": sample.rate, "errors": sample.errors })
        });
        json!({
            "target": self.target.system.name(),
            "via": self.target.via.name(),
            // The name this had before there were others.
            "mode": self.target.via.name(),
            "version": self.facts.version,
            "copies": self.facts.copies.to_string(),
            "durability": self.facts.durability.name(),
            "kind": options.kind(),
            "reads": options.reads,
            "callers": options.callers,
            "connections": options.connections,
            "value_bytes": options.sizes.to_string(),
            "keys": options.keys,
            "distribution": options.distribution.to_string(),
            "rate": options.rate,
            "seed": options.seed,
            "seconds": self.elapsed.as_secs_f64(),
            "operations": self.latencies.len(),
            "operations_per_second": self.rate(),
            "missed": self.missed,
            "errors": self.errors,
            "unsent": self.unsent,
            "error_example": self.example,
            "latency_us": {
                "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999),
                "max": self.latencies.max(),
            },
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

/// Results of the same load on one target or several.
#[derive(Debug)]
pub struct Report {
    /// The load.
    pub options: Options,
    /// In the order in which they were measured.
    pub runs: Vec<Run>,
}

impl Report {
    /// Failed operations, and those that were due and never sent, over all runs.
    pub fn errors(&self) -> u64 {
        self.runs.iter().map(|run| run.errors + run.unsent).sum()
    }

    /// What must be known to compare the runs.
    pub fn warnings(&self) -> Vec<String> {
        let facts: Vec<_> = self.runs.iter().map(|run| (run.target.name(), &run.facts)).collect();
        let mut warnings = warnings(&facts);
        let missed = |run: &Run| run.missed as f64 / (run.latencies.len().max(1)) as f64 * 100.0;
        if self.runs.iter().any(|run| missed(run) > MISSED_PERCENT_MAX) {
            let each =
                self.runs.iter().map(|run| format!("{} {:.1} %", run.target.name(), missed(run)));
            let each = each.collect::<Vec<_>>().join(", ");
            warnings.push(format!(
                "reads found nothing, which costs less than a value: {each} of all operations; give the \
                 cache more room, or use fewer keys"
            ));
        }
        warnings
    }

    /// Everything, for machines: one object of one run, or `runs` of several. Latencies in
    /// microseconds.
    pub fn to_json(&self) -> Value {
        let mut runs: Vec<Value> = self.runs.iter().map(|run| run.to_json(&self.options)).collect();
        if runs.len() == 1 {
            let mut run = runs.remove(0);
            run["warnings"] = json!(self.warnings());
            run
        } else {
            json!({ "runs": runs, "warnings": self.warnings() })
        }
    }
}

/// Share of operations that may find nothing before it is told.
const MISSED_PERCENT_MAX: f64 = 0.1;

const HEAD: [&str; 12] = [
    "target",
    "version",
    "copies",
    "durability",
    "op/s",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "p99.9 ms",
    "max ms",
    "missed",
    "failed",
];

impl fmt::Display for Report {
    /// The load, a Markdown table, and the warnings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        write!(
            f,
            "{}, {} callers, {} connections, {} B values, {} keys {}",
            match options.kind() {
                "mixed" => format!("{:.0} % reads", options.reads * 100.0),
                kind => kind.to_owned(),
            },
            options.callers,
            options.connections,
            options.sizes,
            options.keys,
            options.distribution,
        )?;
        match options.rate {
            Some(rate) => writeln!(f, ", {rate} op/s due, latency from when they were due")?,
            None => writeln!(f, ", closed loop")?,
        }
        let mut rows = vec![HEAD.map(str::to_owned)];
        for run in &self.runs {
            rows.push([
                run.target.name(),
                run.facts.version.clone(),
                run.facts.copies.to_string(),
                run.facts.durability.name().to_owned(),
                format!("{:.0}", run.rate()),
                format!("{:.2}", run.ms(0.5)),
                format!("{:.2}", run.ms(0.9)),
                format!("{:.2}", run.ms(0.99)),
                format!("{:.2}", run.ms(0.999)),
                format!("{:.2}", run.ms_max()),
                run.missed.to_string(),
                (run.errors + run.unsent).to_string(),
            ]);
        }
        let widths: Vec<usize> = (0..HEAD.len())
            .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
            .collect();
        for (i, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if i == 0 {
                writeln!(f, "{}|", "| --- ".repeat(HEAD.len()))?;
            }
        }
        for run in &self.runs {
            if let Some(example) = &run.example {
                writeln!(f, "{} failed, for example: {example}", run.target.name())?;
            }
            if run.unsent > 0 {
                writeln!(
                    f,
                    "{} fell behind: {} operations were due and never sent",
                    run.target.name(),
                    run.unsent
                )?;
            }
        }
        for warning in self.warnings() {
            writeln!(f, "WARNING: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::testing::{options, run};

    #[test]
    fn one_table_holds_all_and_warns() {
        let runs = vec![run("raftcache/smart=a:1", 1_000), run("redis=b:2", 100)];
        let report = Report { options: options(), runs };
        let text = report.to_string();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 4, "{text}");
        let columns = |row: &str| row.matches('|').count();
        assert!(rows.iter().all(|row| columns(row) == columns(rows[0])), "{text}");
        assert!(rows[2].contains("raftcache/smart") && rows[3].contains("redis"));
        assert!(text.contains("WARNING: replication differs"), "{text}");
        assert!(!text.contains("found nothing"), "{text}");
        let mut runs = vec![run("raftcache/smart=a:1", 1_000), run("redis=b:2", 100)];
        runs[0].missed = 120;
        let text = Report { options: options(), runs }.to_string();
        assert!(text.contains("raftcache/smart 12.0 %, redis 0.0 %"), "{text}");
    }

    #[test]
    fn json_of_one_run_is_flat_and_of_several_a_list() {
        let one = Report { options: options(), runs: vec![run("redis=b:2", 100)] };
        let json = one.to_json();
        for name in ["operations_per_second", "errors", "mode", "kind", "warnings", "samples"] {
            assert!(!json[name].is_null(), "{name} in {json}");
        }
        assert_eq!(json["operations"], 100);
        for name in ["p50", "p90", "p99", "p999", "max"] {
            assert!(json["latency_us"][name].as_u64().unwrap() > 0, "{name}");
        }
        let two = vec![run("redis=b:2", 100), run("etcd=c:3", 100)];
        let json = Report { options: options(), runs: two }.to_json();
        assert_eq!(json["runs"].as_array().unwrap().len(), 2);
        assert!(!json["warnings"].as_array().unwrap().is_empty());
    }
}
