//! `cargo xtask fleet` in short: three nodes, Prometheus and Alertmanager; a rotation done right alarms
//! nobody, and one that a node misses alarms for that node.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;

use resumetry_tests::undisturbed;

#[test]
fn node_without_the_new_key_is_noticed_and_a_right_rotation_is_not() {
    // Hours are minutes here: where the machine stands still for seconds, they are missing.
    undisturbed::within(2, || {
        let output = Command::new(env!("CARGO_BIN_EXE_fleet"))
            .arg("--short")
            .output()
            .unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}
