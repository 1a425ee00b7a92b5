-- Immediate opt-outs: jobs of one chunk that one statement stores, applies and completes.

-- name: set_idle_timeout!
-- Limit how long the transaction may be idle, in case the client vanishes.
select set_config('idle_in_transaction_session_timeout', :idle_ms, true);

-- name: insert_completed_job^
-- Store a completed job with its actor, its only chunk, its results, the addresses that it creates, and its changes
-- of addresses (as in chunk_addresses.sql). One statement, so it needs no transaction around it. No row is returned,
-- and nothing is done, if the account has a job with the same idempotency key; of two concurrent ones the second
-- waits for the first. This raises a serialization failure if an address no longer has the version that was read,
-- a unique violation if another transaction has created one of the new addresses, and a check violation if the
-- counts do not add up.
with job as (
    insert into jobs (account_id, action, state, fields, params, selection, requested_by,
                      idempotency_key, request_hash, correlation_id, selected, applied, unchanged,
                      rejected, empty, propagated, created_at, planned_at, started_at, finished_at,
                      actor_kind, actor_id, via)
    values (:account_id, :action::text, 'completed', :fields::smallint[], :params::jsonb,
            :selection::jsonb, :requested_by::text, :idempotency_key::text, :request_hash::text,
            :correlation_id::text, :selected::bigint, :applied::bigint, :unchanged::bigint,
            :rejected::bigint, :empty::bigint, :propagated::bigint,
            :received_at::timestamptz, :decided_at, :decided_at, clock_timestamp(),
            :actor_kind::text, :actor_id::bigint, :via::text)
    on conflict (account_id, idempotency_key) do nothing
    returning id, finished_at, extract(epoch from finished_at - created_at)::float8 as seconds
), activity_row as (
    insert into activity (account_id, at, actor_kind, actor_id, via, event, job_id, correlation_id)
    select :account_id, job.finished_at, :actor_kind::text, :actor_id::bigint, :via::text,
           'job.submitted', job.id, :correlation_id::text
    from job
), new_addresses as (
    insert into email_addresses (account_id, id, address, match_key, status, status_job_id)
    select :account_id, n.id, n.address, n.match_key, :new_status::email_status, job.id
    from job
    cross join unnest(:ids::bigint[], :addresses::text[], :match_keys::text[])
        as n (id, address, match_key)
    order by n.match_key
), new_results as (
    insert into results
    select r.*
    from job
    cross join result_rows(:account_id, job.id, :chunk_no, :decided_at, :results) as r
), changed as (
    update email_addresses a
    set status = c.to_status,
        previous_status = c.from_status,
        propagated_from = c.source_id,
        status_job_id = job.id,
        status_changed_at = :decided_at
    from job
    cross join unnest(:changed_ids::bigint[], :changed_from::email_status[], :changed_to::email_status[],
                      :propagated_from::bigint[], :versions::xid[])
        as c (id, from_status, to_status, source_id, version)
    where a.account_id = :account_id
      and a.id = any(:changed_ids::bigint[])
      and a.id = c.id
      and a.xmin = c.version
    returning a.id
), chunk as (
    insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, state, applied, unchanged,
                            rejected, empty, propagated, reasons, worker, duration_ms, finished_at)
    select :account_id, job.id, :chunk_no::int, :items::bigint[], :selected::bigint, 'done',
           :applied::bigint, :unchanged::bigint, :rejected::bigint, :empty::bigint, :propagated::bigint,
           :reasons::jsonb, :worker::text, :duration_ms::int, job.finished_at
    from job
)
select job.id, job.seconds,
       require_unchanged((select count(*) from changed), cardinality(:changed_ids::bigint[]))
from job;
