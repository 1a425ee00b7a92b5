"""Building blocks of corruptions: the type, the jobs of the sample account, and common SQL."""

from typing import NamedTuple


class Corruption(NamedTuple):
    """SQL that breaks an invariant; `also` names other invariants that it unavoidably breaks."""

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


def new_job(state: str, planned_at: str, selected: str, then: str = "select 1") -> str:
    """Return SQL that inserts a job, and then runs a statement."""
    return NEW_JOB.format(state=state, planned_at=planned_at, selected=selected) + then


def address_id(key: str) -> str:
    """Return SQL for the id of an address at example.com."""
    return f"(select id from email_addresses where match_key = '{key}@example.com')"


def last_applied(key: str) -> str:
    """Return a condition for the result that gave an address its status."""
    return (
        f"ctid = (select ctid from results where address_id = {address_id(key)}"
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
