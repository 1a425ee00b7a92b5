-- Jobs of one chunk that are stored, worked and ended in a single transaction.

-- name: store_running^
-- Store a job that runs already; no row when there is no such account, or the account has a job
-- with the same idempotency key. Of two at once with one key the second waits for the first. The
-- transaction may then not last for ever, whatever becomes of the client.
insert into jobs (account_id, action, state, fields, params, selection, requested_by,
                  idempotency_key, request_hash, correlation_id, selected,
                  created_at, planned_at, started_at)
select a.id, :action::text, 'running', :fields::smallint[], :params::jsonb, :selection::jsonb,
       :requested_by::text, :idempotency_key::text, :request_hash::text, :correlation_id::text,
       :selected::bigint, now.at, now.at, now.at
from accounts a
cross join (select clock_timestamp() as at) now
where a.name = :account
on conflict (account_id, idempotency_key) do nothing
returning id, account_id, planned_at,
    set_config('idle_in_transaction_session_timeout', :idle_ms, true);

-- name: complete^
-- Append the results, give the addresses their new status where they are still of the version that was
-- read (as in chunks.sql), note the only chunk as done and end the job, which is one round trip and not
-- four. Fewer `changed` than were to be: roll back. The database refuses counts that do not add up.
with noted as (
    insert into results (job_id, chunk_no, decided_at, contact_id, field, address_id, outcome, reason,
                         from_status, to_status, cause, source_address_id)
    select :job_id, :chunk_no, :decided_at, r.*
    from unnest(:contact_ids::bigint[], :fields::smallint[], :address_ids::bigint[],
                :outcomes::result_outcome[], :reasons::text[], :from_statuses::email_status[],
                :to_statuses::email_status[], :causes::result_cause[], :source_ids::bigint[]) as r
), changed as (
    update email_addresses a
    set status = c.to_status,
        previous_status = c.from_status,
        propagated_from = c.source_id,
        status_job_id = :job_id,
        status_changed_at = :decided_at
    from unnest(:changed_ids::bigint[], :changed_from::email_status[], :changed_to::email_status[],
                :changed_by::bigint[], :versions::xid[])
        as c (id, from_status, to_status, source_id, version)
    where a.account_id = :account_id
      and a.id = any(:changed_ids::bigint[])
      and a.id = c.id
      and a.xmin = c.version
    returning a.id
), chunk as (
    insert into job_chunks (job_id, chunk_no, contact_ids, pairs, state, applied, unchanged,
                            rejected, empty, propagated, reasons, worker, duration_ms, finished_at)
    select id, :chunk_no::int, :rows::bigint[], selected, 'done', :applied::int,
           :unchanged::int, :rejected::int, :empty::int, :propagated::int, :by_reason::jsonb,
           :worker::text, :duration_ms::int, clock_timestamp()
    from jobs
    where id = :job_id
)
update jobs
set state = 'completed', finished_at = clock_timestamp(), applied = :applied,
    unchanged = :unchanged, rejected = :rejected, empty = :empty, propagated = :propagated
where id = :job_id
returning (select count(*) from changed) as changed,
          selected, applied, unchanged, rejected, empty, propagated,
          extract(epoch from finished_at - created_at)::float8 as seconds;
