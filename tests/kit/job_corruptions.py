"""Corruptions of jobs, chunks, results and activity."""

from tests.kit.corruption_parts import (
    ACCOUNT,
    CANCELLED,
    DECIDED,
    ENTERED_AT,
    FAILED,
    IMMEDIATE,
    IMPORT,
    OPT_IN,
    OPT_OUT,
    PAUSED,
    Corruption,
    new_job,
)

JOB_CORRUPTIONS = (
    Corruption(
        "every_job_has_ended",
        "a job that still runs",
        new_job("running", "clock_timestamp()", "0"),
    ),
    Corruption("every_job_has_ended", "a job without a plan", new_job("planning", "null", "null")),
    Corruption(
        "every_pair_is_accounted_for",
        "a pending chunk is missing",
        f"delete from job_chunks where job_id = {CANCELLED} and state = 'pending'",
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a chunk has more contacts than pairs",
        f"update job_chunks set item_ids = item_ids || 1::bigint"
        f" where job_id = {CANCELLED} and state = 'pending'",
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a job completed with a chunk pending",
        f"insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)"
        f" values ({ACCOUNT}, {OPT_IN}, 99, '{{}}', 0)",
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a job completed with a pair missing",
        "alter table jobs drop constraint completed_adds_up;"
        f" update jobs set selected = selected + 1 where id = {IMPORT}",
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a done chunk does not add up",
        "alter table job_chunks drop constraint done_adds_up;"
        f" update job_chunks set empty = empty + 1 where job_id = {FAILED} and chunk_no = 1;"
        f" update jobs set empty = empty + 1 where id = {FAILED}",
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "chunks without a plan",
        new_job(
            "paused",
            "null",
            "null",
            "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)"
            " select account_id, id, 1, '{1}', 1 from job",
        ),
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a selected contact is in no chunk",
        f"update jobs set selection = '{{\"contacts\": 3}}' where id = {IMMEDIATE}",
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a chunk has a contact that was not selected",
        f"update job_contacts set contact_ids = contact_ids || 1::bigint where job_id = {OPT_OUT}",
    ),
    *(
        Corruption(
            "job_counts_are_those_of_its_chunks",
            f"a {state} job counts more propagated changes than its results",
            f"update jobs set propagated = propagated + 1 where id ="
            f" (select min(id) from jobs where state = '{state}' and planned_at is not null)",
        )
        for state in ("completed", "cancelled", "failed")
    ),
    Corruption(
        "job_counts_are_those_of_its_chunks",
        "a job counts one outcome as another",
        f"update jobs set applied = applied - 1, unchanged = unchanged + 1 where id = {OPT_IN}",
    ),
    *(
        Corruption(
            "chunk_counts_are_those_of_its_rows",
            f"a chunk and its job count one result as {outcome}",
            "".join(
                f"update {table} set applied = applied - 1, {outcome} = {outcome} + 1"
                f" where {key} = {FAILED} {chunk};"
                for table, key, chunk in (
                    ("job_chunks", "job_id", "and chunk_no = 1"),
                    ("jobs", "id", ""),
                )
            ),
        )
        for outcome in ("unchanged", "rejected", "empty")
    ),
    Corruption(
        "chunk_counts_are_those_of_its_rows",
        "a chunk and its job count a propagated change without a result",
        f"update job_chunks set propagated = propagated + 1 where job_id = {OPT_IN}"
        f" and chunk_no = (select min(chunk_no) from job_chunks where job_id = {OPT_IN}"
        f" and state = 'done'); update jobs set propagated = propagated + 1 where id = {OPT_IN}",
    ),
    Corruption(
        "chunk_counts_are_those_of_its_rows",
        "a chunk counts another reason",
        f"update job_chunks set reasons = '{{\"rejected:bounced\": 1}}'"
        f" where job_id = {FAILED} and chunk_no = 1",
    ),
    Corruption(
        "chunk_counts_are_those_of_its_rows",
        "a result is missing",
        f"delete from results where reason = 'contact_not_found' and job_id = {OPT_IN}",
        also=("every_selected_address_has_a_result",),
    ),
    Corruption(
        "no_chunk_is_half_done",
        "a result of a pending chunk",
        "insert into results (account_id, job_id, chunk_no, item_id, field, outcome, reason,"
        " decided_at)"
        f" select account_id, job_id, chunk_no, 1, 3, 'rejected', 'contact_not_found',"
        f" {DECIDED.format(which='max')}"
        f" from job_chunks where job_id = {CANCELLED} and state = 'pending'",
    ),
    Corruption(
        "no_chunk_is_half_done",
        "a result of a chunk that was split",
        "insert into results (account_id, job_id, chunk_no, item_id, field, outcome, reason,"
        " decided_at)"
        " select account_id, job_id, chunk_no, 1, 3, 'rejected', 'contact_not_found',"
        "        (select max(decided_at) from results r where r.job_id = c.job_id)"
        f" from job_chunks c where job_id = {OPT_IN} and state = 'split' limit 1",
    ),
    Corruption(
        "no_chunk_is_half_done",
        "a result of a missing chunk",
        "insert into results (account_id, job_id, chunk_no, item_id, field, outcome, reason,"
        ""
        " decided_at)"
        f" values ({ACCOUNT}, {CANCELLED}, 99, 1, 3, 'rejected', 'contact_not_found',"
        f" {DECIDED.format(which='max')})",
    ),
    Corruption(
        "no_chunk_is_half_done",
        "an uploaded row waits although its contact exists",
        "insert into import_rows (account_id, job_id, item_id, line, addresses, match_keys)"
        " select account_id, import_job_id, id, 2, '{}', '{}' from contacts"
        f" where import_job_id = {PAUSED}",
    ),
    Corruption(
        "no_chunk_is_half_done",
        "an uploaded row waits although it was recognized",
        "insert into import_rows (account_id, job_id, item_id, line, addresses, match_keys)"
        " select account_id, job_id, item_id, 2, '{}', '{}' from recognized_rows",
    ),
    Corruption(
        "one_result_for_each_pair",
        "a pair was decided twice",
        "drop index results_of_job; insert into results"
        f" select * from results where job_id = {CANCELLED} and outcome = 'unchanged' limit 1",
        also=("chunk_counts_are_those_of_its_rows",),
    ),
    Corruption(
        "one_result_for_each_pair",
        "an opt-out was propagated to an address twice",
        "drop index results_of_job; insert into results"
        f" select * from results where job_id = {OPT_OUT} and cause = 'propagated' limit 1",
        also=("chunk_counts_are_those_of_its_rows", "every_history_is_unbroken"),
    ),
    Corruption(
        "every_selected_address_has_a_result",
        "a lost result counts as empty",
        f"""
        update job_chunks set rejected = rejected - 1, empty = empty + 1, reasons = '{{}}'
        where job_id = {FAILED} and chunk_no = 1;
        update jobs set rejected = rejected - 1, empty = empty + 1 where id = {FAILED};
        delete from results where job_id = {FAILED} and outcome = 'rejected'
        """,
    ),
    Corruption(
        "every_selected_address_has_a_result",
        "an import row has neither a contact nor a rejection",
        f"update job_chunks set item_ids = '{{77}}' where job_id = {FAILED} and chunk_no = 1",
    ),
    Corruption(
        "decided_only_while_running",
        "decided after the cancellation",
        ENTERED_AT.format(
            moment=DECIDED.format(which="max") + " - interval '1 microsecond'", state="cancelled"
        ),
    ),
    Corruption(
        "decided_only_while_running",
        "decided before the plan",
        ENTERED_AT.format(
            moment=DECIDED.format(which="min") + " + interval '1 microsecond'", state="running"
        ),
    ),
    Corruption(
        "decided_only_while_running",
        "decided during a pause",
        "insert into job_states (account_id, job_id, state, entered_at) values"
        f" ({ACCOUNT}, {CANCELLED}, 'paused', {DECIDED.format(which='min')} - interval '1"
        f" microsecond'),"
        f" ({ACCOUNT}, {CANCELLED}, 'running', {DECIDED.format(which='min')} + interval '1"
        f" microsecond')",
        also=("every_change_of_state_has_its_actor",),
    ),
    *(
        Corruption(
            "decided_only_while_running",
            f"a chunk was done after the job had {state}",
            "update job_chunks set finished_at = clock_timestamp() where (job_id, chunk_no) ="
            " (select c.job_id, c.chunk_no from job_chunks c join jobs j on j.id = c.job_id"
            f" where c.state = 'done' and j.state = '{state}' order by 1, 2 limit 1)",
        )
        for state in ("completed", "cancelled", "failed", "paused")
    ),
    Corruption(
        "decided_only_while_running",
        "a single result later than the rest of its chunk",
        "update results set decided_at = clock_timestamp() where (job_id, item_id, field, cause)"
        " = (select job_id, item_id, field, cause from results"
        f" where job_id = {FAILED} and outcome = 'rejected')",
    ),
    Corruption(
        "decided_only_while_running",
        "the end of a job was not recorded",
        f"delete from job_states where job_id = {OPT_IN} and state = 'completed'",
    ),
    Corruption(
        "decided_only_while_running",
        "no state of a job was recorded",
        f"delete from job_states where job_id = {OPT_IN}",
    ),
    Corruption(
        "every_job_has_its_actor",
        "the submission of a job was not recorded",
        f"delete from activity where job_id = {OPT_IN} and event = 'job.submitted'",
    ),
    Corruption(
        "every_job_has_its_actor",
        "a job names another actor than its submission",
        f"update jobs set actor_kind = 'cli', via = 'cli' where id = {OPT_IN}",
    ),
    Corruption(
        "every_job_has_its_actor",
        "a job of this version has no actor",
        f"update jobs set actor_kind = null, via = null where id = {OPT_IN}",
    ),
    Corruption(
        "every_job_has_its_actor",
        "a submission was recorded twice",
        "insert into activity (account_id, actor_kind, via, event, job_id) select account_id,"
        f" actor_kind, via, event, job_id from activity where job_id = {OPT_IN}",
    ),
    *(
        Corruption(
            "every_change_of_state_has_its_actor",
            f"{act} was recorded without an actor",
            f"delete from activity where event = '{act}'",
        )
        for act in ("job.paused", "job.resumed", "job.cancelled")
    ),
    Corruption(
        "every_change_of_state_has_its_actor",
        "a confirmation was recorded that did not happen",
        "insert into activity (account_id, actor_kind, via, event, job_id)"
        f" values ({ACCOUNT}, 'cli', 'cli', 'plan.applied', {OPT_IN})",
    ),
    Corruption(
        "activity_stays_within_its_account",
        "an activity is about another account's hook",
        "with hook as (insert into hooks (account_id, source, salt)"
        " select id, 'keap', decode(repeat('00', 16), 'hex') from accounts where name = 'default'"
        " returning id) insert into activity (account_id, actor_kind, via, event, hook_id)"
        f" select {ACCOUNT}, 'cli', 'cli', 'hook.created', id from hook",
    ),
    Corruption(
        "activity_stays_within_its_account",
        "a cancellation names a key of another account",
        "with key as (insert into api_keys (account_id, name, digest, scopes)"
        " select id, 'a service', sha256(''), '{jobs:write}' from accounts where name = 'default'"
        " returning id) update activity t set actor_kind = 'key', actor_id = key.id, via = 'http'"
        " from key where t.event = 'job.cancelled'",
    ),
    Corruption(
        "activity_stays_within_its_account",
        "a cancellation names a hook that does not exist",
        "update activity set actor_kind = 'hook', actor_id = 99, via = 'hook_form'"
        " where event = 'job.cancelled'",
    ),
)
