//! The run: worlds, their changes, requests between them, several in flight; what it counts, and what it says of a
//! difference.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;

use super::draw::Draw;
use super::endpoints::{ENDPOINTS, some_search};
use super::extras::{EXTRAS, add};
use super::format::{Format, method};
use super::pair::{Pair, Sides};
use super::parameters::PARAMETERS;
use super::request::{Answer, Around, Body, Request};
use super::world::World;
use super::{Since, compare, shrink, wrong};
use crate::{Api, Elasticsearch, Outrigger};

const IN_FLIGHT: usize = 4;
/// Times that a world changes.
const ROUNDS: usize = 4;
const REQUESTS_A_ROUND: usize = 80;

/// What to play.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of everything.
    pub seed: u64,
    /// Requests to make.
    pub requests: usize,
    /// Worlds before this one are left out: plays a failure again.
    pub first_world: u64,
    /// Ends after so many differences.
    pub differences: usize,
}

/// What was played.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests made.
    pub requests: usize,
    /// How often each way was taken, with its reason.
    pub ways: BTreeMap<String, usize>,
    /// The same without reasons, for each row of the tables that requests were made of.
    pub shapes: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// Requests that Elasticsearch itself answered in two ways.
    pub unsteady: usize,
    /// Requests that passed, and that Elasticsearch answered by the estimates of the type that our field has there.
    pub estimated: usize,
    /// Requests that counted few hits, where Elasticsearch then skipped some that belong to the best.
    pub skipped: usize,
    /// What differed, made as small as could be, for people.
    pub differences: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Requests that went this way.
    pub fn went(&self, way: &str) -> usize {
        self.ways.iter().filter(|(name, _)| name.starts_with(way)).map(|(_, count)| count).sum()
    }
}

/// Plays.
pub async fn play(outrigger: &Outrigger, direct: Api, options: &Options) -> Report {
    let sides = Sides { outrigger, through: outrigger.api(), direct };
    let started = Instant::now();
    let mut report = Report::default();
    let mut number = options.first_world;
    while report.requests < options.requests && report.differences.len() < options.differences {
        let mut world = World::new(options.seed, number);
        let pair = Pair::make(&sides, &number.to_string(), &world).await;
        for round in 0..ROUNDS {
            let changes = world.changes();
            pair.change(&changes).await;
            if round == 0 {
                pair.learnt().await;
            }
            let first = (round * REQUESTS_A_ROUND) as u64;
            ask(&pair, &world, options, first, &mut report).await;
            report.took = started.elapsed();
        }
        pair.drop().await;
        number += 1;
    }
    report
}

async fn ask(pair: &Pair<'_>, world: &World, options: &Options, first: u64, report: &mut Report) {
    let (seed, limit) = (options.seed, options.differences);
    let requests = (first..first + REQUESTS_A_ROUND as u64).map(|number| {
        let request = drawn(&mut Draw::new(seed, number, world));
        async move { (number, exchange(pair, &request).await, request) }
    });
    let mut different = Vec::new();
    let mut answered = stream::iter(requests).buffer_unordered(IN_FLIGHT);
    while let Some((number, exchange, request)) = answered.next().await {
        report.requests += 1;
        for name in &request.made_of {
            let way = exchange.way.split(';').next().unwrap_or_default().to_owned();
            *report.shapes.entry(name).or_default().entry(way).or_default() += 1;
        }
        *report.ways.entry(exchange.way).or_default() += 1;
        let Some(difference) = exchange.difference else { continue };
        match exchange.excuse {
            Some(Excuse::Unsteady) => report.unsteady += 1,
            Some(Excuse::Estimated) => report.estimated += 1,
            Some(Excuse::Skipped) => report.skipped += 1,
            None => different.push((number, difference, request)),
        }
    }
    for (number, difference, request) in different {
        eprintln!("world {}, request {number}, {:?}: {difference}", world.number, request.made_of);
        // Where many differences are wanted, each is made small at a small price.
        let fewer_documents = limit == 1;
        let small = shrink::smallest(pair, world, request, fewer_documents).await;
        report.differences.push(format!(
            "seed {seed}, world {}, request {number}: {difference}\n{small}\nplay it again: scripts/fuzz search --seed {seed} --world {} --requests 1 --version {}",
            world.number,
            world.number,
            Elasticsearch::version(),
        ));
        if report.differences.len() >= limit {
            return;
        }
    }
}

/// What came of one request.
pub(super) struct Exchange {
    pub(super) way: String,
    pub(super) difference: Option<String>,
    pub(super) excuse: Option<Excuse>,
}

/// Why a difference is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// Elasticsearch answers this in two ways itself, one of which is ours.
    Unsteady,
    /// It passed, and Elasticsearch says the same of our index when it is asked directly: the fields have a
    /// quantised type there, which may miss one of the nearest where few are wanted.
    Estimated,
    /// Once it has counted enough hits, Elasticsearch skips documents that cannot be among the best. Where a knn
    /// query with `similarity` and `boost` is rescored it bounds their scores too low and loses some; all are
    /// there when all are counted.
    Skipped,
}

impl Exchange {
    /// A difference that is ours.
    pub(super) fn fault(self) -> Option<String> {
        self.difference.filter(|_| self.excuse.is_none())
    }
}

/// Asks both sides, and compares.
pub(super) async fn exchange(pair: &Pair<'_>, request: &Request) -> Exchange {
    let (ours, theirs) = tokio::join!(
        request.ask(&pair.sides.through, &pair.ours),
        request.ask(&pair.sides.direct, &pair.twin)
    );
    let (ours, theirs) = match (ours, theirs) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        // A connection that closes on both sides is an answer too.
        (None, None) => return Exchange { way: "none".to_owned(), difference: None, excuse: None },
        (ours, _) => {
            let who = if ours.is_none() { "we" } else { "Elasticsearch" };
            let difference = Some(format!("{who} gave no response"));
            return Exchange { way: "none".to_owned(), difference, excuse: None };
        }
    };
    let way = ours[0].way.clone();
    let differ = |theirs: &[Answer]| compare::difference((&ours, &pair.ours), (theirs, &pair.twin));
    let Some(difference) = differ(&theirs) else {
        return Exchange { way, difference: None, excuse: None };
    };
    let again = request.ask(&pair.sides.direct, &pair.twin).await;
    let mut excuse = again.filter(|again| differ(again).is_none()).map(|_| Excuse::Unsteady);
    let both_succeeded = ours.iter().chain(&theirs).all(|answer| answer.status == 200);
    if excuse.is_none() && both_succeeded && way.starts_with("pass") && exists((8, 19)) {
        let passed = request.ask(&pair.sides.direct, &pair.ours).await;
        let same = passed
            .is_some_and(|passed| compare::difference((&ours, &pair.ours), (&passed, &pair.ours)).is_none());
        excuse = same.then_some(Excuse::Estimated);
    }
    if excuse.is_none() && both_succeeded && exists((8, 19)) && all_counted_agree(pair, request).await {
        excuse = Some(Excuse::Skipped);
    }
    Exchange { way, difference: Some(difference), excuse }
}

/// Whether a request that wants few hits counted gets equal answers when all are to be counted.
async fn all_counted_agree(pair: &Pair<'_>, request: &Request) -> bool {
    let mut counted = request.clone();
    counted.parameters.retain(|(name, _)| name != "track_total_hits");
    if let Some(body) = counted.object() {
        body["track_total_hits"] = true.into();
    }
    let is_another = counted.parameters.len() < request.parameters.len()
        || matches!(&request.body, Body::Json(body) if body.get("track_total_hits").is_some_and(|few| few != true));
    if !is_another {
        return false;
    }
    let ours = counted.ask(&pair.sides.through, &pair.ours).await;
    let theirs = counted.ask(&pair.sides.direct, &pair.twin).await;
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return false };
    compare::difference((&ours, &pair.ours), (&theirs, &pair.twin)).is_none()
}

fn exists(since: Since) -> bool {
    Elasticsearch::version_at_least(since.0, since.1)
}

/// Request of any kind.
fn drawn(draw: &mut Draw<'_>) -> Request {
    match draw.below(20) {
        0 => return wrong::wrong_knn(draw),
        1 => return wrong::wrong_body(draw),
        2 => return wrong::wrong_text(draw),
        3 | 4 => {
            let endpoints: Vec<_> = ENDPOINTS
                .iter()
                .filter(|endpoint| exists(endpoint.since) && !exists(endpoint.until))
                .collect();
            let endpoint = draw.pick(&endpoints);
            let mut request = (endpoint.draw)(draw);
            request.made_of.push(endpoint.name);
            return request;
        }
        _ => {}
    }
    let mut request = some_search(draw);
    if request.alone {
        return request;
    }
    let extras: Vec<_> = EXTRAS.iter().filter(|extra| exists(extra.since)).collect();
    for _ in 0..draw.pick(&[0, 0, 1, 1, 1, 2, 2, 3, 4]) {
        let extra = draw.pick(&extras);
        add(extra, draw, &mut request);
    }
    if request.around == Around::Nothing {
        let parameters: Vec<_> = PARAMETERS.iter().filter(|parameter| exists(parameter.since)).collect();
        for _ in 0..draw.pick(&[0, 0, 0, 1, 1, 2]) {
            let parameter = draw.pick(&parameters);
            let repeated = request.parameters.iter().any(|(name, _)| name == parameter.name);
            if !(repeated || request.size_is_fixed && matches!(parameter.name, "size" | "from")) {
                let value = draw.pick(parameter.values);
                request = request.with(parameter.name, value);
            }
        }
    }
    if draw.chance(0.25) && matches!(request.body, Body::Json(_)) {
        request.format = draw.pick(&Format::ALL).1;
        request.method = method(request.format);
    }
    request
}
