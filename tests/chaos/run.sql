-- The statements of the chaos run, during the run and afterwards.

-- name: contact_addresses
-- The addresses of each contact of an account, by contact and field.
select contact_id, field, address_id from contact_emails
where account_id = (select id from accounts where name = :account)
order by contact_id, field;

-- name: unfinished
-- The bulk jobs that have not ended, with their accounts, without those of faults and recipients.
select j.id, a.name as account from jobs j
join accounts a on a.id = j.account_id
where j.state in ('planning', 'running', 'paused') and j.requested_by = :requested_by
order by j.id;

-- name: paused_or_planned_jobs
-- The jobs that are paused or wait for confirmation.
select id, state::text from jobs where state in ('paused', 'planned') order by id;

-- name: active_jobs
-- The jobs that should advance, with the progress of each.
select j.id, j.state::text, count(c.*) filter (where c.state = 'done') as done
from jobs j
left join job_chunks c on c.job_id = j.id
where j.state in ('planning', 'running')
group by j.account_id, j.id
order by j.id;

-- name: job_progress
-- The progress of these jobs, and whether a worker could claim a chunk of each.
select j.id, j.state::text,
       (select count(*) from job_chunks c where c.job_id = j.id and c.state = 'done') as done,
       exists (
           select from job_chunks c
           where c.job_id = j.id and c.state = 'pending' and c.runnable_at <= clock_timestamp()
           for update skip locked
       ) as has_free_chunk
from jobs j
where j.id = any(:jobs::bigint[]);

-- name: stalled_jobs
-- The details of jobs that do not advance.
select j.id, j.action, j.state::text,
       (select count(*) from job_chunks c where c.job_id = j.id and c.state = 'pending') as pending,
       (select string_agg(format('lane %s %s for %s s, %s requeues, %s lost', l.lane, l.state,
                                 round(extract(epoch from clock_timestamp() - l.touched_at)),
                                 l.requeues, l.lost_workers), '; ' order by l.lane)
        from job_lanes l where l.job_id = j.id) as lanes
from jobs j
where j.id = any(:jobs::bigint[])
order by j.id;

-- name: state_of$
-- The state of a job.
select state::text from jobs where id = :job_id;

-- name: address_of$
-- An address as given.
select address from email_addresses where id = :address_id;

-- name: find_ineffective_opt_outs
-- The addresses whose opt-out is not in force: this one if it is not opted out, and its marketable
-- siblings. The opt-out of a role address does not reach siblings. They are not checked while an
-- import that repeats the address is running, because its end decides whether it is a role address.
select x.id, x.status::text
from email_addresses y
cross join lateral (
    select y.id as address_id, true as its_own
    union all
    select b.address_id, false
    from contact_emails a
    join contact_emails b on b.account_id = a.account_id and b.contact_id = a.contact_id
    where a.account_id = y.account_id and a.address_id = y.id and b.address_id <> y.id
      and person_count(y.contact_count, y.repeat_count) <= :limit
      and not exists (
          select from import_repeated_addresses i
          join jobs j on j.id = i.job_id
          where j.account_id = y.account_id and i.match_key = y.match_key
            and j.state in ('planning', 'running', 'paused'))
) covered
join email_addresses x on x.account_id = y.account_id and x.id = covered.address_id
where y.account_id = (select id from accounts where name = :account)
  and (y.id = :address_id::bigint or y.match_key = :match_key::text)
  and case when its_own then
          x.status not in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
      else
          x.status in ('single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable')
      end;

-- name: result_rows$
-- The number of a job's results.
select count(*) from results where job_id = :job_id;

-- name: terminate_connections$
-- Terminate all other connections of this database.
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
  and application_name <> :spared;

-- name: make_refusals#
-- Create a table of the addresses whose rows cannot be written.
create table refused_addresses (address_id bigint primary key);
create function refuse_in_chaos_run() returns trigger language plpgsql
-- The processes' role has no access to this table.
security definer set search_path = public as $$
begin
    if exists (select from refused_addresses where address_id = new.id) then
        raise exception 'the chaos run refuses to write %', new.address using errcode = 'data_exception';
    end if;
    return new;
end $$;
create trigger chaos_run_refuses before update on email_addresses
    for each row execute function refuse_in_chaos_run();

-- name: refuse_writes!
-- Refuse writes of these addresses from now on.
insert into refused_addresses select unnest(:addresses::bigint[]) on conflict do nothing;

-- name: allow_writes!
-- Allow writes of these addresses again.
delete from refused_addresses where address_id = any(:addresses::bigint[]);

-- name: job_ends
-- Every job with its keys, its state and its counts. Events that were stored together as one job have
-- several keys.
select j.id, j.account_id, a.name as account, j.state::text,
       coalesce(
           (select array_agg(idempotency_key) from merged_events m
            where m.account_id = j.account_id and m.job_id = j.id),
           array[j.idempotency_key]
       ) as keys,
       j.applied, j.unchanged, j.rejected, j.empty, j.propagated
from jobs j
join accounts a on a.id = j.account_id
order by j.id;

-- name: missing_opt_outs
-- Acknowledged opt-outs whose address is not opted out in its own right, or has no result.
select o.job_id, o.address_id, a.status::text,
       exists (
           select from results r
           where r.job_id = o.job_id and r.contact_id = o.contact_id and r.field = o.field
             and r.cause = 'direct' and r.outcome in ('applied', 'unchanged')
       ) as has_result
from unnest(:jobs::bigint[], :contacts::bigint[], :fields::smallint[], :addresses::bigint[])
    as o (job_id, contact_id, field, address_id)
join jobs j on j.id = o.job_id
left join email_addresses a on a.account_id = j.account_id and a.id = o.address_id
where a.id is null
   or a.propagated_from is not null
   or a.status not in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
   or not exists (
           select from results r
           where r.job_id = o.job_id and r.contact_id = o.contact_id and r.field = o.field
             and r.cause = 'direct' and r.outcome in ('applied', 'unchanged')
       );

-- name: missing_opt_outs_by_address
-- Opt-outs acknowledged by address whose address is not opted out in its own right or has no result of
-- the job, and later changes that made it marketable.
select o.key, y.id as address_id, y.status::text, reached.by_job, reopened.job_id as reopened_by
from unnest(:accounts::text[], :keys::text[], :match_keys::text[], :moments::timestamptz[])
    as o (account, key, match_key, answered_at)
join accounts a on a.name = o.account
left join lateral (
    select id from jobs where account_id = a.id and idempotency_key = o.key
    union all
    -- Stored as one job with others, under another key.
    select job_id from merged_events where account_id = a.id and idempotency_key = o.key
) j on true
left join email_addresses y on y.account_id = a.id and y.match_key = o.match_key
cross join lateral (
    select exists (
        select from results r
        where r.job_id = j.id and r.address_id = y.id and r.cause = 'direct'
          and r.outcome in ('applied', 'unchanged')
    ) as by_job
) reached
left join lateral (
    select r.job_id from results r
    join jobs of on of.id = r.job_id and of.account_id = a.id
    where r.address_id = y.id and r.outcome = 'applied' and r.decided_at > o.answered_at
      and r.to_status in ('single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable')
    limit 1
) reopened on true
where y.id is null
   or y.propagated_from is not null
   or y.status not in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
   or not reached.by_job
   or reopened.job_id is not null;

-- name: undelivered_webhooks
-- The ended jobs whose completion webhook was neither delivered nor abandoned.
select n.job_id from webhook_deliveries n
join jobs j on j.id = n.job_id
where j.finished_at is not null and n.delivered_at is null and n.abandoned_at is null;

-- name: leaked_ids
-- The ids of jobs and contacts that were disclosed to another account.
select t.account, t.id, 'job' as what
from unnest(:job_accounts::text[], :jobs::bigint[]) as t (account, id)
join accounts a on a.name = t.account
where not exists (select from jobs j where j.id = t.id and j.account_id = a.id)
union all
select t.account, t.id, 'contact'
from unnest(:contact_accounts::text[], :contacts::bigint[]) as t (account, id)
join accounts a on a.name = t.account
where not exists (select from contacts c where c.id = t.id and c.account_id = a.id);

-- name: internal_errors
-- The items that ended as internal errors without a fault that causes them.
select r.job_id, r.item_id, r.field, j.action from results r
join jobs j on j.id = r.job_id
where r.outcome = 'rejected' and r.reason = 'internal_error'
  and not r.item_id = any(:meant::bigint[])
order by r.job_id, r.item_id;

-- name: failed_jobs
-- The jobs that failed.
select id, action, left(regexp_replace(error, '\S+@\S+', '...', 'g'), 200) as error
from jobs where state = 'failed' order by id;

-- name: tokens$
-- How often lanes have been claimed or released so far.
select coalesce(sum(token), 0)::bigint from job_lanes;

-- name: active_job_states
-- The jobs that have or need workers.
select id, state::text from jobs where state in ('planning', 'running') order by id;

-- name: unended_jobs
-- The jobs that have not ended, with the remaining work of each.
select j.id, j.action, j.state::text,
       (select count(*) from job_chunks c where c.job_id = j.id and c.state = 'pending') as pending
from jobs j where j.state not in ('completed', 'cancelled', 'failed') order by j.id;

-- name: work_done^
-- The number of jobs, and of the (contact, field) pairs that they decided.
select count(*) as jobs, coalesce(sum(applied + unchanged + rejected), 0)::bigint as addresses,
       coalesce(sum(applied), 0)::bigint as applied, coalesce(sum(propagated), 0)::bigint as propagated
from jobs;

-- name: database_facts$
-- The contents of Postgres after the chaos run, as JSON, to compare with the logs.
select json_build_object(
    'jobs', (select json_agg(t) from (
        select j.id as job, j.account_id as account, j.action, j.state::text as state,
               concat_ws(chr(58), j.actor_kind, j.actor_id) as actor, j.via, j.correlation_id,
               j.params->>'kind' as kind, j.created_at, j.finished_at,
               extract(epoch from j.finished_at - j.created_at) as seconds,
               j.selected, j.applied, j.unchanged, j.rejected, j.empty, j.propagated,
               n.attempts as notice_attempts, n.delivered_at, n.abandoned_at
        from jobs j
        left join webhook_deliveries n on n.job_id = j.id
        order by j.id) t),
    'chunks', (select json_agg(t) from (
        select job_id as job, chunk_no as chunk, state::text as state, attempts, worker,
               cardinality(item_ids) as contacts, rejected, reasons, duration_ms
        from job_chunks
        order by job_id, chunk_no) t),
    'acts', (select json_agg(t) from (
        select at, event, concat_ws(chr(58), actor_kind, actor_id) as actor, via,
               account_id as account, job_id as job, key_id as key, hook_id as hook
        from activity
        order by id) t)
)::text;
