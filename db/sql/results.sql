-- Appending results where COPY, which takes two round trips, is more than a few rows need.

-- name: insert_few!
-- Append rows that all come from one decision of one chunk.
insert into results (account_id, job_id, chunk_no, decided_at, item_id, contact_id, field, address_id,
                     outcome, reason, from_status, to_status, cause, source_address_id)
select :account_id, :job_id, :chunk_no, :decided_at, r.*
from unnest(:item_ids::bigint[], :contact_ids::bigint[], :fields::smallint[], :address_ids::bigint[],
            :outcomes::result_outcome[], :reasons::text[], :from_statuses::email_status[],
            :to_statuses::email_status[], :causes::result_cause[], :source_ids::bigint[]) as r;

-- name: find_earlier_decisions
-- The direct decisions that this job has taken on the addresses.
select distinct on (address_id) address_id, outcome, to_status, reason
from results
where account_id = :account_id and address_id = any(:address_ids::bigint[])
  and job_id = :job_id and cause = 'direct'
order by address_id, (outcome = 'applied') desc;
