//! What `resumetry top` is to show, and how often.

use std::time::Duration;

use super::values::Color;
use super::{
    CaptureConfig, ConfigError, DEFAULT_KEY_MAX_AGE, SOMEBODY_LOOKS, capture, duration_or,
    quota_target,
};
use crate::cli::{CaptureSettings, TopSettings};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Nobody reads faster, and a slow line carries no more.
pub(super) const LEAST_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopConfig {
    pub capture: CaptureConfig,
    /// Between two looks at the figures.
    pub interval: Duration,
    /// Per cent, 1 to 99.
    pub quota_target: u8,
    pub key_max_age: Duration,
    pub color: Color,
}

impl TopConfig {
    pub(super) fn new(
        capture_settings: CaptureSettings,
        settings: TopSettings,
    ) -> Result<Self, ConfigError> {
        let interval = duration_or(settings.interval, DEFAULT_INTERVAL);
        if interval < LEAST_INTERVAL {
            return Err(ConfigError::Interval(interval));
        }
        Ok(Self {
            capture: capture(capture_settings, SOMEBODY_LOOKS)?,
            interval,
            quota_target: quota_target(settings.quota_target)?,
            key_max_age: duration_or(settings.key_max_age, DEFAULT_KEY_MAX_AGE),
            color: settings.color.unwrap_or_default(),
        })
    }
}
