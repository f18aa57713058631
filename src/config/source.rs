//! Where values come from: defaults < TOML file < environment < flags.

use std::path::PathBuf;

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Deserializer};

use super::{Config, Error};

/// Prefix of environment variables.
const ENV_PREFIX: &str = "RAFTCACHE_";
/// Separates sections in the name of an environment variable.
const ENV_SEPARATOR: &str = "__";
/// Keys outside of any section; the only ones whose variable has no separator.
const TOP_LEVEL_KEYS: [&str; 1] = ["durability"];

/// Everything a configuration is made of. The environment is passed in, so that tests have their own.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Name and value of every environment variable; those that are not ours are ignored.
    pub env: Vec<(String, String)>,
    /// Flags, later ones win.
    pub flags: Vec<Override>,
}

/// One key set by a flag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Override {
    /// As shown to the user, for example `--node-id`.
    pub flag: String,
    /// Key, for example `node.id`.
    pub key: String,
    /// Value, written as in the environment.
    pub value: String,
}

/// A configuration that holds together, and where each value came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
    figment: Figment,
}

/// The process's environment, as `Sources` wants it. Variables that are not UTF-8 are left out.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads all sources and checks the result. Errors name every key that is wrong.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = &sources.file {
        // figment takes a missing file for an empty one.
        std::fs::metadata(path)
            .map_err(|error| Error::File { path: path.display().to_string(), error })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    for (name, value) in &sources.env {
        if let Some(key) = env_key(name) {
            figment = figment.merge(One::new(format!("environment {name}"), key, value));
        }
    }
    for set in &sources.flags {
        let origin = format!("flag {}", set.flag);
        figment = figment.merge(One::new(origin, set.key.clone(), &set.value));
    }
    let config: Config = figment
        .extract()
        .map_err(|errors| Error::Malformed(errors.into_iter().map(|e| explain(&e)).collect()))?;
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(Error::Invalid(problems));
    }
    let warnings = config.warnings();
    Ok(Loaded { config, warnings, figment })
}

impl Loaded {
    /// Where the value of `key` came from, in words.
    pub fn origin(&self, key: &str) -> String {
        match self.figment.find_metadata(key) {
            Some(metadata) => origin(metadata),
            None => "default".to_owned(),
        }
    }

    /// What holds and where each value came from: TOML that can be used as a configuration file.
    pub fn render(&self) -> String {
        super::print::render(&self.config, |key| self.origin(key))
    }
}

fn origin(metadata: &Metadata) -> String {
    match metadata.source.as_ref().and_then(|source| source.file_path()) {
        Some(path) => path.display().to_string(),
        None if metadata.name.starts_with("environment ") || metadata.name.starts_with("flag ") => {
            metadata.name.to_string()
        }
        None => "default".to_owned(),
    }
}

fn explain(error: &figment::Error) -> String {
    let key = error.path.join(".");
    let from = error.metadata.as_ref().map(origin).unwrap_or_default();
    match (key.is_empty(), from.is_empty()) {
        (false, false) => format!("{key}: {} (from {from})", error.kind),
        (false, true) => format!("{key}: {}", error.kind),
        (true, false) => format!("{} (from {from})", error.kind),
        (true, true) => error.kind.to_string(),
    }
}

/// `RAFTCACHE_NODE__ID` is `node.id`. A variable without a separator is not ours unless it is a
/// top-level key: Kubernetes sets `RAFTCACHE_PORT` and the like for a service named `raftcache`.
fn env_key(name: &str) -> Option<String> {
    let rest = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
    if rest.contains(ENV_SEPARATOR) || TOP_LEVEL_KEYS.contains(&rest.as_str()) {
        return Some(rest.replace(ENV_SEPARATOR, "."));
    }
    None
}

/// One key and value from the environment or a flag.
struct One {
    origin: String,
    key: String,
    value: Value,
}

impl One {
    fn new(origin: String, key: String, value: &str) -> Self {
        let value = match value.parse::<Value>() {
            Ok(value) => value,
            Err(never) => match never {},
        };
        One { origin, key, value }
    }
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        let dict = nested.into_dict().ok_or_else(|| {
            figment::Error::from(format!("`{}` is not the name of a key", self.key))
        })?;
        Ok(Profile::Default.collect(dict))
    }
}

/// Text that may look like a number in the environment (`RAFTCACHE_NODE__ZONE=1`).
pub(super) fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Number(i64),
        Bool(bool),
    }
    Ok(match Scalar::deserialize(input)? {
        Scalar::Text(text) => text,
        Scalar::Number(number) => number.to_string(),
        Scalar::Bool(bool) => bool.to_string(),
    })
}

/// A list, or (in the environment) text separated by commas.
pub(super) fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Items(Vec<String>),
        Text(String),
    }
    Ok(match List::deserialize(input)? {
        List::Items(items) => items,
        List::Text(text) => {
            text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
        }
    })
}
