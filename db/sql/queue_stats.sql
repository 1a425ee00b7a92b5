-- What waits for workers, in all accounts.

-- name: read_queue_loads
-- For each queue: what waits for a worker in all accounts, for how long, and how much work it is. A chunk waits from
-- when it is runnable, but not before its job runs; a postponed retry does not wait yet. A job that waits to be
-- planned, counted or ended counts as one chunk.
-- `count` has a column, because counting rows would fetch the item ids of every chunk.
with recent as materialized (
    select c.job_id, sum(c.duration_ms) / 1000.0 as seconds, count(*) as chunks,
           (select j.action = any(:urgent_actions::text[]) from jobs j
            where j.account_id = c.account_id and j.id = c.job_id) as urgent
    from (
        select account_id, job_id, duration_ms from job_chunks
        where state = 'done' and duration_ms is not null and runnable_at < finished_at
          and finished_at > now() - interval '2 minutes'
        order by finished_at desc
        limit 500
    ) c
    group by c.account_id, c.job_id
), found as materialized (
    select j.id, j.state = 'planning' as plans, j.action = any(:urgent_actions::text[]) as urgent,
           greatest(
               (select max(entered_at) from job_states
                where account_id = j.account_id and job_id = j.id), j.staged_at
           ) as entered_at,
           c.pending, c.runnable, c.runnable_since,
           case when c.pending = 0 then (
               select max(finished_at) from job_chunks
               where account_id = j.account_id and job_id = j.id
           ) end as last_done_at
    from jobs j
    left join lateral (
        select count(job_id) as pending,
               count(job_id) filter (where runnable_at <= clock_timestamp()) as runnable,
               min(runnable_at) as runnable_since
        from job_chunks
        where account_id = j.account_id and job_id = j.id and state = 'pending'
    ) c on j.state = 'running'
    where j.state in ('planning', 'running')
), waiting as materialized (
    select f.urgent, f.plans,
           case when f.plans or f.pending = 0 then 1 else f.runnable end as chunks,
           case when f.plans then f.entered_at
                when f.pending = 0 then greatest(f.entered_at, f.last_done_at)
                when f.runnable > 0 then greatest(f.entered_at, f.runnable_since)
           end as since,
           case when f.plans then :plan_seconds::float8 else 0 end as plan_seconds,
           coalesce(
               (select r.seconds / r.chunks from recent r where r.job_id = f.id),
               (select sum(r.seconds) / sum(r.chunks) from recent r where r.urgent = f.urgent),
               :chunk_seconds::float8
           )::float8 as chunk_seconds
    from found f
)
select
    q.queue,
    coalesce(sum(w.chunks), 0)::bigint as pending_chunks,
    count(*) filter (where w.plans) as planning_jobs,
    greatest(coalesce(extract(epoch from clock_timestamp() - min(w.since)), 0), 0)::float8 as oldest_seconds,
    count(*) filter (where not w.plans) as running_jobs,
    coalesce(sum(w.chunks * w.chunk_seconds + w.plan_seconds), 0)::float8 as work_seconds,
    coalesce(sum(least(w.chunks, :job_concurrency::int)), 0)::bigint as lanes
from (values ('opt_outs', true), ('bulk', false)) as q (queue, urgent)
left join waiting w on w.urgent = q.urgent
group by q.queue
order by q.queue;

-- name: count_due_deliveries$
-- How many completion webhooks are due in all accounts.
select count(due_at) from webhook_deliveries
where delivered_at is null and abandoned_at is null and due_at <= now();
