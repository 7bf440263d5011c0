//! How long a client will wait, where it says so: `x-outrigger-timeout: 500ms`. When that time is over all work
//! for the request ends: it leaves every queue, and Elasticsearch, whose connection closes, cancels its part.
//!
//! This is about the head of the response. `timeout` among a search's own parameters is another thing: it is
//! Elasticsearch's, bounds what each shard does, and gives hits found so far.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::proxy::Reply;
use crate::respond;
use crate::telemetry::Served;
use crate::units::Time;
use crate::upstream::TIMEOUT;

/// The time that a request may take; the error says what is wrong with what its head says.
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let mut values = headers.get_all(&TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let text = text.ok_or_else(|| format!("[{TIMEOUT}] must be one time, such as 500ms"))?;
    let Time(patience) = text.trim().parse().map_err(|error| format!("[{TIMEOUT}] {error}"))?;
    if patience.is_zero() {
        return Err(format!("[{TIMEOUT}] must be longer than 0"));
    }
    Ok(Some(patience))
}

/// The response where the time is over. Official clients retry it.
pub(crate) fn passed(opaque_id: &HeaderMap, patience: Duration) -> Reply {
    let reason = format!("the request took longer than [{}], as [{TIMEOUT}] allows", Time(patience));
    let response = respond::error(opaque_id, StatusCode::GATEWAY_TIMEOUT, "timeout_exception", &reason);
    (response, Served::new("fail", "deadline"))
}

/// The response where the header cannot be read.
pub(crate) fn refuse(headers: &HeaderMap, wrong: &str) -> Reply {
    let response = respond::error(headers, StatusCode::BAD_REQUEST, "illegal_argument_exception", wrong);
    (response, Served::new("refuse", "bad_timeout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_is_understood() {
        let read = |values: &[&str]| {
            let headers = values.iter().map(|value| (TIMEOUT, value.parse().unwrap()));
            of(&headers.collect::<Vec<_>>().into_iter().fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            }))
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["500ms"]), Ok(Some(Duration::from_millis(500))));
        for wrong in [&["0"][..], &["5"], &[""], &["1s", "2s"]] {
            read(wrong).unwrap_err();
        }
    }
}
