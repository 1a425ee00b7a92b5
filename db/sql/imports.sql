-- Imports before their plan: their rows, and the request that they belong to.

-- name: set_request_hash!
-- Store the hash of an import's request. It is known when the file has been read to its end, which is now.
update jobs set request_hash = :request_hash, staged_at = clock_timestamp()
where account_id = :account_id and id = :job_id;

-- name: read_staged_file^
-- How many rows an import stored, and how many rows and cells it rejected. Chunks delete rows, so after the plan
-- the job's total says how many there were.
select case when j.planned_at is null
            then (select count(*) from import_rows
                  where account_id = :account_id and job_id = :job_id)
            else j.selected / cardinality(j.fields) end as rows,
       r.rejected, r.left_out
from jobs j
cross join lateral (
    select count(*) filter (where reason = any(:row_reasons::text[])) as rejected,
           count(*) filter (where reason = any(:cell_reasons::text[])) as left_out
    from import_rejections where account_id = :account_id and job_id = :job_id
) r
where j.account_id = :account_id and j.id = :job_id;
