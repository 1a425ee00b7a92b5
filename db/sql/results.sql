-- Appending to the ledger where COPY, which takes two round trips, is more than a few rows need.

-- name: insert_few!
-- Append rows that all come from one decision of one chunk.
insert into results (job_id, chunk_no, decided_at, contact_id, field, address_id, outcome, reason,
                     from_status, to_status, cause, source_address_id)
select :job_id, :chunk_no, :decided_at, r.*
from unnest(:contact_ids::bigint[], :fields::smallint[], :address_ids::bigint[],
            :outcomes::result_outcome[], :reasons::text[], :from_statuses::email_status[],
            :to_statuses::email_status[], :causes::result_cause[], :source_ids::bigint[]) as r;
