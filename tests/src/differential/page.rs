//! The page of shapes, `es-proxy/SHAPES.md`: which way each row of the tables takes in each version. A run produces
//! the column of its version; a test compares it with the page, and writes it where it is asked to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Since;
use super::draw::Draw;
use super::endpoints::ENDPOINTS;
use super::extras::{EXTRAS, add};
use super::format::{Format, method};
use super::pair::{Pair, Sides};
use super::play::exchange;
use super::request::Request;
use super::shapes::{SHAPES, search};
use super::world::{WIDE, World};
use crate::{Api, Elasticsearch, Outrigger};

const VERSIONS: [&str; 4] = ["8.10.4", "8.15.3", "8.19.0", "9.2.0"];
const SEED: u64 = 5;
/// Requests of each row.
const DRAWS: u64 = 24;
/// Times that a request is asked whose filter is being fetched.
const PATIENCE: usize = 300;

const HEAD: &str = "\
# Shapes of searches

Which way a search takes, by where its knn stands and by what stands beside it: *answer* (from our index alone), *fetch* (documents from Elasticsearch, hits ours), *splice*
(our hits go into the client's own knn, Elasticsearch does the rest), *pass* (untouched). Several ways in one cell: it depends on details of the request, such as a filter
that is not understood. A document that was fetched before and is kept counts as *fetch*; a filter that was seen for the first time is asked again.

This page is generated: `scripts/fuzz shapes --write`. Every row is asked in every version through us and of a twin with a graph by `tests/tests/differential.rs`, which also fails where this
page is not what it sees; whole searches are then mixed of all rows at random, with parameters in the URL and wrong input of all kinds ([how](../tests/README.md#the-differential-test)).
";

/// One column of the page.
#[derive(Debug)]
pub struct Page {
    /// Title of the part, name of the row, since when it exists, and its cell.
    rows: Vec<(&'static str, &'static str, Since, String)>,
    /// Where an answer was not that of the twin.
    pub differences: Vec<String>,
}

/// Asks every row of the tables in the version at hand.
pub async fn page_of_this_version(outrigger: &Outrigger, direct: Api) -> Page {
    let sides = Sides { outrigger, through: outrigger.api(), direct };
    // World 1 of the seed has many documents; the fields differ by version alone.
    let mut world = World::new(SEED, 1);
    let pair = Pair::make(&sides, "page", &world).await;
    let changes = world.changes();
    pair.change(&changes).await;
    pair.learnt().await;
    let mut page = Page { rows: Vec::new(), differences: Vec::new() };
    for shape in SHAPES {
        page.row(&pair, &world, ("Where the knn stands", shape.name, shape.since), shape.draw).await;
    }
    for extra in EXTRAS {
        let drawn = |draw: &mut Draw<'_>| {
            let mut request = search("knn", plain(draw));
            add(extra, draw, &mut request);
            request
        };
        page.row(&pair, &world, ("Beside a top-level `knn`", extra.name, extra.since), drawn).await;
    }
    for endpoint in ENDPOINTS {
        let title = "Endpoints, targets, several requests";
        page.row(&pair, &world, (title, endpoint.name, endpoint.since), endpoint.draw).await;
    }
    for (name, format) in Format::ALL {
        let drawn =
            |draw: &mut Draw<'_>| Request { format, method: method(format), ..search("knn", plain(draw)) };
        page.row(&pair, &world, ("How a top-level `knn` travels", name, (8, 4)), drawn).await;
    }
    pair.drop().await;
    page
}

/// A knn as most applications send it.
fn plain(draw: &mut Draw<'_>) -> serde_json::Value {
    let field = &draw.world.fields[0];
    let vector = field.vector(&mut draw.random);
    json!({"field": field.name, "query_vector": vector, "k": 10, "num_candidates": WIDE})
}

impl Page {
    async fn row(
        &mut self,
        pair: &Pair<'_>,
        world: &World,
        (title, name, since): (&'static str, &'static str, Since),
        drawn: impl Fn(&mut Draw<'_>) -> Request,
    ) {
        let until = ENDPOINTS.iter().find(|endpoint| endpoint.name == name).map_or((99, 0), |e| e.until);
        let exists = |(major, minor): Since| Elasticsearch::version_at_least(major, minor);
        if !exists(since) || exists(until) {
            self.rows.push((title, name, since, "–".to_owned()));
            return;
        }
        let mut ways = BTreeSet::new();
        for number in 0..DRAWS {
            let request = drawn(&mut Draw { plain: true, ..Draw::new(SEED, number, world) });
            ways.insert(self.way(pair, name, &request).await);
        }
        let ways: Vec<String> = ways.into_iter().collect();
        self.rows.push((title, name, since, ways.join(", ")));
    }

    async fn way(&mut self, pair: &Pair<'_>, name: &str, request: &Request) -> String {
        for _ in 0..PATIENCE {
            let exchange = exchange(pair, request).await;
            let way = exchange.way.clone();
            if let Some(difference) = exchange.fault() {
                self.differences.push(format!("{name}: {difference}\n{}", request.curl(&pair.ours)));
            }
            if way.contains("documents_kept") {
                return "fetch".to_owned();
            }
            if !way.contains("filter_unknown") {
                return way.split(';').next().unwrap_or_default().to_owned();
            }
            // Being fetched because of this question; each new one is a look at whether it has come.
            tokio::task::yield_now().await;
        }
        "pass".to_owned()
    }

    /// What the page says now, with this column in it.
    fn renewed(&self, old: &str) -> String {
        let column = VERSIONS.iter().position(|version| *version == Elasticsearch::version());
        let mut text = HEAD.to_owned();
        let mut title = "";
        for (of, name, since, cell) in &self.rows {
            if *of != title {
                title = of;
                write!(
                    text,
                    "\n## {title}\n\n| shape | since | {} |\n| --- | --- | --- | --- | --- | --- |\n",
                    VERSIONS.join(" | ")
                )
                .expect("a string takes it");
            }
            let start = format!("| {name} | {}.{} |", since.0, since.1);
            let mut cells: Vec<String> = old
                .lines()
                .find_map(|line| line.strip_prefix(&start))
                .map(|cells| {
                    cells.split('|').take(VERSIONS.len()).map(|cell| cell.trim().to_owned()).collect()
                })
                .unwrap_or_else(|| vec![String::new(); VERSIONS.len()]);
            if let Some(column) = column {
                cells[column].clone_from(cell);
            }
            writeln!(text, "{start} {} |", cells.join(" | ")).expect("a string takes it");
        }
        text
    }

    /// Lines of the page that are not what was seen; the page is written anew where `write`.
    pub fn stale_lines(&self, write: bool) -> Vec<String> {
        let path = path();
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let new = self.renewed(&old);
        if write {
            std::fs::write(&path, &new).expect("the page can be written");
            return Vec::new();
        }
        let held: BTreeSet<&str> = old.lines().collect();
        let missing = new.lines().filter(|line| !held.contains(line)).map(|line| format!("+ {line}"));
        let wanted: BTreeSet<&str> = new.lines().collect();
        let surplus = old.lines().filter(|line| !wanted.contains(line)).map(|line| format!("- {line}"));
        missing.chain(surplus).collect()
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../es-proxy/SHAPES.md")
}
