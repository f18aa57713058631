//! The real thing: a redis-server of its own for each test.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{Client, words};
use crate::ports::free_ports;

/// A redis-server on loopback without persistence, killed when it is dropped.
pub struct Redis {
    child: Child,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Redis {
    /// Starts one; `None`, loudly, where there is no redis-server 7.0.
    pub async fn start() -> Option<Redis> {
        let version = Command::new("redis-server").arg("--version").output();
        let version = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        let version = version.unwrap_or_else(|error| error.to_string());
        if !version.contains("v=7.0.") {
            eprintln!("\n*** SKIPPED: this test needs redis-server 7.0, found: {version} ***\n");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1, 1)[0];
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--databases", "1", "--hz", "100"])
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut redis = Redis { child, port, _dir: dir };
        for _ in 0..500 {
            if let Ok(mut client) = Client::connect(port).await {
                client.ask(&words("PING")).await;
                return Some(redis);
            }
            assert_eq!(redis.child.try_wait().unwrap(), None, "redis-server ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server does not listen on {port}")
    }
}
