"""Deliberate breaks of what must be true of the data, each written straight into the database.

For the world of `tests.kit.sample_account`, with its triggers and foreign keys off. Where a break
cannot but break something else as well, `also` names what.
"""

from typing import NamedTuple


class Corruption(NamedTuple):
    """`sql` breaks `invariant`, in the way that `what` tells."""

    invariant: str
    what: str
    sql: str
    also: tuple[str, ...] = ()


OPT_IN = "(select min(id) from jobs where action = 'opt_in' and state = 'completed')"
OPT_OUT = "(select min(id) from jobs where action = 'opt_out' and state = 'completed')"
IMMEDIATE = "(select id from jobs where requested_by = 'recipient')"
CANCELLED = "(select id from jobs where action = 'opt_out' and state = 'cancelled')"
FAILED = "(select id from jobs where state = 'failed')"
IMPORT = "(select min(id) from jobs where action = 'import')"
PAUSED = "(select id from jobs where state = 'paused')"
ACCOUNT = "(select id from accounts where name = 'proof')"

NEW_JOB = f"""
    with job as (
        insert into jobs (account_id, action, state, fields, selection, requested_by, request_hash,
                          correlation_id, planned_at, selected)
        select {ACCOUNT}, 'opt_in', '{{state}}', '{{{{1}}}}', '{{{{}}}}', 'test', '', '',
               {{planned_at}}, {{selected}}
        returning account_id, id, state
    ), noted as (
        insert into job_states (account_id, job_id, state) select account_id, id, state from job
    )
"""
ENTERED_AT = f"""
    update job_states set entered_at = {{moment}}
    where job_id = {CANCELLED} and state = '{{state}}'
"""
DECIDED = f"(select {{which}}(decided_at) from results where job_id = {CANCELLED})"


def _new_job(state: str, planned_at: str, selected: str, then: str = "select 1") -> str:
    return NEW_JOB.format(state=state, planned_at=planned_at, selected=selected) + then


def _address(key: str) -> str:
    return f"(select id from email_addresses where match_key = '{key}@example.com')"


def _last_applied(key: str) -> str:
    """The row by which an address came to what it is."""
    return (
        f"ctid = (select ctid from results where address_id = {_address(key)}"
        " and outcome = 'applied' order by decided_at desc, cause desc limit 1)"
    )


ANN_IS = "update email_addresses set {what} where match_key = 'ann@example.com'"
"""Opted out as manual by one job, and as spam by a later one."""
STAFF_IS = "update email_addresses set {what} where match_key = 'staff3@example.com'"
"""Imported without permission, and opted in."""
OLD_WAS = (
    "alter table results drop constraint never_reopened;"
    " alter table email_addresses drop constraint never_reopened;"
)

CORRUPTIONS = (
    Corruption(
        "every_job_has_ended",
        "a job that still runs",
        _new_job("running", "clock_timestamp()", "0"),
    ),
    Corruption("every_job_has_ended", "a job without a plan", _new_job("planning", "null", "null")),
    Corruption(
        "every_pair_is_accounted_for",
        "a pending chunk is gone",
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
        _new_job(
            "paused",
            "null",
            "null",
            "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)"
            " select account_id, id, 1, '{1}', 1 from job",
        ),
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a contact that was asked for is in no chunk",
        f"update jobs set selection = '{{\"contacts\": 3}}' where id = {IMMEDIATE}",
    ),
    Corruption(
        "every_pair_is_accounted_for",
        "a contact was listed that nobody asked for",
        f"update job_contacts set contact_ids = contact_ids || 1::bigint where job_id = {OPT_OUT}",
    ),
    *(
        Corruption(
            "job_counts_are_those_of_its_chunks",
            f"a {state} job counts more than was reached by spreading",
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
        "a chunk and its job count a spread that has no result",
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
        "a result is gone",
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
        "a result of a chunk that is not there",
        "insert into results (account_id, job_id, chunk_no, item_id, field, outcome, reason,"
        ""
        " decided_at)"
        f" values ({ACCOUNT}, {CANCELLED}, 99, 1, 3, 'rejected', 'contact_not_found',"
        f" {DECIDED.format(which='max')})",
    ),
    Corruption(
        "no_chunk_is_half_done",
        "an uploaded row waits, and its contact is there",
        "insert into import_rows (account_id, job_id, item_id, line, addresses, match_keys)"
        " select account_id, import_job_id, id, 2, '{}', '{}' from contacts"
        f" where import_job_id = {PAUSED}",
    ),
    Corruption(
        "no_chunk_is_half_done",
        "an uploaded row waits, and was recognized",
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
        "an address was reached twice",
        "drop index results_of_job; insert into results"
        f" select * from results where job_id = {OPT_OUT} and cause = 'propagated' limit 1",
        also=("chunk_counts_are_those_of_its_rows", "every_ledger_is_unbroken"),
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
        "a contact that never came to be, and nothing says so",
        f"update job_chunks set item_ids = '{{77}}' where job_id = {FAILED} and chunk_no = 1",
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "an address is not what its last result made it",
        STAFF_IS.format(what="status = 'bounce'"),
    ),
    *(
        Corruption(
            "every_ledger_is_unbroken",
            f"an address tells another past than its last result: {what}",
            STAFF_IS.format(what=what),
        )
        for what in (
            "previous_status = 'bounce'",
            f"status_job_id = {IMPORT}",
            "status_job_id = null",
        )
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "an address tells another source than its last result",
        f"update email_addresses set propagated_from = {_address('ann')}"
        " where match_key = 'staff0@example.com'",
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "a result begins where none had ended",
        STAFF_IS.format(what="previous_status = 'lockdown'") + "; update results"
        " set from_status = 'lockdown' where"
        f" {_last_applied('staff3')}",
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "a result says that a known address was new",
        STAFF_IS.format(what="previous_status = null") + "; update results"
        " set from_status = null where"
        f" {_last_applied('staff3')}",
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "the last change of an address has no result",
        f"delete from results where {_last_applied('staff3')}",
        also=("chunk_counts_are_those_of_its_rows", "every_selected_address_has_a_result"),
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "an address names a job, and has no result at all",
        "insert into email_addresses (account_id, address, match_key, status, status_job_id)"
        f" values ({ACCOUNT}, 'x', 'x', 'single_opt_in', {OPT_IN})",
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "the account has no such address any more",
        f"delete from contact_emails where address_id = {_address('staff3')};"
        " delete from email_addresses where match_key = 'staff3@example.com'",
    ),
    Corruption(
        "every_ledger_is_unbroken",
        "a result speaks of another one that its job has not",
        f"""
        update results set reason = 'same_address_in_job'
        where job_id = {FAILED} and outcome = 'rejected';
        update job_chunks set reasons = '{{"rejected:same_address_in_job": 1}}'
        where job_id = {FAILED} and chunk_no = 1
        """,
    ),
    *(
        Corruption(
            "no_opt_out_was_reopened",
            f"an opt-in changed an address that was {status}",
            f"{OLD_WAS} update results set from_status = '{status}'"
            f" where address_id = {_address('old')} and job_id = {OPT_IN}"
            " and outcome = 'applied'",
        )
        for status in ("admin", "manual", "list_unsubscribe", "feedback", "spam")
    ),
    Corruption(
        "no_opt_out_was_reopened",
        "an opt-out was led out of by way of a status that is not marketable",
        f"{OLD_WAS} update results set from_status = 'manual', to_status = 'non_marketable'"
        f" where address_id = {_address('old')} and job_id = {OPT_IN} and outcome = 'applied';"
        f" update results set from_status = 'non_marketable' where address_id = {_address('old')}"
        f" and job_id <> {OPT_IN} and outcome = 'applied';"
        " update email_addresses set previous_status = 'non_marketable'"
        " where match_key = 'old@example.com'",
    ),
    Corruption(
        "no_opt_out_was_reopened",
        "a marketable address was opted out just before",
        f"{OLD_WAS} insert into email_addresses"
        " (account_id, address, match_key, status, previous_status)"
        f" values ({ACCOUNT}, 'x', 'x', 'single_opt_in', 'manual')",
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an address is opted out less than it was found",
        "update results set from_status = 'spam'"
        f" where address_id = {_address('eve')} and reason = 'already_opted_out'",
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an address is opted out less than it was made",
        ANN_IS.format(what="status = 'admin'"),
        also=("every_ledger_is_unbroken",),
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an opt-out of its own became one that spread",
        f"update email_addresses set propagated_from = {_address('ann')}"
        " where match_key = 'bob@example.com'",
        also=("every_ledger_is_unbroken",),
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an opted-out address bounces now",
        "update email_addresses set status = 'hard_bounce' where match_key = 'bob@example.com'",
        also=("every_ledger_is_unbroken",),
    ),
    Corruption(
        "no_opt_out_was_lost",
        "an address is not there any more",
        f"delete from contact_emails where address_id = {_address('bob')};"
        " delete from email_addresses where match_key = 'bob@example.com'",
        also=("every_ledger_is_unbroken",),
    ),
    Corruption(
        "no_address_is_marketable_beside_an_opt_out",
        "contacts came by another way and nobody let the opt-out spread",
        f"""
        insert into contacts (account_id, id) values ({ACCOUNT}, 77), ({ACCOUNT}, 78);
        insert into email_addresses (account_id, id, address, match_key, status, contact_count)
        values ({ACCOUNT}, 770, 'x', 'x', 'feedback', 1),
               ({ACCOUNT}, 771, 'y', 'y', 'unengaged_marketable', 2);
        insert into contact_emails (account_id, contact_id, field, address_id)
        values ({ACCOUNT}, 77, 1, 770), ({ACCOUNT}, 77, 3, 771), ({ACCOUNT}, 78, 1, 771)
        """,
    ),
    Corruption(
        "no_address_is_marketable_beside_an_opt_out",
        "an import ended without settling what it had left open",
        f"""
        insert into job_states (account_id, job_id, state)
        values ({ACCOUNT}, {PAUSED}, 'cancelled');
        update jobs j set state = 'cancelled', finished_at = clock_timestamp(),
            (applied, unchanged, rejected, empty, propagated) =
            (select s.applied, s.unchanged, s.rejected, s.empty, s.propagated
             from job_sums(j.account_id, j.id) s)
        where state = 'paused'
        """,
        also=("every_address_counts_its_contacts", "every_change_of_state_has_its_actor"),
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "an address counts one too many",
        STAFF_IS.format(what="contact_count = contact_count + 1"),
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "an address counts a repeat that is none",
        STAFF_IS.format(what="repeat_count = repeat_count + 1"),
    ),
    Corruption(
        "every_repeat_has_the_addresses_of_another",
        "a contact does not count, and nobody else has its addresses",
        "update contacts set is_repeat = true where given_name = 'staff3'",
        also=("every_address_counts_its_contacts",),
    ),
    Corruption(
        "every_recognized_row_is_its_contacts",
        "a row was recognized as a stranger",
        "update recognized_rows set contact_id = (select id from contacts where given_name ="
        " 'cid')",
        also=("every_result_names_its_contact",),
    ),
    Corruption(
        "every_result_names_its_contact",
        "a result names another contact than its item's",
        f"update results set contact_id = item_id + 1 where job_id = {OPT_IN}"
        " and outcome = 'applied'",
    ),
    Corruption(
        "every_result_names_its_contact",
        "a result of an id that no contact has names one",
        "update results r set contact_id = (select min(c.id) from contacts c"
        " where c.account_id = r.account_id) where reason = 'contact_not_found'",
    ),
    Corruption(
        "every_result_names_its_contact",
        "a result names an import row that created no contact",
        "update results r set contact_id = r.item_id from recognized_rows m"
        " where m.job_id = r.job_id and m.item_id = r.item_id",
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "a role address, while an import brings more, counts too many",
        "update email_addresses set contact_count = 100 where match_key = 'info@example.com'",
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "a role address, while an import brings more, counts as none",
        "update email_addresses set contact_count = 2 where match_key = 'info@example.com'",
    ),
    Corruption(
        "every_address_counts_its_contacts",
        "an address of nobody counts one",
        "insert into email_addresses (account_id, address, match_key, status, contact_count)"
        f" values ({ACCOUNT}, 'x', 'x', 'single_opt_in', 1)",
    ),
    Corruption(
        "decided_only_while_running",
        "decided after the cancel",
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
        "decided in a pause",
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
        "the end of a job was not noted",
        f"delete from job_states where job_id = {OPT_IN} and state = 'completed'",
    ),
    Corruption(
        "decided_only_while_running",
        "nothing was noted of a job",
        f"delete from job_states where job_id = {OPT_IN}",
    ),
    Corruption(
        "every_job_has_its_actor",
        "the submission of a job is not kept",
        f"delete from activity where job_id = {OPT_IN} and event = 'job.submitted'",
    ),
    Corruption(
        "every_job_has_its_actor",
        "a job says that another one asked",
        f"update jobs set actor_kind = 'cli', via = 'cli' where id = {OPT_IN}",
    ),
    Corruption(
        "every_job_has_its_actor",
        "a job of this version says nothing of who asked",
        f"update jobs set actor_kind = null, via = null where id = {OPT_IN}",
    ),
    Corruption(
        "every_job_has_its_actor",
        "a submission is kept twice",
        "insert into activity (account_id, actor_kind, via, event, job_id) select account_id,"
        f" actor_kind, via, event, job_id from activity where job_id = {OPT_IN}",
    ),
    *(
        Corruption(
            "every_change_of_state_has_its_actor",
            f"nobody is known to have done {act}",
            f"delete from activity where event = '{act}'",
        )
        for act in ("job.paused", "job.resumed", "job.cancelled")
    ),
    Corruption(
        "every_change_of_state_has_its_actor",
        "a confirmation is kept that never was",
        "insert into activity (account_id, actor_kind, via, event, job_id)"
        f" values ({ACCOUNT}, 'cli', 'cli', 'plan.applied', {OPT_IN})",
    ),
    Corruption(
        "activity_stays_within_its_account",
        "what was done with another account's hook is kept here",
        "with hook as (insert into hooks (account_id, source, salt)"
        " select id, 'keap', decode(repeat('00', 16), 'hex') from accounts where name = 'default'"
        " returning id) insert into activity (account_id, actor_kind, via, event, hook_id)"
        f" select {ACCOUNT}, 'cli', 'cli', 'hook.created', id from hook",
    ),
    Corruption(
        "activity_stays_within_its_account",
        "a key of another account is said to have cancelled a job",
        "with key as (insert into api_keys (account_id, name, digest, scopes)"
        " select id, 'a service', sha256(''), '{jobs:write}' from accounts where name = 'default'"
        " returning id) update activity t set actor_kind = 'key', actor_id = key.id, via = 'http'"
        " from key where t.event = 'job.cancelled'",
    ),
    Corruption(
        "activity_stays_within_its_account",
        "a hook that never was is said to have cancelled a job",
        "update activity set actor_kind = 'hook', actor_id = 99, via = 'hook_form'"
        " where event = 'job.cancelled'",
    ),
)
