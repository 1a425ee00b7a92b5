-- Imports at the door: what was staged, and for which request.

-- name: set_request_hash!
-- The hash of an import's request, known once its file was read to the end, which is now.
update jobs set request_hash = :request_hash, staged_at = clock_timestamp()
where account_id = :account_id and id = :job_id;

-- name: read_staged_file^
-- How many contacts an import staged, how many rows it refused and how many cells it left out.
-- The rows go as they are worked; from the plan on, the job's total tells how many there were.
select case when j.planned_at is null
            then (select count(*) from import_rows
                  where account_id = :account_id and job_id = :job_id)
            else j.selected / cardinality(j.fields) end as rows,
       r.refused, r.left_out
from jobs j
cross join lateral (
    select count(*) filter (where reason = any(:row_reasons::text[])) as refused,
           count(*) filter (where reason = any(:cell_reasons::text[])) as left_out
    from import_rejections where account_id = :account_id and job_id = :job_id
) r
where j.account_id = :account_id and j.id = :job_id;
