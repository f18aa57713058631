//! Ports for the servers of a test.

use std::net::TcpListener;

/// A run of `count` ports nobody listens on, `step` apart. Below the range from which the system
/// takes ports of outgoing connections, so that none of those gets in the way later.
pub fn free_ports(count: usize, step: u16) -> Vec<u16> {
    for _ in 0..1_000 {
        let first = 10_240 + rand::random::<u16>() % 20_000;
        let ports: Vec<u16> =
            (0..count).map(|i| first + step * u16::try_from(i).unwrap()).collect();
        let held: Vec<_> =
            ports.iter().map_while(|port| TcpListener::bind(("127.0.0.1", *port)).ok()).collect();
        if held.len() == count {
            return ports;
        }
    }
    panic!("no {count} free ports");
}
