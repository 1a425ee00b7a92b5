-- Invariants of jobs, their chunks and their actors. Each query returns the violations. It only reads, and reads each
-- large table once, so it suits a production database.
--
-- A violation has account, job, contact and address where they apply, a text of ids, statuses and times (never an
-- address or a name), and the number of violations in all. :account_id selects one account, null all of them; :limit
-- is how many violations to return.
--
-- Each query is one statement, so it sees one snapshot. All invariants but `every_job_has_ended` hold at every moment,
-- because a chunk commits as a whole.

-- name: every_job_has_ended
-- Jobs that wait to be planned or run. If no job is in work there are none; a paused job may wait.
select j.account_id, j.id as job_id,
       format('%s since %s', j.state,
              (select max(s.entered_at) from job_states s
               where s.account_id = j.account_id and s.job_id = j.id)) as detail,
       count(*) over () as violations
from jobs j
where j.state in ('planning', 'running')
  and (:account_id::bigint is null or j.account_id = :account_id)
order by j.id
limit :limit;

-- name: every_pair_is_accounted_for
-- Jobs whose chunks do not have exactly the pairs that were selected, or that completed although some are missing. A
-- split chunk is represented by its halves. If ids are the only condition, all of them are selected. A job without
-- a plan has no chunks.
with planned as (
    select c.account_id, c.job_id,
           coalesce(sum(c.pairs) filter (where c.state <> 'split'), 0) as pairs,
           count(*) filter (where c.state = 'pending') as pending,
           count(*) filter (
               where c.chunk_no > 0
                 and c.pairs <> cardinality(c.item_ids) * cardinality(j.fields)
           ) as of_wrong_size,
           count(*) filter (
               where c.state = 'done'
                 and c.pairs <> c.applied + c.unchanged + c.rejected + c.empty
           ) as not_adding_up
    from job_chunks c
    join jobs j on j.account_id = c.account_id and j.id = c.job_id
    where :account_id::bigint is null or c.account_id = :account_id
    group by c.account_id, c.job_id
), listed as (
    select l.account_id, l.job_id, sum(cardinality(l.contact_ids)) as contacts
    from job_contacts l
    group by l.account_id, l.job_id
), compared as (
    select j.account_id, j.id as job_id, concat_ws('; ',
        case when j.planned_at is null and (j.selected is not null or p.job_id is not null) then
            'chunks or a total without a plan' end,
        case when j.planned_at is not null and j.selected is distinct from coalesce(p.pairs, 0) then
            format('%s pairs selected, %s in chunks', coalesce(j.selected::text, 'no'),
                   coalesce(p.pairs, 0)) end,
        case when p.of_wrong_size > 0 then
            format('%s chunks whose pairs are not their items times fields', p.of_wrong_size) end,
        case when p.not_adding_up > 0 then
            format('%s done chunks do not add up', p.not_adding_up) end,
        case when j.planned_at is not null and j.selection - 'contacts' = '{}'
              and j.selection ? 'contacts' and j.selected
              is distinct from (j.selection ->> 'contacts')::bigint * cardinality(j.fields) then
            format('%s contacts requested, %s pairs selected', j.selection ->> 'contacts',
                   coalesce(j.selected::text, 'no')) end,
        case when j.planned_at is not null and j.selection ? 'addresses' and j.selected
              is distinct from (j.selection ->> 'addresses')::bigint then
            format('%s addresses requested, %s selected', j.selection ->> 'addresses',
                   coalesce(j.selected::text, 'no')) end,
        case when l.contacts is distinct from (j.selection ->> 'contacts')::bigint
              and l.job_id is not null then
            format('%s contacts requested, %s listed', coalesce(j.selection ->> 'contacts', 'no'),
                   l.contacts) end,
        case when j.state = 'completed' and p.pending > 0 then
            format('completed with %s chunks pending', p.pending) end,
        case when j.state = 'completed'
              and j.selected is distinct from j.applied + j.unchanged + j.rejected + j.empty then
            format('completed with %s pairs of %s', j.applied + j.unchanged + j.rejected + j.empty,
                   coalesce(j.selected::text, 'no')) end
    ) as detail
    from jobs j
    left join planned p on p.account_id = j.account_id and p.job_id = j.id
    left join listed l on l.account_id = j.account_id and l.job_id = j.id
    where :account_id::bigint is null or j.account_id = :account_id
)
select account_id, job_id, detail, count(*) over () as violations
from compared
where detail <> ''
order by job_id
limit :limit;

-- name: job_counts_are_those_of_its_chunks
-- Ended jobs whose counts are not the sums of their done chunks. The counts of other jobs lag.
select j.account_id, j.id as job_id,
       format('the job says %s applied, %s unchanged, %s rejected, %s empty, %s propagated;'
              ' its chunks %s, %s, %s, %s, %s',
              j.applied, j.unchanged, j.rejected, j.empty, j.propagated,
              c.applied, c.unchanged, c.rejected, c.empty, c.propagated) as detail,
       count(*) over () as violations
from jobs j
cross join lateral job_sums(j.account_id, j.id) c
where j.state in ('completed', 'cancelled', 'failed')
  and (:account_id::bigint is null or j.account_id = :account_id)
  and (j.applied, j.unchanged, j.rejected, j.empty, j.propagated)
      is distinct from (c.applied, c.unchanged, c.rejected, c.empty, c.propagated)
order by j.id
limit :limit;

-- name: decided_only_while_running
-- Chunks that were decided or done while their job was not running: before its plan, after a pause had answered, or
-- after its end. Not a violation: chunk 0, the end of an import, when a paused import is cancelled. Also jobs whose
-- state is not the last one recorded, on which this relies.
with standing as (
    select s.account_id, s.job_id, s.state, s.entered_at,
           lead(s.state) over course as next_state,
           coalesce(lead(s.entered_at) over course, 'infinity') as left_at
    from job_states s
    window course as (partition by s.account_id, s.job_id order by s.entered_at)
), decided as (
    select w.account_id, w.job_id, w.chunk_no, min(w.first) as first, max(w.last) as last
    from (
        select account_id, job_id, chunk_no, min(decided_at) as first, max(decided_at) as last
        from results group by account_id, job_id, chunk_no
        union all
        select account_id, job_id, chunk_no, finished_at, finished_at from job_chunks where state = 'done'
    ) w
    group by w.account_id, w.job_id, w.chunk_no
), untimely as (
    select d.account_id, d.job_id, d.chunk_no,
           format('chunk %s was decided between %s and %s, the job was %s from %s on',
                  d.chunk_no, d.first, d.last, s.state, s.entered_at) as detail
    from decided d
    join standing s on s.account_id = d.account_id and s.job_id = d.job_id
    where s.state <> 'running' and d.last > s.entered_at and d.first < s.left_at
      and not (d.chunk_no = 0 and s.state = 'paused' and s.next_state is not distinct from 'cancelled')
    union all
    select j.account_id, j.id, 0, format('is %s, last recorded as %s', j.state, coalesce(s.state::text, 'nothing'))
    from jobs j
    left join standing s on s.account_id = j.account_id and s.job_id = j.id and s.left_at = 'infinity'
    where s.state is distinct from j.state
)
select u.account_id, u.job_id, u.detail, count(*) over () as violations
from untimely u
where :account_id::bigint is null or u.account_id = :account_id
order by u.job_id, u.chunk_no, u.detail
limit :limit;

-- name: every_job_has_its_actor
-- Jobs whose actor is not that of their submission: there is exactly one event, by the same actor via the same entry
-- point. Jobs without an actor have none.
select j.account_id, j.id as job_id,
       format('job of %s, submitted %s times by %s', coalesce(j.actor_kind, 'no actor'),
              count(t.id), coalesce(min(t.actor_kind), 'no actor')) as detail,
       count(*) over () as violations
from jobs j
left join activity t
    on t.account_id = j.account_id and t.job_id = j.id and t.event = 'job.submitted'
where :account_id::bigint is null or j.account_id = :account_id
group by j.account_id, j.id
having count(t.id) <> (j.actor_kind is not null)::int
    or bool_or((j.actor_kind, j.actor_id, j.via) is distinct from (t.actor_kind, t.actor_id, t.via))
order by j.id
limit :limit;

-- name: every_change_of_state_has_its_actor
-- Jobs whose state changes and activity differ in number. A job without an actor may lack some activity.
with steps as (
    select account_id, job_id, state,
           lag(state) over (partition by account_id, job_id order by entered_at) as before
    from job_states
), events as (
    select account_id, job_id, 1 as happened, 0 as kept,
           case when state = 'paused' then 'job.paused'
                when state = 'cancelled' then 'job.cancelled'
                when before = 'paused' and state in ('planning', 'running') then 'job.resumed'
                when before = 'planned' and state = 'planning' then 'plan.applied'
           end as event
    from steps
    union all
    select account_id, job_id, 0, 1, event
    from activity where job_id is not null and event <> 'job.submitted'
), counted as (
    select account_id, job_id, event, sum(happened) as happened, sum(kept) as kept
    from events
    where event is not null
    group by account_id, job_id, event
    having sum(happened) <> sum(kept)
)
select j.account_id, c.job_id,
       format('%s happened %s times, and is recorded %s times', c.event, c.happened, c.kept) as detail,
       count(*) over () as violations
from counted c
join jobs j on j.account_id = c.account_id and j.id = c.job_id
where (j.actor_kind is not null or c.kept > c.happened)
  and (:account_id::bigint is null or j.account_id = :account_id)
order by c.job_id, c.event
limit :limit;

-- name: activity_stays_within_its_account
-- Activity whose subject or actor belongs to another account.
select t.account_id, t.job_id,
       format('event %s, %s by %s %s', t.id, t.event, t.actor_kind, t.actor_id) as detail,
       count(*) over () as violations
from activity t
left join jobs j on j.account_id = t.account_id and j.id = t.job_id
left join api_keys k on k.account_id = t.account_id and k.id = t.key_id
left join hooks h on h.account_id = t.account_id and h.id = t.hook_id
left join api_keys by_key
    on t.actor_kind = 'key' and by_key.account_id = t.account_id and by_key.id = t.actor_id
left join hooks by_hook
    on t.actor_kind = 'hook' and by_hook.account_id = t.account_id and by_hook.id = t.actor_id
where (:account_id::bigint is null or t.account_id = :account_id)
  and ((t.event not like 'account.%' and coalesce(j.id, k.id, h.id) is null)
       or (t.actor_kind = 'key' and by_key.id is null)
       or (t.actor_kind = 'hook' and by_hook.id is null))
order by t.id
limit :limit;
