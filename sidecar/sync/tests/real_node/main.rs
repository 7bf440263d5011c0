//! Following a real Elasticsearch, 9.2.0 and 8.15.3: after every kind of change we must hold exactly
//! what it shows. Nodes are started by `scripts/es` and end with this process.

mod builds;
mod fake_engine;
mod filters;
mod harness;
mod held;
mod life;
mod refresh;
mod resize;
mod writes;

/// Each scenario on each version.
macro_rules! scenarios {
    ($($module:ident::$scenario:ident),* $(,)?) => {
        mod on_9_2_0 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() { crate::run("9.2.0", crate::$module::$scenario).await; })*
        }
        mod on_8_15_3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() { crate::run("8.15.3", crate::$module::$scenario).await; })*
        }
    };
}

scenarios!(
    writes::an_existing_index_is_learnt,
    writes::every_change_is_followed,
    writes::one_refresh_is_one_epoch,
    writes::deletes_are_found,
    writes::concurrent_writers_lose_nothing,
    life::an_index_is_deleted_and_made_again,
    life::an_index_is_closed_and_opened,
    life::a_field_is_added,
    life::many_shards,
    life::a_restart_continues_from_the_snapshot,
    life::the_node_is_killed_and_comes_back,
    life::a_restore_in_place_is_another_history,
    builds::a_build_cut_off_by_a_crash_goes_on_where_it_was,
    builds::a_build_is_throttled_cancelled_and_started_again,
    builds::vectors_outside_source_are_read_or_told,
    resize::indices_are_shrunk_split_and_cloned,
    resize::an_index_lives_as_lifecycle_management_wants,
    resize::settings_change_while_it_is_followed,
    resize::an_index_that_cannot_be_followed_stops_no_other,
    resize::hidden_indices_are_followed_as_any_other,
    held::held_vectors_do_not_travel_again,
    held::what_passes_around_us_is_fetched,
    held::a_write_that_a_pipeline_may_have_changed_is_fetched,
    held::acknowledged_deletions_need_no_audit,
    held::an_earlier_primary_is_not_believed,
    held::writers_through_and_around_us_race,
    filters::a_filter_is_fetched_once_and_kept_up,
    filters::no_search_sees_a_wrong_set,
    filters::filters_stay_within_their_limits,
    filters::a_filter_is_forgotten_where_numbers_mean_something_else,
    refresh::without_automatic_refresh_nothing_shows_early,
    refresh::an_automatic_refresh_shows_soon,
    refresh::an_idle_index_sleeps_and_wakes,
    refresh::a_sleeping_index_does_not_run_into_debt,
);

/// Starts logging (`RUST_LOG=shard_sync=debug`), takes the node, runs, and lets go of it.
async fn run(version: &'static str, scenario: impl AsyncFn(&harness::Node)) {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Only the first test of the process installs it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    if !harness::can_run(version) {
        eprintln!(
            "SKIPPED: Elasticsearch {version} needs a newer Java than this machine has (scripts/es versions)"
        );
        return;
    }
    let (node, _alone) = harness::Node::take(version).await;
    scenario(&node).await;
}
