//! Which key comes next.

use std::str::FromStr;

use crate::types::random::Random;

/// How keys are chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    /// Each as often as any other.
    Uniform,
    /// The k-th most popular key is `k^-exponent` times as popular as the first. YCSB's 0.99 is
    /// what most papers on caches take.
    Zipf(f64),
    /// One key takes this share of the operations, the others share the rest evenly.
    Hot(f64),
}

impl FromStr for Distribution {
    type Err = String;

    /// `uniform`, `zipf`, `zipf:0.9`, `hot`, `hot:0.5`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text.split_once(':').map_or((text, None), |(n, v)| (n, Some(v)));
        let number = |default: f64| match number {
            None => Ok(default),
            Some(text) => text.parse::<f64>().map_err(|_| format!("{text} is not a number")),
        };
        match name {
            "uniform" if text == name => Ok(Distribution::Uniform),
            "zipf" => {
                let exponent = number(0.99)?;
                let fits = exponent > 0.0 && exponent <= 5.0;
                fits.then_some(Distribution::Zipf(exponent))
                    .ok_or_else(|| "zipf: an exponent above 0 and at most 5".to_owned())
            }
            "hot" => {
                let share = number(0.5)?;
                let fits = (0.0..=1.0).contains(&share);
                fits.then_some(Distribution::Hot(share))
                    .ok_or_else(|| "hot: a share of 0 to 1".to_owned())
            }
            _ => Err("uniform, zipf, zipf:EXPONENT, hot or hot:SHARE".to_owned()),
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Distribution::Uniform => f.write_str("uniform"),
            Distribution::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Distribution::Hot(share) => write!(f, "hot:{share}"),
        }
    }
}

/// Draws numbers of keys, 0 to `keys - 1`.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: u64,
    /// Invariant: has no factor in common with `keys`.
    step: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Zipf(Zipf),
    Hot(f64),
}

impl Keys {
    /// Of so many keys, at least 1.
    pub fn new(distribution: Distribution, keys: u64) -> Self {
        let kind = match distribution {
            Distribution::Uniform => Kind::Uniform,
            Distribution::Zipf(exponent) => Kind::Zipf(Zipf::new(keys, exponent)),
            Distribution::Hot(share) => Kind::Hot(share),
        };
        let mut step = 0x9e37_79b9_7f4a_7c15 % keys;
        while gcd(step, keys) != 1 {
            step += 1;
        }
        Keys { keys, step, kind }
    }

    /// The next key.
    pub fn next(&self, random: &mut Random) -> u64 {
        match &self.kind {
            Kind::Uniform => random.bits() % self.keys,
            Kind::Zipf(zipf) => self.scatter(zipf.rank(random) - 1),
            Kind::Hot(share) if random.unit() < *share => self.scatter(0),
            Kind::Hot(_) => random.bits() % self.keys,
        }
    }

    /// Popular keys are not neighbours: a step that has no factor in common with the number of keys
    /// visits each once, so every rank keeps a key, and its popularity, of its own.
    fn scatter(&self, rank: u64) -> u64 {
        let place = u128::from(rank) * u128::from(self.step) % u128::from(self.keys);
        u64::try_from(place).expect("less than the number of keys")
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Ranks 1 to n, each with a probability of `rank^-exponent` of their sum: exact, without tables, by
/// rejection-inversion (Hoermann and Derflinger, "Rejection-inversion to generate variates from
/// monotone discrete distributions", ACM TOMACS 6(3), 1996).
#[derive(Clone, Debug)]
struct Zipf {
    exponent: f64,
    n: f64,
    /// Integral of the hat at 1.5, less 1; and at n + 0.5.
    low: f64,
    high: f64,
    /// What is nearer to its rank than this needs no test.
    near: f64,
}

impl Zipf {
    fn new(n: u64, exponent: f64) -> Self {
        let n = n as f64;
        let mut zipf = Zipf { exponent, n, low: 0.0, high: 0.0, near: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(n + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.hat(2.0));
        zipf
    }

    fn hat(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// Integral of `hat`: `(x^(1-s) - 1) / (1-s)`, and `ln x` where s is 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        // (e^t - 1) / t by its series where t is small.
        let ratio = if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 };
        ratio * log
    }

    fn inverse(&self, y: f64) -> f64 {
        // Rounding must not lead below the smallest argument of the logarithm.
        let t = (y * (1.0 - self.exponent)).max(-1.0);
        let ratio = if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 };
        (ratio * y).exp()
    }

    fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let u = self.high + random.unit() * (self.low - self.high);
            let x = self.inverse(u);
            let rank = (x + 0.5).floor().clamp(1.0, self.n);
            if rank - x <= self.near || u >= self.integral(rank + 0.5) - self.hat(rank) {
                return rank as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DRAWS: u64 = 400_000;

    /// How often each key came, most often first.
    fn counts(distribution: Distribution, keys: u64) -> Vec<u64> {
        let (keys, mut random) = (Keys::new(distribution, keys), Random::new(42));
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..DRAWS {
            let key = keys.next(&mut random);
            assert!(key < keys.keys);
            *counts.entry(key).or_default() += 1;
        }
        let mut counts: Vec<u64> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    /// Within five standard deviations of what is expected.
    fn near(count: u64, share: f64) {
        let expected = DRAWS as f64 * share;
        let deviation = (expected * (1.0 - share)).sqrt();
        let off = (count as f64 - expected).abs() / deviation;
        assert!(off < 5.0, "{count} of {expected:.0} expected is {off:.1} deviations off");
    }

    #[test]
    fn zipf_ranks_are_as_often_as_the_law_says() {
        for exponent in [0.5, 0.99, 1.0, 1.5] {
            let n = 1_000;
            let sum: f64 = (1..=n).map(|k| f64::from(k).powf(-exponent)).sum();
            let zipf = Zipf::new(n as u64, exponent);
            let mut random = Random::new(7);
            let mut counts = vec![0u64; n as usize + 1];
            (0..DRAWS).for_each(|_| counts[zipf.rank(&mut random) as usize] += 1);
            for rank in [1, 2, 3, 10, 100, 1_000] {
                near(counts[rank], (rank as f64).powf(-exponent) / sum);
            }
            let tail: u64 = counts[501..].iter().sum();
            let share = (501..=n).map(|k| f64::from(k).powf(-exponent)).sum::<f64>() / sum;
            near(tail, share);
        }
    }

    #[test]
    fn scattering_gives_every_rank_a_key_of_its_own() {
        for keys in [1, 2, 6, 100, 30_030, 65_536] {
            let all = Keys::new(Distribution::Zipf(0.99), keys);
            let mut seen: Vec<u64> = (0..keys).map(|rank| all.scatter(rank)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..keys), "{keys}");
        }
        let counts = counts(Distribution::Zipf(0.99), 1_000);
        let sum: f64 = (1..=1_000).map(|k| f64::from(k).powf(-0.99)).sum();
        near(counts[0], 1.0 / sum);
    }

    #[test]
    fn uniform_is_even_and_a_hot_key_takes_its_share() {
        let even = counts(Distribution::Uniform, 100);
        assert_eq!(even.len(), 100);
        near(even[0], 0.01);
        near(even[99], 0.01);
        let hot = counts(Distribution::Hot(0.8), 100);
        near(hot[0], 0.8 + 0.2 / 100.0);
        near(hot[50], 0.2 / 100.0);
        assert_eq!(counts(Distribution::Hot(1.0), 100).len(), 1);
    }

    #[test]
    fn names_are_read_and_written() {
        for text in ["uniform", "zipf:0.99", "hot:0.5"] {
            assert_eq!(text.parse::<Distribution>().unwrap().to_string(), text);
        }
        assert_eq!("zipf".parse(), Ok(Distribution::Zipf(0.99)));
        for text in ["uniform:1", "zipf:0", "zipf:x", "zipf:NaN", "hot:1.1", "hot:NaN", "pareto"] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
    }
}
