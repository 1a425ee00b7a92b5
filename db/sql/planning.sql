-- Freezing a job's selection into chunks.

-- name: try_plan$
-- Whether this transaction may plan the job: one at a time. A client that is stopped in the middle of
-- it is not waited for for long.
select pg_try_advisory_xact_lock(7742, hashint8(:job_id))
   and set_config('idle_in_transaction_session_timeout', :idle_ms, true) is not null;

-- name: job_to_plan^
-- The job, if it waits for its plan.
select id, account_id, action, state, fields, params, selection, correlation_id
from jobs
where id = :job_id and state = 'planning' and planned_at is null;

-- name: freeze_import!
-- The chunks of an import: the contacts that its uploaded rows will become.
with frozen as materialized (
    select array_agg(contact_id order by contact_id) as ids from import_rows where job_id = :job_id
)
insert into job_chunks (job_id, chunk_no, contact_ids, pairs)
select :job_id, n, part, cardinality(part) * :fields::int
from frozen
cross join generate_series(1, (cardinality(ids) - 1) / :chunk_size::int + 1) as n
cross join lateral (
    select ids[(n - 1) * :chunk_size::int + 1 : n * :chunk_size::int] as part
) as cut;

-- name: note_repeats!
-- The addresses that an import brings on more than one contact.
insert into import_repeats (job_id, match_key, contacts)
select :job_id, match_key, count(*)
from import_rows r, unnest(r.match_keys) as match_key
where r.job_id = :job_id and match_key is not null
group by match_key
having count(*) > 1;

-- name: freeze_selection!
-- The chunks of a job: the contacts that meet every condition given, listed ids as they are. All ids
-- are gathered in one array and cut, which takes a tenth of what numbering the rows would.
with frozen as materialized (
    select array_agg(id order by id) as ids
    from (
        select c.id
        from contacts c
        where not :listed::boolean and c.account_id = :account_id
          and (:import_job::bigint is null or c.import_job_id = :import_job)
          and (:tag::text is null or c.id in (
              select ct.contact_id from contact_tags ct
              where ct.account_id = :account_id and ct.tag_id = (
                  select t.id from tags t where t.account_id = :account_id and t.name = :tag)))
          and (:statuses::email_status[] is null or c.id in (
              select e.contact_id from contact_emails e
              join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
              where e.account_id = :account_id and e.field = any(:fields::smallint[])
                and a.status = any(:statuses::email_status[])))
        union all
        select listed.id
        from (
            select distinct unnest(contact_ids) as id from job_contacts where job_id = :job_id
        ) listed
        where :listed::boolean
          and (:import_job::bigint is null or exists (
              select from contacts c where c.account_id = :account_id and c.id = listed.id
                and c.import_job_id = :import_job))
          and (:tag::text is null or listed.id in (
              select ct.contact_id from contact_tags ct
              where ct.account_id = :account_id and ct.tag_id = (
                  select t.id from tags t where t.account_id = :account_id and t.name = :tag)))
          and (:statuses::email_status[] is null or exists (
              select from contact_emails e
              join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
              where e.account_id = :account_id and e.contact_id = listed.id
                and e.field = any(:fields::smallint[])
                and a.status = any(:statuses::email_status[])))
    ) selected
)
insert into job_chunks (job_id, chunk_no, contact_ids, pairs)
select :job_id, n, part, cardinality(part) * cardinality(:fields::smallint[])
from frozen
cross join generate_series(1, (cardinality(ids) - 1) / :chunk_size::int + 1) as n
cross join lateral (
    select ids[(n - 1) * :chunk_size::int + 1 : n * :chunk_size::int] as part
) as cut;

-- name: close_plan^
-- The plan stands: the total is known, and the job runs unless it was paused meanwhile.
update jobs
set planned_at = clock_timestamp(),
    selected = (select coalesce(sum(pairs), 0) from job_chunks where job_id = :job_id),
    state = case when state = 'planning' then 'running'::job_state else state end
where id = :job_id and state in ('planning', 'paused')
returning state, selected,
    (select count(*) from job_chunks where job_id = :job_id) as chunks;
