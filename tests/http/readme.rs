//! The curl commands of README.md, taken from it: they stand between `<!-- curl -->` and the end of
//! the block that follows.

use std::process::Command;

/// The commands, one a line, with what the README says they print.
pub fn commands() -> Vec<(String, Option<String>)> {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let block = readme.split("<!-- curl -->").nth(1).expect("the README has the commands");
    let block = block.split("```").nth(1).unwrap();
    let mut commands: Vec<(String, Option<String>)> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# -> ") {
            Some(answer) => commands.last_mut().unwrap().1 = Some(answer.to_owned()),
            None => commands.push((line.to_owned(), None)),
        }
    }
    commands
}

/// Runs them, as printed but for the address; false if there is no curl.
pub async fn run(addr: &str) -> bool {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no curl on this machine");
        return false;
    }
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for (command, expected) in commands {
        let here = command.replace("localhost:8000", addr);
        assert_ne!(here, command, "{command} goes through the proxy");
        let output = tokio::process::Command::new("sh").args(["-c", &here]).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("{command}\n{text}");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        if let Some(expected) = expected {
            assert!(same(&expected, &text), "{command}: {text} is not {expected}");
        }
    }
    true
}

/// Each `N` of what is expected stands for a number, `...` for the rest.
fn same(expected: &str, text: &str) -> bool {
    let (mut expected, mut text) = (expected.chars().peekable(), text.chars().peekable());
    loop {
        match (expected.next(), text.peek()) {
            (None, None) | (Some('.'), _) if expected.peek().is_none_or(|c| *c == '.') => {
                return true;
            }
            (Some('N'), Some(digit)) if digit.is_ascii_digit() => {
                while text.next_if(|c| c.is_ascii_digit() || *c == '.').is_some() {}
            }
            (Some(a), Some(b)) if a == *b => {
                text.next();
            }
            _ => return false,
        }
    }
}

#[test]
fn what_is_expected_has_numbers_and_a_rest() {
    assert!(same("{\"v\":N}", "{\"v\":12.5}") && same("a...", "abc") && same("abc", "abc"));
    assert!(!same("{\"v\":N}", "{\"v\":x}") && !same("abc", "abd") && !same("ab", "abc"));
}
