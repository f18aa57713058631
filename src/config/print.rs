//! `--print-config`: what holds, and where each value came from.

use figment::value::{Dict, Num, Value};

use super::Config;

/// TOML with a trailing comment on each line. Reading it back gives the same configuration.
pub(super) fn render(config: &Config, origin: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let (sectioned, top): (Vec<_>, Vec<_>) =
        config.keys().into_iter().partition(|(path, _)| path.contains('.'));
    for (path, value) in top {
        out.push_str(&line(&path, &value, &origin(&path)));
    }
    let mut current = "";
    for (path, value) in &sectioned {
        let (section, key) = path.split_once('.').expect("partitioned by the dot");
        if section != current {
            out.push_str(&format!("\n[{section}]\n"));
            current = section;
        }
        out.push_str(&line(key, value, &origin(path)));
    }
    out
}

fn line(key: &str, value: &str, origin: &str) -> String {
    let setting = format!("{key} = {value}");
    format!("{setting:<40} # from {origin}\n")
}

impl Config {
    /// Every key with its value as TOML, sorted: `("node.id", "0")`.
    pub fn keys(&self) -> Vec<(String, String)> {
        fn walk(prefix: &str, dict: &Dict, out: &mut Vec<(String, String)>) {
            for (key, value) in dict {
                match value.as_dict() {
                    Some(dict) => walk(&format!("{prefix}{key}."), dict, out),
                    None => out.push((format!("{prefix}{key}"), toml(value))),
                }
            }
        }
        let value = Value::serialize(self).expect("a configuration is plain data");
        let mut out = Vec::new();
        walk("", value.as_dict().expect("a configuration is a struct"), &mut out);
        out
    }
}

fn toml(value: &Value) -> String {
    match value {
        Value::String(_, text) => quote(text),
        Value::Char(_, char) => quote(&char.to_string()),
        Value::Bool(_, bool) => bool.to_string(),
        Value::Num(_, number) => num(*number),
        Value::Array(_, items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Dict(..) | Value::Empty(..) => {
            unreachable!("a key of the configuration is a scalar or a list, never {value:?}")
        }
    }
}

fn num(number: Num) -> String {
    match (number.to_u128(), number.to_i128(), number.to_f64()) {
        (Some(n), _, _) => n.to_string(),
        (_, Some(n), _) => n.to_string(),
        (_, _, Some(n)) => n.to_string(),
        (None, None, None) => unreachable!("a number is of one of the three kinds"),
    }
}

/// A basic string of TOML: <https://toml.io/en/v1.0.0#string>.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
