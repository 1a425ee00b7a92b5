-- What the storm asks the database while it rages, and afterwards.

-- name: people
-- The addresses of each contact of an account, by contact and field.
select contact_id, field, address_id from contact_emails
where account_id = (select id from accounts where name = :account)
order by contact_id, field;

-- name: unfinished
-- The bulk jobs that have not ended, with their accounts; the faults' own and the recipients' not.
select id, account_id from jobs
where state in ('planning', 'running', 'paused') and requested_by = :requested_by
order by id;

-- name: paused
-- The jobs that are paused.
select id from jobs where state = 'paused' order by id;

-- name: at_work
-- The jobs that should move, and how far each is.
select j.id, j.state::text, count(c.*) filter (where c.state = 'done') as done
from jobs j
left join job_chunks c on c.job_id = j.id
where j.state in ('planning', 'running')
group by j.id
order by j.id;

-- name: standing
-- How far some jobs are, and whether a worker could take a chunk of each.
select j.id, j.state::text,
       (select count(*) from job_chunks c where c.job_id = j.id and c.state = 'done') as done,
       exists (
           select from job_chunks c
           where c.job_id = j.id and c.state = 'pending' and c.runnable_at <= clock_timestamp()
           for update skip locked
       ) as has_free_chunk
from jobs j
where j.id = any(:jobs::bigint[]);

-- name: standstill
-- What is known of jobs that do not move.
select j.id, j.action, j.state::text,
       (select count(*) from job_chunks c where c.job_id = j.id and c.state = 'pending') as pending,
       (select string_agg(format('lane %s %s for %s s, %s silent rings, %s lost', l.lane, l.state,
                                 round(extract(epoch from clock_timestamp() - l.touched_at)),
                                 l.silent_rings, l.lost), '; ' order by l.lane)
        from job_lanes l where l.job_id = j.id) as lanes
from jobs j
where j.id = any(:jobs::bigint[])
order by j.id;

-- name: state_of$
-- The state of a job.
select state::text from jobs where id = :job_id;

-- name: is_opted_out$
-- Whether an address is opted out.
select status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
from email_addresses where id = :address_id;

-- name: result_rows$
-- How many rows of results a job has.
select count(*) from results where job_id = :job_id;

-- name: terminate_connections$
-- End the connections of all others in this database.
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
  and application_name <> :spared;

-- name: make_refusals#
-- Let a table name addresses whose rows cannot be written.
create table storm_refusals (address_id bigint primary key);
create function refuse_in_storm() returns trigger language plpgsql as $$
begin
    if exists (select from storm_refusals where address_id = new.id) then
        raise exception 'the storm refuses to write %', new.address using errcode = 'data_exception';
    end if;
    return new;
end $$;
create trigger storm_refuses before update on email_addresses
    for each row execute function refuse_in_storm();

-- name: refuse_writes!
-- Refuse writes of these addresses from now on.
insert into storm_refusals select unnest(:addresses::bigint[]) on conflict do nothing;

-- name: allow_writes!
-- Allow writes of these addresses again.
delete from storm_refusals where address_id = any(:addresses::bigint[]);

-- name: jobs_of_keys
-- The jobs that have these idempotency keys.
select j.id, a.name as account, j.idempotency_key from jobs j
join accounts a on a.id = j.account_id
where j.idempotency_key = any(:keys::text[]);

-- name: unkept_opt_outs
-- Acknowledged opt-outs whose address is not opted out in its own right, or has no result of it.
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

-- name: internal_errors
-- The contacts that ended as internal errors though no fault of the storm's was meant for them.
select r.job_id, r.contact_id, r.field, j.action from results r
join jobs j on j.id = r.job_id
where r.outcome = 'rejected' and r.reason = 'internal_error'
  and not r.contact_id = any(:meant::bigint[])
order by r.job_id, r.contact_id;

-- name: failed_jobs
-- The jobs that failed.
select id, action, left(regexp_replace(error, '\S+@\S+', '...', 'g'), 200) as error
from jobs where state = 'failed' order by id;

-- name: unended_jobs
-- The jobs that have not ended, and what is left of each.
select j.id, j.action, j.state::text,
       (select count(*) from job_chunks c where c.job_id = j.id and c.state = 'pending') as pending
from jobs j where j.state not in ('completed', 'cancelled', 'failed') order by j.id;

-- name: work_done^
-- How many jobs there were, and how many (contact, field) pairs they decided.
select count(*) as jobs, coalesce(sum(applied + unchanged + rejected), 0)::bigint as addresses,
       coalesce(sum(applied), 0)::bigint as applied, coalesce(sum(propagated), 0)::bigint as propagated
from jobs;
