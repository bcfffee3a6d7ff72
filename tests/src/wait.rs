//! Waiting for conditions instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// Asks every 20 ms until `condition` holds; false after `timeout`.
pub fn until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
