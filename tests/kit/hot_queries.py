"""Statements whose plans are tested, and exempt statements with the reason."""

HOT = {
    "accounts": "get_account_id create_account list_accounts",
    "activity": "record list_activity_of_account list_activity_of_job",
    "address_history": (
        "count_import_rejections count_recognized_rows get_address list_contacts"
        " list_history get_linked_address"
    ),
    "address_lists": (
        "read_list_rows look_up_listed find_known_keys insert_listed delete_listed"
        " reject_listed freeze_list"
    ),
    "chunk_addresses": (
        "read_links read_links_and_addresses find_existing_contacts read_siblings"
        " read_addresses lock_addresses find_addresses_with_opted_out_sibling update_alike"
        " update_each"
    ),
    "chunks": (
        "lock_job_shared lock_job_exclusive claim_next_chunk claim_chunk_by_number"
        " count_attempt uncount_attempt record_current_chunk terminate_overlong_chunks"
        " finish_chunk insert_done_chunk lock_failed_chunk postpone_chunk lock_chunk_numbers"
        " split_chunk"
    ),
    "contacts": "get_tag_id list_tags find_contact_ids read_contacts",
    "exports": (
        "results_page results_scanned_to unprocessed_page unprocessed_lines_page"
        " unprocessed_addresses_page rejections_page"
    ),
    "forecasting": "join_by_hash avoid_merge_joins plan_for_values get_last_chunk_no"
    " count_held_once",
    "hooks": "insert_hook get_hook renew_hook_secret account_of_hook",
    "immediate_opt_outs": "set_idle_timeout insert_completed_job",
    "import_chunks": (
        "lock_known_addresses read_rows_to_recognize find_candidates insert_contacts"
        " insert_links unmark_repeats update_contacts insert_recognized_rows"
        " read_stated_statuses count_final_persons insert_contact_tags"
        " delete_rows insert_tags reject_row"
    ),
    "import_ends": (
        "lock_repeated_role_addresses count_contacts_of_role_addresses find_missed_propagation"
    ),
    "imports": "set_request_hash read_staged_file",
    "job_progress": (
        "get_job_to_work mark_started refresh_counts has_pending_chunks complete_job end_job"
        " has_only_rejections get_state read_job_counts read_job_progress"
    ),
    "jobs": (
        "insert_job list_jobs_by_key insert_merged_events account_of_job get_job list_jobs"
        " list_jobs_of_account find_oldest_job_to_scan_of_account find_oldest_job_to_scan"
        " set_timeouts terminate_chunks set_state"
    ),
    "keys": "get_key is_active record_use account_of_key",
    "lanes": (
        "insert_lanes queue_idle_lanes hold_lane holds_lane touch_lane release_lane"
        " requeue_stalled_lanes"
    ),
    "planning": (
        "try_plan job_to_plan freeze_import insert_repeats close_plan store_forecast"
        " request_confirmation"
    ),
    "queue_stats": "read_queue_loads count_due_deliveries",
    "results": "insert_results find_earlier_decisions",
    "sweeps": (
        "ping try_sweep try_begin_queue_stats list_stalled_plans requeue_plan"
        " list_running_jobs get_worker_absence try_report_absence try_report_return"
        " get_suggestion store_suggestion"
    ),
    "webhook_deliveries": (
        "insert_delivery get_secret_source store_secret_source has_due list_due claim_due"
        " mark_delivered mark_failed get_delivery"
    ),
}
"""The tested statements of each file in `db/sql`."""

EXEMPT = {
    "activity.list_activity": "at the command line, some rows of each account by index",
    "forecasting.is_large": "reads the catalog, and the chunks of a plan once",
    "forecasting.count_held_by_several": "counts a whole selection, once for a plan",
    "forecasting.count_missing": "counts a whole selection, once for a plan",
    "forecasting.count_listed": "counts a whole list, once for a plan",
    "planning.freeze_selection": "selects a whole account; a list of ids is guarded below",
    "contacts.count_addresses": "counts a whole account, only on request",
    "contacts.count_addresses_of_tag": "counts all contacts with a tag, only on request",
    "contacts.count_addresses_of_import": "counts a whole import, only on request",
    "hooks.list_active_hooks": "rarely, for an unknown hook; hooks are few",
    "hooks.list_hooks": "at the command line; hooks are few",
    "hooks.revoke_hook": "at the command line, one row",
    "keys.insert_key": "at the command line, one row",
    "keys.list_active_digests": "rarely, for a guessed key; keys are few",
    "keys.list_keys": "at the command line; keys are few",
    "keys.revoke_key": "at the command line, one row",
    "webhook_deliveries.list_secret_sources": "at the command line; accounts are few",
}

EXEMPT_FILES = {
    "deployment": "a table of one row",
    "grants": "reads the catalog, at the command line",
    "invariants": "`sluice verify` checks all rows",
    "invariants_of_addresses": "`sluice verify` checks all rows",
    "invariants_of_results": "`sluice verify` checks all rows",
    "migrating": "reads no table",
    "uploads": "reads the rows that its own transaction has stored, each at most once",
}

WHOLE_IMPORT = {
    "freeze_list": "once for a job, over all its listed addresses",
    "insert_tags": "once for an import, over all its rows",
    "freeze_import": "once for an import, over all its rows",
    "insert_repeats": "once for an import, over all its rows",
    "lock_repeated_role_addresses": "at an import's end, over its repeated addresses",
    "count_contacts_of_role_addresses": "at an import's end, over its repeated addresses",
    "find_missed_propagation": "at an import's end, over its repeated addresses",
    "count_import_rejections": "counts the rejections of a file",
    "count_recognized_rows": "counts the rows of a file that were recognized",
    "read_staged_file": "counts the rows of a file that is submitted again",
}
"""Frequent statements that may read all rows of one import by an index."""

ORDER_OF_PAGE = {
    "results_page": ("results_of_job", "results_rejected"),
    "results_scanned_to": ("results_of_job", "results_rejected"),
    "unprocessed_page": ("job_chunks_pending",),
    "unprocessed_lines_page": ("import_rows_pkey",),
    "unprocessed_addresses_page": ("job_addresses_pkey",),
    "rejections_page": ("import_rejections_by_line",),
}
"""The index that has the rows of each page in order; the second is for rejected rows."""
