-- The results of a job as lists of any length. Postgres writes the lines of a page as they are sent, in CSV or as
-- JSON objects. Pages begin after a key, not at an offset, so that the last of a million costs as much as the
-- first. For a page of a filtered list, at most :max_scanned rows are read.

-- name: results_page^
-- The results of a job after (item, field, cause): all, or only those that were :rejected. Rejections have their own
-- index; the two branches let the planner use the right one.
with found as materialized (
    select r.*
    from (
        (select *
         from results
         where not :rejected::boolean and account_id = :account_id and job_id = :job_id
           and (item_id, field, cause)
               > (:after_item, :after_field::bigint, :after_cause::result_cause)
         order by item_id, field, cause
         limit :max_scanned)
        union all
        (select *
         from results
         where :rejected::boolean and account_id = :account_id and job_id = :job_id
           and outcome = 'rejected'
           and (item_id, field, cause)
               > (:after_item, :after_field::bigint, :after_cause::result_cause)
         order by item_id, field, cause
         limit :max_scanned)
    ) r
    where (:reason::text is null or r.reason = :reason)
      and (:cause::result_cause is null or r.cause = :cause)
      and (:outcome::result_outcome is null or r.outcome = :outcome)
    order by r.item_id, r.field, r.cause
    limit :limit
), last as (
    select item_id, field, cause from found
    order by item_id desc, field desc, cause desc
    limit 1
), page as (
    select count(*) as rows, coalesce(string_agg(
        case when :in_csv::boolean then concat(
            s.contact_id, ',', s.field, ',', csv_cell(s.address, raw => :raw::boolean), ',',
            s.outcome, ',', s.reason, ',', s.from_status, ',', s.to_status, ',', s.cause, ',',
            csv_cell(s.source_address, raw => :raw::boolean), ',', s.decided_at, ',',
            csv_cell(s.error, raw => :raw::boolean), e'\n')
        else concat(row_to_json(s), e'\n') end,
        '' order by f.item_id, f.field, f.cause), '') as lines
    from found f
    cross join lateral (
        -- An id that belongs to no contact is shown as it was submitted.
        select case f.reason when 'contact_not_found' then f.item_id else f.contact_id end as contact_id,
               -- A job over a list of addresses has no fields.
               case f.field when 0 then 'address' else 'email' || f.field end as field,
               (select a.address from email_addresses a
                where a.account_id = :account_id and a.id = f.address_id) as address,
               f.outcome, f.reason, f.from_status, f.to_status, f.cause,
               (select a.address from email_addresses a
                where a.account_id = :account_id and a.id = f.source_address_id) as source_address,
               to_char(f.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                   as decided_at,
               case when f.reason = 'internal_error' then
                   (select c.error from job_chunks c
                    where c.account_id = :account_id and c.job_id = :job_id
                      and c.chunk_no = f.chunk_no) end as error,
               f.address_id, f.source_address_id
        -- Compute each column once, however often a line uses it.
        offset 0
    ) s
)
select page.lines, page.rows, last.item_id, last.field, last.cause
from page left join last on true;

-- name: results_scanned_to^
-- The last of the results that were read for a page.
select item_id, field, cause
from (
    (select item_id, field, cause
     from results
     where not :rejected::boolean and account_id = :account_id and job_id = :job_id
       and (item_id, field, cause)
           > (:after_item, :after_field::bigint, :after_cause::result_cause)
     order by item_id, field, cause
     offset :max_scanned - 1 limit 1)
    union all
    (select item_id, field, cause
     from results
     where :rejected::boolean and account_id = :account_id and job_id = :job_id
       and outcome = 'rejected'
       and (item_id, field, cause)
           > (:after_item, :after_field::bigint, :after_cause::result_cause)
     order by item_id, field, cause
     offset :max_scanned - 1 limit 1)
) r
limit 1;

-- name: unprocessed_page^
-- The contacts of pending chunks after a place in a chunk, from at most :chunks chunks.
with chunks as materialized (
    select chunk_no, item_ids
    from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending' and chunk_no >= :after_chunk::bigint
    order by chunk_no
    limit :chunks
), found as materialized (
    select c.chunk_no, u.place, u.item_id
    from chunks c
    cross join lateral unnest(c.item_ids) with ordinality as u (item_id, place)
    where (c.chunk_no, u.place) > (:after_chunk::bigint, :after_place)
    order by c.chunk_no, u.place
    limit :limit
), last as (
    select chunk_no, place from found order by chunk_no desc, place desc limit 1
), page as (
    select count(*) as rows, coalesce(string_agg(
        case when :in_csv::boolean then concat(item_id, e'\n')
        else concat('{"contact_id":', item_id, '}', e'\n') end,
        '' order by chunk_no, place), '') as lines
    from found
)
select page.lines, page.rows, last.chunk_no, last.place,
       (select max(chunk_no) from chunks) as last_chunk, (select count(*) from chunks) as chunks
from page left join last on true;

-- name: unprocessed_lines_page^
-- The rows of an import's file that became no contact, after the item :after, in the order of the file, which is
-- the order of their ids.
with found as materialized (
    select line, item_id
    from import_rows
    where account_id = :account_id and job_id = :job_id and item_id > :after
    order by item_id
    limit :limit
)
select count(*) as rows, max(item_id) as last, coalesce(string_agg(
    case when :in_csv::boolean then concat(line, e'\n') else concat('{"line":', line, '}', e'\n') end,
    '' order by item_id), '') as lines
from found;

-- name: unprocessed_addresses_page^
-- The listed addresses that the job did not reach, after the item :after.
with found as materialized (
    select address, item_id
    from job_addresses
    where account_id = :account_id and job_id = :job_id and item_id > :after
    order by item_id
    limit :limit
)
select count(*) as rows, max(item_id) as last, coalesce(string_agg(
    case when :in_csv::boolean then concat(csv_cell(address, raw => :raw::boolean), e'\n')
    else concat('{"address":', to_json(address), '}', e'\n') end,
    '' order by item_id), '') as lines
from found;

-- name: rejections_page^
-- The import rejections after the line :after; a page never divides those of one line.
with found as materialized (
    select line, reason, detail
    from import_rejections
    where account_id = :account_id and job_id = :job_id and line > :after
    order by line
    fetch first :limit rows with ties
)
select count(*) as rows, max(line) as last, coalesce(string_agg(
    case when :in_csv::boolean then
        concat(line, ',', reason, ',', csv_cell(detail, raw => :raw::boolean), e'\n')
    else concat(row_to_json(found), e'\n') end,
    '' order by line, reason, detail), '') as lines
from found;
