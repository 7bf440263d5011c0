//! The processor time that this client has used, so that a run can show it was not the bottleneck.

/// Seconds on a processor so far. All work happens on the main thread, which this file of the kernel
/// counts in nanoseconds.
pub(crate) fn seconds_used() -> f64 {
    std::fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |nanoseconds| nanoseconds / 1e9)
}
