//! Effort: how many lists to visit and how many entries to compare exactly for a wanted recall.
//!
//! Calibration measures a curve for a few values of `k`; between its points, and between those
//! values of `k`, effort is interpolated on logarithmic scales.

use knn_types::{CurvePoint, IvfOptions};
use serde::{Deserialize, Serialize};

/// Share of the true neighbours that may be missed where nobody asked for anything else.
const DEFAULT_ERROR: f32 = 0.05;

/// `num_candidates / k` against the error that is allowed: what HNSW reaches, or better.
const ERROR_BY_RATIO: [(f32, f32); 3] = [(1.5, DEFAULT_ERROR), (10.0, 0.01), (100.0, 0.001)];

/// At this error every list is visited: no calibration on a sample can promise so little.
const EVERYTHING: f32 = 0.000_1;

/// Standard errors that no estimate is wrong by, as good as: once in 300,000 entries.
pub(crate) const SURE: f32 = 4.5;

/// Share of the allowed error that is spent under a filter: calibrated queries lie among what they
/// look for, but what a filter allows may lie elsewhere, where the order of lists tells less.
const CORRELATION: f32 = 0.5;

/// What to do for one query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Effort {
    /// Lists to visit.
    pub(crate) nprobe: usize,
    /// Entries that will be compared by their full vectors, about.
    pub(crate) depth: usize,
    /// Standard errors that an estimate may be too large by before its entry is missed.
    pub(crate) slack: f32,
}

impl Effort {
    /// The most entries that one search compares by their full vectors.
    pub(crate) fn most_reads(&self) -> usize {
        self.depth.saturating_mul(4).saturating_add(64)
    }
}

/// One measured point of the curve from effort to recall.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Hits wanted.
    pub k: usize,
    /// Allowed error.
    pub error: f32,
    /// Lists to visit.
    pub nprobe: usize,
    /// Entries that are compared by their full vectors, about.
    pub depth: usize,
    /// Standard errors that an estimate may be too large by before its entry is missed.
    #[serde(default = "slack_of_old")]
    pub slack: f32,
    /// Recall that was measured with this effort (better than `1 - error`: there is a margin).
    pub recall: f32,
    /// Entries that a query scanned, in the mean. Older snapshots have none.
    #[serde(default)]
    pub scanned: Option<usize>,
    /// Microseconds that a query took on one thread, in the median. Older snapshots have none.
    #[serde(default)]
    pub microseconds: Option<f32>,
}

/// Snapshots of version 1 have none: what was never measured is chosen with care.
fn slack_of_old() -> f32 {
    3.0
}

/// Measured points by `k`, then by falling error; effort never falls along either.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve {
    pub(crate) points: Vec<Point>,
}

/// The error that a query of a field may make.
pub(crate) fn allowed_error(options: &IvfOptions, k: usize, num_candidates: usize) -> f32 {
    let ratio = num_candidates as f32 / k.max(1) as f32;
    // What the field asks for holds up to the default ratio; from there the line goes on.
    let by_field = options.recall.map_or(DEFAULT_ERROR, |recall| 1.0 - recall);
    let mut points = ERROR_BY_RATIO.map(|(ratio, error)| (ratio, error.min(by_field)));
    points[0].1 = by_field;
    let [(first, _), .., (last, least)] = points;
    if ratio <= first {
        return by_field;
    }
    if ratio >= last {
        return least * last / ratio;
    }
    let upper = points.iter().position(|point| ratio < point.0).expect("below the last");
    let ((r0, e0), (r1, e1)) = (points[upper - 1], points[upper]);
    between(ratio.ln(), (r0.ln(), e0.ln()), (r1.ln(), e1.ln())).exp()
}

impl Curve {
    /// Effort for a query; without points everything is visited.
    pub(crate) fn pick(&self, options: &IvfOptions, k: usize, num_candidates: usize, nlist: usize) -> Effort {
        let error = allowed_error(options, k, num_candidates);
        let effort = self.at(k, error, nlist);
        let Some(nprobe) = options.nprobe else { return effort };
        // A fixed number of lists is the lower limit; only num_candidates beyond the default raises it.
        let asked = (nprobe as usize).clamp(1, nlist);
        if error < DEFAULT_ERROR && effort.nprobe > asked { effort } else { self.for_nprobe(k, asked, nlist) }
    }

    /// Effort for a number of lists that somebody else chose.
    pub(crate) fn for_nprobe(&self, k: usize, nprobe: usize, nlist: usize) -> Effort {
        let nprobe = nprobe.clamp(1, nlist);
        let errors = self.points.iter().map(|point| point.error).chain([EVERYTHING]);
        let enough = errors.map(|error| self.at(k, error, nlist)).find(|effort| effort.nprobe >= nprobe);
        Effort { nprobe, ..enough.unwrap_or_else(|| self.at(k, EVERYTHING, nlist)) }
    }

    /// Lists to visit instead of `nprobe` where only such a share (`density`) of their entries counts: the
    /// `k` nearest of those lie among the `k / density` nearest of all.
    pub(crate) fn widened(
        &self,
        options: &IvfOptions,
        k: usize,
        num_candidates: usize,
        density: f32,
        nprobe: usize,
        nlist: usize,
    ) -> usize {
        let error = allowed_error(options, k, num_candidates);
        let farther = (k as f32 / density).ceil() as usize;
        let plain = self.at(k, error, nlist).nprobe;
        let wide = self.at(farther, error * CORRELATION, nlist).nprobe;
        (nprobe * wide).div_ceil(plain).clamp(nprobe, nlist)
    }

    /// What was measured for so many hits, for people to look at.
    pub(crate) fn measured_for(&self, k: usize) -> Vec<CurvePoint> {
        let shown = |point: &Point| CurvePoint {
            recall: point.recall,
            nprobe: point.nprobe,
            scanned: point.scanned,
            reranked: point.depth,
            microseconds: point.microseconds,
        };
        self.points.iter().filter(|point| point.k == k).map(shown).collect()
    }

    /// Measured recall@10 at the default effort.
    pub(crate) fn default_recall(&self) -> Option<f32> {
        self.points.iter().find(|point| point.error <= DEFAULT_ERROR).map(|point| point.recall)
    }

    fn at(&self, k: usize, error: f32, nlist: usize) -> Effort {
        let mut measured: Vec<usize> = self.points.iter().map(|point| point.k).collect();
        measured.dedup();
        let (Some(&first), Some(&last)) = (measured.first(), measured.last()) else {
            return Effort { nprobe: nlist, depth: 4 * k + 100, slack: SURE };
        };
        let (nprobe, depth, slack) = if k <= first {
            self.at_measured(first, error, nlist)
        } else if k >= last {
            let (nprobe, depth, slack) = self.at_measured(last, error, nlist);
            let times = k as f32 / last as f32;
            (nprobe * times.sqrt(), depth * times, slack)
        } else {
            let upper = measured.iter().position(|&at| k < at).expect("below the last");
            let (k0, k1) = (measured[upper - 1], measured[upper]);
            let (low, high) = (self.at_measured(k0, error, nlist), self.at_measured(k1, error, nlist));
            let along = |a: f32, b: f32| {
                between((k as f32).ln(), ((k0 as f32).ln(), a.ln()), ((k1 as f32).ln(), b.ln())).exp()
            };
            (along(low.0, high.0), along(low.1, high.1), low.2.max(high.2))
        };
        Effort {
            nprobe: (nprobe.round() as usize).clamp(1, nlist),
            depth: (depth.round() as usize).max(k),
            slack,
        }
    }

    fn at_measured(&self, k: usize, error: f32, nlist: usize) -> (f32, f32, f32) {
        let points: Vec<&Point> = self.points.iter().filter(|point| point.k == k).collect();
        let numbers = |point: &Point| (point.nprobe as f32, point.depth as f32, point.slack);
        let (first, last) = (points[0], points[points.len() - 1]);
        if error >= first.error {
            return numbers(first);
        }
        let (low, high) = match points.iter().position(|point| point.error <= error) {
            Some(upper) => (*points[upper - 1], *points[upper]),
            None => {
                let all = Point {
                    error: EVERYTHING,
                    nprobe: nlist,
                    depth: (last.depth * 4).max(20 * k + 1_000),
                    slack: SURE.max(last.slack),
                    ..*last
                };
                return numbers(&interpolate(last, &all, error.max(EVERYTHING)));
            }
        };
        numbers(&interpolate(&low, &high, error))
    }
}

/// The point of `error` between two measured ones.
fn interpolate(low: &Point, high: &Point, error: f32) -> Point {
    let along = |a: usize, b: usize| {
        let (a, b) = ((a as f32).ln(), (b as f32).ln());
        between(error.ln(), (low.error.ln(), a), (high.error.ln(), b)).exp().round() as usize
    };
    let slack = between(error.ln(), (low.error.ln(), low.slack), (high.error.ln(), high.slack));
    Point {
        error,
        nprobe: along(low.nprobe, high.nprobe),
        depth: along(low.depth, high.depth),
        slack,
        ..*low
    }
}

/// The height at `x` on the line through two points.
fn between(x: f32, low: (f32, f32), high: (f32, f32)) -> f32 {
    if high.0 == low.0 { high.1 } else { low.1 + (high.1 - low.1) * (x - low.0) / (high.0 - low.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        let point = |k, error, nprobe, depth| Point {
            k,
            error,
            nprobe,
            depth,
            slack: 2.0,
            recall: 0.97,
            scanned: None,
            microseconds: None,
        };
        Curve {
            points: vec![
                point(10, 0.2, 10, 30),
                point(10, 0.05, 40, 50),
                point(10, 0.01, 90, 90),
                point(10, 0.001, 200, 150),
                point(100, 0.2, 20, 150),
                point(100, 0.05, 60, 250),
                point(100, 0.01, 130, 400),
                point(100, 0.001, 300, 600),
            ],
        }
    }

    #[test]
    fn effort_grows_with_num_candidates_up_to_all_lists() {
        let curve = curve();
        for options in [IvfOptions::default(), IvfOptions { nprobe: Some(24), ..Default::default() }] {
            for k in [1, 10, 25, 100, 300, 1_000] {
                let mut before = Effort { nprobe: 0, depth: 0, slack: 0.0 };
                for num_candidates in (k..=10_000).step_by(37).chain([10_000]) {
                    let effort = curve.pick(&options, k, num_candidates, 1_000);
                    assert!(
                        effort.nprobe >= before.nprobe
                            && effort.depth >= before.depth
                            && effort.slack >= before.slack,
                        "{k} {num_candidates}"
                    );
                    assert!(effort.depth >= k && effort.nprobe <= 1_000);
                    before = effort;
                }
                if k <= 10 {
                    assert_eq!(before.nprobe, 1_000, "{k}");
                }
            }
        }
    }

    #[test]
    fn defaults_and_options_pick_their_points() {
        let (curve, plain) = (curve(), IvfOptions::default());
        assert_eq!(curve.pick(&plain, 10, 15, 1_000), Effort { nprobe: 40, depth: 50, slack: 2.0 });
        assert_eq!(curve.pick(&plain, 10, 100, 1_000), Effort { nprobe: 90, depth: 90, slack: 2.0 });
        let recall = IvfOptions { recall: Some(0.99), ..plain };
        assert_eq!(curve.pick(&recall, 10, 15, 1_000).nprobe, 90);
        let low = IvfOptions { recall: Some(0.8), ..plain };
        assert_eq!(curve.pick(&low, 10, 15, 1_000).nprobe, 10, "the field may ask for less than the default");
        assert_eq!(curve.pick(&low, 10, 100, 1_000).nprobe, 90, "and a request for more");
        let nprobe = IvfOptions { nprobe: Some(24), ..plain };
        assert_eq!(curve.pick(&nprobe, 10, 15, 1_000).nprobe, 24);
        assert_eq!(curve.pick(&nprobe, 10, 100, 1_000).nprobe, 90);
        assert_eq!(Curve::default().pick(&plain, 10, 15, 77).nprobe, 77, "nothing measured: everything");
        assert_eq!(curve.for_nprobe(10, 5_000, 1_000).nprobe, 1_000);
    }
}
