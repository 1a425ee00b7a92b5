-- Jobs that list addresses instead of contacts: how the rows of a list find, or become, addresses.

-- name: listed^
-- The rows of a chunk, as three arrays of one order.
select coalesce(array_agg(row_id order by row_id), '{}') as row_ids,
       coalesce(array_agg(address order by row_id), '{}') as addresses,
       coalesce(array_agg(match_key order by row_id), '{}') as match_keys
from job_addresses
where job_id = :job_id and row_id = any(:row_ids::bigint[]);

-- name: resolve^
-- The address of each row, and which of them are new: those that the account did not know are made, in
-- key order, with their first status and the id that their row has drawn. A row without an id gets its
-- address's. A unique violation when another transaction made one of them at the same moment.
-- Besides, as the same moment showed it and without a lock: the other addresses of all who hold one that
-- no more contacts hold than the limit (as `neighbours` in chunks.sql), and what all of them are but
-- those that are new.
with listed as materialized (
    select l.row_id, l.address, l.match_key, e.id
    from unnest(:row_ids::bigint[], :addresses::text[], :match_keys::text[])
        as l (row_id, address, match_key)
    left join lateral (
        select id from email_addresses
        where account_id = :account_id and match_key = l.match_key
        limit 1
    ) e on true
), made as (
    insert into email_addresses (account_id, id, address, match_key, status, status_job_id)
    select :account_id, coalesce(row_id, nextval(pg_get_serial_sequence('email_addresses', 'id'))),
           address, match_key, :status::email_status, :job_id
    from listed
    where id is null
    order by match_key
    returning id, match_key
), resolved as (
    select coalesce(array_agg(coalesce(l.row_id, l.id, m.id) order by l.match_key), '{}') as row_ids,
           coalesce(array_agg(coalesce(l.id, m.id) order by l.match_key), '{}') as address_ids,
           coalesce(array_agg(m.id) filter (where m.id is not null), '{}') as new_ids
    from listed l left join made m on m.match_key = l.match_key
), beside as materialized (
    select y.id as source_id, o.contact_id, o.field, o.address_id
    from email_addresses y
    join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
    join contact_emails o
        on o.account_id = h.account_id and o.contact_id = h.contact_id and o.address_id <> y.id
    where y.account_id = :account_id
      and y.id = any(array(select id from listed where id is not null))
      and y.holders between 1 and :shared_address_limit
), neighbours as (
    select coalesce(array_agg(source_id), '{}') as source_ids,
           coalesce(array_agg(contact_id), '{}') as contact_ids,
           coalesce(array_agg(field), '{}') as fields,
           coalesce(array_agg(address_id), '{}') as beside_ids
    from beside
), known as (
    select coalesce(array_agg(id), '{}') as ids,
           coalesce(array_agg(status), '{}') as statuses,
           coalesce(array_agg(propagated_from), '{}') as sources,
           coalesce(array_agg(status_job_id), '{}') as job_ids,
           coalesce(array_agg(holders), '{}') as holders,
           coalesce(array_agg(xmin), '{}') as versions
    from email_addresses
    where account_id = :account_id
      and id = any(array(select id from listed where id is not null
                         union select address_id from beside))
)
select resolved.*, neighbours.*, known.*, clock_timestamp() as decided_at
from resolved cross join neighbours cross join known;

-- name: drop_listed!
-- The rows have their results.
delete from job_addresses where job_id = :job_id and row_id = any(:row_ids::bigint[]);

-- name: refuse_listed!
-- Keep a row that could not be done, with its line, its address and the reason.
insert into import_rejections (job_id, line, reason, detail)
select job_id, line, 'internal_error', address || ': ' || :detail::text
from job_addresses
where job_id = :job_id and row_id = :row_id;

-- name: freeze_list!
-- The chunks of a job over addresses: all rows of its list.
with frozen as materialized (
    select array_agg(row_id order by row_id) as ids from job_addresses where job_id = :job_id
)
insert into job_chunks (job_id, chunk_no, contact_ids, pairs)
select :job_id, n, part, cardinality(part)
from frozen
cross join generate_series(1, (cardinality(ids) - 1) / :chunk_size::int + 1) as n
cross join lateral (
    select ids[(n - 1) * :chunk_size::int + 1 : n * :chunk_size::int] as part
) as cut;
