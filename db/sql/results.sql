-- Append few results: COPY takes two round trips, which does not pay for them.

-- name: insert_results!
-- Append results of one chunk that were decided at the same time.
insert into results
select * from result_rows(:account_id, :job_id, :chunk_no, coalesce(:decided_at, clock_timestamp()), :results);

-- name: find_earlier_decisions
-- The direct decision that this job has taken on each of the addresses; an applied one, if there is one.
-- Each address is looked up by itself, and `is not distinct from` keeps the index of a job's results out.
-- Of a job that the planner's statistics do not know it expects one row, and would read all results of
-- the job for each chunk.
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
