-- Freeze a job's selection into chunks.

-- name: try_plan$
-- Whether this transaction may plan the job: one at a time may, by a lock of class 7742 (docs/architecture.md). It may
-- be idle for :idle_ms only, in case its client is stopped.
select pg_try_advisory_xact_lock(7742, hashint8(:job_id))
   and set_config('idle_in_transaction_session_timeout', :idle_ms, true) is not null;

-- name: job_to_plan^
-- The job, if it waits to be planned, or, as a plan, to be counted.
select id, account_id, action, state, fields, params, selection, correlation_id, planned_at,
       started_at, selected, plan_first, confirmation
from jobs
where account_id = :account_id and id = :job_id and state = 'planning'
  and (planned_at is null or (plan_first and confirmed_at is null));

-- name: freeze_import!
-- Freeze the chunks of an import: its rows, whose ids are those of the contacts that they become.
with frozen as materialized (
    select array_agg(item_id order by item_id) as ids from import_rows
    where account_id = :account_id and job_id = :job_id
)
insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)
select :account_id, :job_id, c.chunk_no, c.item_ids, cardinality(c.item_ids) * :fields::int
from frozen cross join cut_into_chunks(frozen.ids, :chunk_size::int) c;

-- name: insert_repeats!
-- The addresses that an import has in several rows: in how many, how many persons those are (rows with the
-- same addresses are one), and the strongest of the statuses that they state for it. The rows of one address
-- are sorted together. To find the repeated addresses first and join the rows to them took twenty times as
-- long: the planner expects few of them, and compares each with all.
insert into import_repeated_addresses (account_id, job_id, match_key, contact_count, person_count, status)
select :account_id, :job_id, match_key, count(*),
       count(distinct array(select unnest(match_keys) order by 1)), max(status)
from (
    select a.match_key, a.status, r.match_keys, count(*) over (partition by a.match_key) as contacts
    from import_rows r, unnest(r.match_keys, r.statuses) as a (match_key, status)
    where r.account_id = :account_id and r.job_id = :job_id and a.match_key is not null
) addresses_of_rows
where contacts > 1
group by match_key;

-- name: freeze_selection!
-- Freeze the chunks of a job: the contacts that meet every given condition, or the listed ids that do.
with frozen as materialized (
    select array_agg(id order by id) as ids
    from (
        select c.id
        from contacts c
        where not :listed::boolean and c.account_id = :account_id
          and (:import_job::bigint is null or c.import_job_id = :import_job or c.id in (
              select m.contact_id from recognized_rows m
              where m.account_id = :account_id and m.job_id = :import_job))
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
            select distinct unnest(contact_ids) as id from job_contacts
            where account_id = :account_id and job_id = :job_id
        ) listed
        where :listed::boolean
          and (:import_job::bigint is null or listed.id in (
              select m.contact_id from recognized_rows m
              where m.account_id = :account_id and m.job_id = :import_job) or exists (
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
insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)
select :account_id, :job_id, c.chunk_no, c.item_ids, cardinality(c.item_ids) * cardinality(:fields::smallint[])
from frozen cross join cut_into_chunks(frozen.ids, :chunk_size::int) c;

-- name: close_plan^
-- The selection is frozen and the total known. The job runs, unless it was paused meanwhile or has to wait for a
-- confirmation.
update jobs
set planned_at = clock_timestamp(),
    selected = (select coalesce(sum(pairs), 0) from job_chunks
                where account_id = :account_id and job_id = :job_id),
    state = case when state = 'planning' and not plan_first then 'running'::job_state else state end
where account_id = :account_id and id = :job_id and state in ('planning', 'paused')
returning state, selected,
    (select count(*) from job_chunks where account_id = :account_id and job_id = :job_id) as chunks;

-- name: store_forecast$
-- Store the forecast of a planned job, which then waits for a confirmation (`planned`), or runs because
-- its confirmation agrees with the forecast (`running`). A drift is stored with the confirmation.
update jobs
set state = :state::job_state, forecast = :forecast::jsonb,
    confirmed_at = case when :state::job_state = 'running' then clock_timestamp() else confirmed_at end,
    confirmation = case when :drift::jsonb is null then confirmation
                        else confirmation || jsonb_build_object('drift', :drift::jsonb) end
where account_id = :account_id and id = :job_id and state = 'planning' and plan_first and planned_at is not null
returning state;

-- name: request_confirmation^
-- Store the confirmation of a plan, which is counted once more and then runs.
update jobs
set state = 'planning', confirmation = :confirmation::jsonb
where account_id = :account_id and id = :job_id and state = 'planned'
returning id, action, correlation_id;
