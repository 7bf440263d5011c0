//! What must hold at any moment, watched while a history goes on: no hit is newer than what
//! Elasticsearch shows, no view is older than the one before, and what was written together is seen
//! together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::answer::{ALL, Answer, Key, ask, truth};
use super::document::{FIELDS, VERSION};
use super::indices::{INDICES, PAIRS};
use super::shared::Shared;
use super::step::PAIRS_OF_DOCUMENTS;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(120);

/// What a sidecar showed of a document last.
struct Last {
    order: (u64, u64),
    /// It was not found later on.
    gone: bool,
}

/// Watches one sidecar until the task is ended.
pub(super) async fn watch(shared: Arc<Shared>, sidecar: usize) {
    let mut memory: Vec<(Option<u64>, HashMap<Key, Last>)> =
        INDICES.iter().map(|_| (None, HashMap::new())).collect();
    loop {
        for (index, (era, last)) in memory.iter_mut().enumerate() {
            let now = shared.era(index);
            if *era != now {
                (*era, *last) = (now, HashMap::new());
            }
            if now.is_some() {
                round(&shared, sidecar, index, last).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks Elasticsearch, the sidecar, and Elasticsearch again.
async fn round(shared: &Shared, sidecar: usize, index: usize, last: &mut HashMap<Key, Last>) {
    let Some(api) = shared.sidecar(sidecar) else { return };
    let field = FIELDS.iter().position(|(name, ..)| *name == VERSION).expect("there is one");
    let (name, query, era) = (INDICES[index].name, [1.0, 0.0], shared.era(index));
    let Ok(before) = truth(shared, index, field, &query).await else { return };
    let Ok(ours) = ask(&api, name, field, &query, ALL).await else { return };
    let Ok(after) = truth(shared, index, field, &query).await else { return };
    if era.is_none() || shared.era(index) != era || !ours.own {
        return;
    }
    shared.watched.fetch_add(1, Ordering::Relaxed);
    let place = format!("sidecar {sidecar}, {name}");
    for what in
        newer_than_shown(shared, index, &ours, &after).into_iter().chain(older_than_before(&ours, last))
    {
        shared.violated(format!("{place}: {what}"));
    }
    if index == PAIRS {
        for what in torn(&before, &ours, &after) {
            shared.violated(format!("{place}: {what}"));
        }
    }
}

fn newer_than_shown(shared: &Shared, index: usize, ours: &Answer, after: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    for (key, hit) in &ours.hits {
        match after.hits.get(key) {
            Some(shown) if shown.order < hit.order => {
                found.push(format!("{key:?} {hit:?} is newer than what Elasticsearch shows: {shown:?}"));
            }
            Some(shown) if shown.order == hit.order && Answer::number(shown) != Answer::number(hit) => {
                found.push(format!("{key:?} {hit:?} has another vector than Elasticsearch: {shown:?}"));
            }
            Some(_) => {}
            // Bursts write beside the history, so the order of their attempts is not that of their effects.
            None if key.0.starts_with('b') => {}
            None if !shared.may_be_gone(index, &key.0, key.1.as_deref(), Answer::number(hit)) => {
                found.push(format!(
                    "{key:?} {hit:?} is found, Elasticsearch does not show it, and nothing removed it"
                ));
            }
            None => {}
        }
    }
    found
}

fn older_than_before(ours: &Answer, last: &mut HashMap<Key, Last>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, hit) in &ours.hits {
        match last.get(key) {
            Some(before) if hit.order < before.order => {
                found.push(format!("{key:?} was shown with the order {:?} and now as {hit:?}", before.order));
            }
            Some(before) if before.gone && hit.order == before.order => {
                found.push(format!("{key:?} was gone and is shown again as {hit:?}"));
            }
            _ => {}
        }
        last.insert(key.clone(), Last { order: hit.order, gone: false });
    }
    for (_, before) in last.iter_mut().filter(|(key, _)| !ours.hits.contains_key(*key)) {
        before.gone = true;
    }
    found
}

/// Pairs of which Elasticsearch showed both or none, before and after, and we one.
fn torn(before: &Answer, ours: &Answer, after: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    for number in 0..PAIRS_OF_DOCUMENTS {
        let [a, b] = pair(number);
        let number_of =
            |answer: &Answer, id: &str| answer.hits.get(&(id.to_owned(), None)).map(Answer::number);
        let whole = |answer: &Answer| number_of(answer, &a) == number_of(answer, &b);
        if whole(before) && whole(after) && !whole(ours) {
            let (ours_a, ours_b) = (number_of(ours, &a), number_of(ours, &b));
            found.push(format!(
                "a torn epoch: {a} as write {ours_a:?} and {b} as {ours_b:?}; Elasticsearch showed both as {:?} and then as {:?}",
                number_of(before, &a),
                number_of(after, &a)
            ));
        }
    }
    found
}

/// Ids of a pair.
pub(super) fn pair(number: u32) -> [String; 2] {
    [format!("p{number}-a"), format!("p{number}-b")]
}
