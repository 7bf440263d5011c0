//! The state machine, step by step.

use super::*;

fn primary(node: &str, refreshes: u64, checkpoint: i64) -> Primary {
    Primary {
        node: node.into(),
        refreshes,
        max_seq_no: checkpoint,
        global_checkpoint: checkpoint,
        history_uuid: "h".into(),
    }
}

fn published(state: &mut State) -> bool {
    let plan = state.plan().unwrap();
    state.pulled(&plan, true, Instant::now())
}

#[test]
fn a_pull_is_due_only_when_the_counter_moved() {
    let now = Instant::now();
    let mut state = State::default();
    assert!(!state.due(false, now));
    state.record(primary("n", 3, 0), false, now);
    assert!(state.due(false, now));
    published(&mut state);
    assert!(!state.due(false, now));
    state.record(primary("n", 3, 7), false, now);
    assert!(!state.due(false, now), "writes without a refresh show nothing");
    state.record(primary("n", 4, 7), false, now);
    assert!(state.due(false, now));
}

#[test]
fn another_node_or_a_counter_that_went_back_is_another_incarnation() {
    let now = Instant::now();
    let mut state = State::default();
    state.record(primary("n", 9, 5), false, now);
    state.term = Some(1);
    published(&mut state);
    for (node, refreshes) in [("n", 2), ("m", 9)] {
        state.record(primary(node, refreshes, 5), false, now);
        assert!(state.due(false, now));
        let plan = state.plan().unwrap();
        assert_eq!(plan.term, None, "the term must be asked again");
        assert_eq!(plan.checkpoint_before, Some(5));
        published(&mut state);
    }
}

#[test]
fn a_copy_that_was_out_of_sight_is_looked_at_again() {
    let now = Instant::now();
    let mut state = State::default();
    state.record(primary("n", 2, 5), false, now);
    published(&mut state);
    state.doubt();
    assert!(!state.moved(), "nothing to pull while it is away");
    state.record(primary("n", 2, 5), false, now);
    assert!(state.due(false, now), "a restart may have made more visible at the same count");
    published(&mut state);
    state.record(primary("n", 2, 5), false, now);
    assert!(!state.moved());
}

#[test]
fn a_new_term_alone_is_another_incarnation() {
    let now = Instant::now();
    let mut state = State::default();
    state.record(primary("n", 2, 5), false, now);
    state.term = Some(1);
    published(&mut state);
    state.check_term(1);
    assert!(!state.moved());
    state.check_term(2);
    assert!(state.moved());
    assert_eq!(state.plan().unwrap().term, Some(2));
}

#[test]
fn a_big_first_build_is_not_waited_for_but_must_include_what_was_refreshed() {
    let now = Instant::now();
    let mut state = State::default();
    state.record(primary("n", 2, SMALL_BUILD), false, now);
    let plan = state.plan().unwrap();
    state.record(primary("n", 3, SMALL_BUILD), false, now);
    assert_eq!(state.need(), Need::Nothing);
    assert!(!state.pulled(&plan, true, now), "the build lacks refresh 3");
    assert!(state.due(true, now));
    assert!(published(&mut state));
}

#[test]
fn what_is_slept_over_is_no_lag() {
    let now = Instant::now();
    let later = now + Duration::from_secs(9);
    let mut state = State::default();
    state.record(primary("n", 2, 3), false, now);
    published(&mut state);
    state.record(primary("n", 3, 7), true, now);
    assert_eq!(state.behind(later), (4, Duration::ZERO));
    state.need();
    state.record(primary("n", 3, 7), true, now);
    assert_eq!(state.behind(later), (4, Duration::from_secs(9)), "somebody waits");
}

#[test]
fn a_cancelled_first_build_is_neither_begun_nor_waited_for() {
    let now = Instant::now();
    let mut state = State { build_cancelled: true, ..State::default() };
    state.record(primary("n", 2, 3), false, now);
    assert!(!state.due(false, now));
    assert_eq!(state.need(), Need::Nothing);
    state.build_cancelled = false;
    assert!(state.due(true, now));
}

#[test]
fn a_broken_shard_is_not_waited_for_and_stays_broken_until_it_shows_what_was_asked_for() {
    let now = Instant::now();
    let mut state = State::default();
    state.record(primary("n", 2, 3), false, now);
    published(&mut state);
    state.record(primary("n", 3, 4), false, now);
    let plan = state.plan().unwrap();
    state.broken = true;
    state.failed(now, Duration::from_secs(1));
    let need = state.need();
    assert!(!state.satisfied(need), "one failure may be over at once");
    state.failed(now, Duration::from_secs(1));
    state.record(primary("n", 4, 5), false, now);
    assert_eq!(state.need(), Need::Nothing, "searches go to Elasticsearch");
    state.pulled(&plan, true, now);
    assert!(state.broken, "refresh 4 was promised");
    published(&mut state);
    assert!(!state.broken);
}

#[test]
fn a_small_first_build_is_waited_for() {
    let now = Instant::now();
    let mut state = State::default();
    state.record(primary("n", 2, 3), false, now);
    let need = state.need();
    assert!(!state.satisfied(need));
    published(&mut state);
    assert!(state.satisfied(need));
    assert_eq!(state.need(), Need::Nothing);
}

#[test]
fn failures_are_retried_later_and_later() {
    let now = Instant::now();
    let mut state = State::default();
    state.record(primary("n", 2, 3), false, now);
    let longest = Duration::from_secs(1);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        state.failed(now, longest);
        pauses.push(state.retry_at().unwrap() - now);
    }
    assert!(pauses.is_sorted());
    assert_eq!(pauses[0], Duration::from_millis(50));
    assert_eq!(pauses[7], longest);
    assert!(!state.due(false, now) && state.due(false, now + longest));
}
