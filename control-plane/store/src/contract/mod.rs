//! One test suite for every backend. It specifies the contract of the traits; a backend that passes it can replace any
//! other.
//!
//! A backend implements [`Backend`] in its tests and expands the suite with [`contract_tests!`](crate::contract_tests):
//! every case becomes a separate test.

pub mod access;
pub mod anomalies;
pub mod days;
pub mod fixtures;
pub mod gateways;
pub mod grpc;
pub mod in_progress;
pub mod keys;
pub mod order;
pub mod payloads;
pub mod policy;
pub mod request_log;
pub mod search;
pub mod space;
pub mod transactions;

use std::sync::Arc;

use async_trait::async_trait;

use crate::Store;

/// The source of the store for a case.
#[async_trait(?Send)]
pub trait Backend: Sized {
    /// Prepares a location for a new, empty store. Dropping it removes everything.
    async fn create() -> Self;

    /// Opens the store in this location. A case that opens it again has closed and dropped it before.
    async fn open(&self) -> Arc<dyn Store>;
}

/// Expands to one test for each case of the suite, grouped in modules. The argument is a type that implements
/// [`Backend`](crate::contract::Backend).
#[macro_export]
macro_rules! contract_tests {
    ($backend:ty) => {
        $crate::contract_tests! { @modules $backend;
            keys: [
                inserted_key_is_read_back,
                key_is_found_by_id_and_by_name,
                unknown_key_is_none,
                taken_name_is_refused,
                taken_digest_is_refused,
                version_of_unknown_key_is_refused,
                taken_names_and_digests_are_reported,
                versions_are_in_ascending_order,
                revision_advances,
                update_writes_what_may_change,
                version_end_is_set,
                revoked_version_keeps_its_time,
                lists_are_ordered_and_paged,
                key_list_limit_counts_keys,
                keys_are_filtered_and_counted_by_status,
                keys_are_filtered_by_environment_and_scope,
                keys_are_filtered_by_rotation,
                keys_are_filtered_by_use,
                keys_are_filtered_by_expiry,
                keys_are_found_by_text,
                search_follows_changes,
                conditions_are_combined,
                thousands_of_keys_are_inserted_at_once,
                credentials_are_read_in_shares,
                empty_store_has_no_credentials,
            ];
            access: [
                inserted_token_is_read_back,
                taken_token_name_is_reported,
                tokens_are_paged,
                token_is_found_by_its_digest,
                deleted_token_takes_its_sessions,
                lasting_owner_tokens_are_counted,
                session_is_read_and_seen,
                session_needs_its_token,
                oldest_sessions_are_dropped,
                sessions_are_counted,
                sessions_are_deleted,
                idempotent_request_is_found_again,
                old_idempotent_requests_are_forgotten,
                idempotent_request_is_recorded_once,
                installation_is_inserted_once,
                snapshot_version_is_set,
                admin_event_is_read_back,
                invalid_principal_changes_nothing,
                admin_events_are_paged,
                admin_events_are_filtered,
            ];
            policy: [
                newest_policy_is_effective,
                store_without_a_policy_fails,
                policy_version_is_inserted_once,
                policy_versions_are_paged,
                grants_are_read_by_key,
                scope_holders_are_named,
                imported_keys_are_named,
            ];
            transactions: [
                uncommitted_change_is_invisible,
                dropped_transaction_is_rolled_back,
                dropped_log_transaction_is_rolled_back,
                transactions_can_be_dropped_again_and_again,
                failed_transaction_changes_nothing,
                second_transaction_waits,
                second_log_transaction_waits,
                both_kinds_of_transactions_are_independent,
                readers_do_not_wait,
                transaction_is_committed_by_another_task,
                concurrent_changes_are_serialised,
                abandoned_begin_blocks_nobody,
                committed_change_survives_a_restart,
                ping_fails_once_closed,
                operations_are_measured,
                maintenance_runs_beside_changes,
            ];
            gateways: [
                sightings_are_listed,
                later_sighting_keeps_the_first,
                sighting_is_replaced_by_a_later_note,
                removed_sighting_is_gone,
                sightings_are_pruned,
                gateways_are_open_until_they_hold_nothing,
                lost_gateway_leaves_a_gap,
                gateway_that_reports_is_not_lost,
                returning_gateway_withdraws_its_gap,
                late_report_does_not_replace_a_later_one,
                quiet_streams_are_forgotten,
            ];
            request_log: [
                ingested_call_is_read_back,
                repeated_batch_is_stored_once,
                items_are_sorted_by_sequence,
                streams_are_independent,
                skipped_sequence_numbers_are_a_gap,
                reported_gap_is_stored,
                leap_is_rejected,
                too_many_gaps_are_rejected,
                future_times_are_clamped,
                aggregated_calls_are_one_entry,
                payload_is_stored_with_its_call,
                calls_are_paged,
                calls_are_filtered,
                numbers_increase_with_commits,
                search_continues_where_it_ended,
                users_of_the_newest_calls_are_found,
                timeline_counts_by_interval,
                empty_log_counts_nothing,
                statistics_count_in_groups,
                latencies_are_rounded_down,
                newest_name_of_a_key_is_found,
                calls_of_a_key_are_grouped,
                last_use_is_the_latest_allowed_call,
                gaps_are_listed,
                large_batches_are_stored,
            ];
            in_progress: [
                call_is_listed_until_its_record_arrives,
                call_is_marked_when_its_gateway_is_lost,
                calls_in_progress_are_purged,
                calls_in_progress_have_a_maximum,
            ];
            anomalies: [
                detection_becomes_an_anomaly,
                detection_extends_an_open_anomaly,
                anomalies_are_filtered_and_paged,
                calls_are_summed_by_key_and_hour,
                sums_grow_with_every_batch,
                networks_are_counted_by_ten_minutes,
                calls_after_an_end_are_summed_apart,
                evaluated_sums_are_done,
                sums_that_grew_meanwhile_stay_changed,
                cursor_passes_over_changed_sums,
                history_ends_before_the_hour,
                new_anomalies_are_queued,
                deliveries_are_postponed_and_end,
            ];
            payloads: [
                data_keys_are_read_back,
                data_keys_are_resealed,
                export_begins_behind_the_log,
                export_place_is_set,
                export_begins_behind_purged_records,
                exported_records_follow_by_number,
                records_are_purged_in_steps,
                numbers_are_never_reused,
                purging_keeps_streams_and_uses,
                gaps_are_purged,
                gateways_are_purged,
                payloads_and_data_keys_are_purged,
                anomalies_are_purged,
                reclaimed_space_takes_nothing_along,
            ];
            grpc: [
                grpc_statuses_are_selected_and_counted,
            ];
            space: [
                usage_follows_the_content,
                early_purge_leaves_gaps,
            ];
            days: [
                batch_spans_days,
                calls_have_a_greatest_age,
                statistics_span_days,
                largest_groups_span_months,
                days_are_purged,
                payloads_of_days_are_purged,
            ];
            order: [
                rolled_back_batch_uses_no_numbers,
                follower_misses_nothing,
                zero_bytes_are_accepted,
                texts_with_zero_bytes_are_searched,
            ];
            search: [
                every_match_is_found,
            ];
        }
    };
    (@modules $backend:ty; $($module:ident: [$($case:ident,)*];)*) => {
        $(mod $module {
            #[allow(unused_imports)]
            use super::*;

            $crate::contract_tests! { @cases $backend; $module; $($case,)* }
        })*
    };
    (@cases $backend:ty; $module:ident; $($case:ident,)*) => {
        $(#[tokio::test]
        async fn $case() {
            let backend = <$backend as $crate::contract::Backend>::create().await;
            $crate::contract::$module::$case(&backend).await;
        })*
    };
}

#[cfg(test)]
mod tests {
    /// Every case of every module is in the list above.
    #[test]
    fn every_case_is_run() {
        let list = include_str!("mod.rs");
        let modules = [
            ("access", include_str!("access.rs")),
            ("anomalies", include_str!("anomalies.rs")),
            ("days", include_str!("days.rs")),
            ("gateways", include_str!("gateways.rs")),
            ("grpc", include_str!("grpc.rs")),
            ("in_progress", include_str!("in_progress.rs")),
            ("keys", include_str!("keys.rs")),
            ("order", include_str!("order.rs")),
            ("payloads", include_str!("payloads.rs")),
            ("policy", include_str!("policy.rs")),
            ("request_log", include_str!("request_log.rs")),
            ("search", include_str!("search.rs")),
            ("space", include_str!("space.rs")),
            ("transactions", include_str!("transactions.rs")),
        ];
        let declared = list.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let declared: Vec<_> = declared.filter(|module| *module != "fixtures").collect();
        assert_eq!(declared, modules.map(|(module, _)| module));
        let mut cases = 0;
        for line in modules.iter().flat_map(|(_, source)| source.lines()) {
            if let Some((name, _)) =
                line.strip_prefix("pub async fn ").and_then(|rest| rest.split_once("(backend"))
            {
                cases += 1;
                assert!(list.contains(&format!(" {name},\n")), "{name} is not in the list");
            }
        }
        assert!(cases >= 140, "{cases} cases");
    }
}
