-- Append few results: COPY takes two round trips, which does not pay for them.

-- name: insert_results!
-- Append results of one chunk that were decided at the same time.
insert into results
select * from result_rows(:account_id, :job_id, :chunk_no, coalesce(:decided_at, clock_timestamp()), :results);

-- name: find_earlier_decisions
-- This job's direct decision on each of the addresses; if there are several, one that was applied.
-- Each address is looked up by itself. `is not distinct from` keeps the planner from using the index of a job's
-- results. If a job is newer than the planner's statistics, the planner expects one row of it. With that index it
-- would then read all results of the job for each chunk.
select r.address_id, r.outcome, r.to_status, r.reason
from unnest(:address_ids::bigint[]) as a (id)
cross join lateral (
    select address_id, outcome, to_status, reason
    from results
    where account_id = :account_id and address_id = a.id
      and job_id is not distinct from :job_id and cause = 'direct'
    order by (outcome = 'applied') desc
    limit 1
) r;
