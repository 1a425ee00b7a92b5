-- Appending results where COPY, which takes two round trips, is more than a few rows need.

-- name: insert_results!
-- Append rows of one chunk that were decided at one moment.
insert into results
select * from result_rows(:account_id, :job_id, :chunk_no, coalesce(:decided_at, clock_timestamp()), :results);

-- name: find_earlier_decisions
-- The direct decisions that this job has taken on the addresses.
select distinct on (address_id) address_id, outcome, to_status, reason
from results
where account_id = :account_id and address_id = any(:address_ids::bigint[])
  and job_id = :job_id and cause = 'direct'
order by address_id, (outcome = 'applied') desc;
