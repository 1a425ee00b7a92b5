-- Jobs over a list of addresses: how listed addresses are found, or created.

-- name: read_list_rows^
-- The listed addresses of a chunk, as three parallel arrays.
select coalesce(array_agg(item_id order by item_id), '{}') as item_ids,
       coalesce(array_agg(address order by item_id), '{}') as addresses,
       coalesce(array_agg(match_key order by item_id), '{}') as match_keys
from job_addresses
where account_id = :account_id and job_id = :job_id and item_id = any(:item_ids::bigint[]);

-- name: look_up_listed^
-- The address of each item, in the order of match keys. An address that the account does not know is to be created. It
-- gets the id of its item, or else a new one. An item without an id gets that of its address. From the same snapshot,
-- without locks: the siblings of the known addresses that are no role addresses, and the status of every known address
-- and sibling.
with listed as materialized (
    select l.item_id, l.address, l.match_key, e.id as known_id,
           coalesce(e.id, l.item_id, nextval(pg_get_serial_sequence('email_addresses', 'id'))) as id
    from unnest(:item_ids::bigint[], :addresses::text[], :match_keys::text[])
        as l (item_id, address, match_key)
    left join lateral (
        select id from email_addresses
        where account_id = :account_id and match_key = l.match_key
        limit 1
    ) e on true
), found as (
    select coalesce(array_agg(coalesce(item_id, id) order by match_key), '{}') as item_ids,
           coalesce(array_agg(id order by match_key), '{}') as address_ids,
           coalesce(array_agg(id order by match_key) filter (where known_id is null), '{}') as new_ids,
           coalesce(array_agg(address order by match_key) filter (where known_id is null), '{}')
               as new_addresses,
           coalesce(array_agg(match_key order by match_key) filter (where known_id is null), '{}')
               as new_keys
    from listed
), siblings as materialized (
    select y.id as source_id, o.contact_id, o.field, o.address_id
    from email_addresses y
    join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
    join contact_emails o
        on o.account_id = h.account_id and o.contact_id = h.contact_id and o.address_id <> y.id
    where y.account_id = :account_id
      and y.id = any(array(select known_id from listed where known_id is not null))
      and y.contact_count >= 1
      and person_count(y.contact_count, y.repeat_count) <= :role_address_limit
), sibling_links as (
    select coalesce(array_agg(source_id), '{}') as source_ids,
           coalesce(array_agg(contact_id), '{}') as contact_ids,
           coalesce(array_agg(field), '{}') as fields,
           coalesce(array_agg(address_id), '{}') as sibling_ids
    from siblings
), known as (
    select coalesce(array_agg(id), '{}') as ids,
           coalesce(array_agg(status), '{}') as statuses,
           coalesce(array_agg(propagated_from), '{}') as sources,
           coalesce(array_agg(status_job_id), '{}') as job_ids,
           coalesce(array_agg(person_count(contact_count, repeat_count)), '{}') as person_counts,
           coalesce(array_agg(xmin), '{}') as versions
    from email_addresses
    where account_id = :account_id
      and id = any(array(select known_id from listed where known_id is not null
                         union select address_id from siblings))
)
select found.*, sibling_links.*, known.*, clock_timestamp() as decided_at
from found cross join sibling_links cross join known;

-- name: find_known_keys
-- Which of the match keys the account has an address for, and whether a contact holds it.
select match_key, contact_count > 0 as is_held from email_addresses
where account_id = :account_id and match_key = any(:match_keys::text[]);

-- name: insert_listed!
-- Create the new addresses, in the order of match keys. This raises a unique violation if another transaction has
-- created one of them meanwhile.
insert into email_addresses (account_id, id, address, match_key, status, status_job_id)
select :account_id, n.id, n.address, n.match_key, :status::email_status, :job_id
from unnest(:ids::bigint[], :addresses::text[], :match_keys::text[]) as n (id, address, match_key)
order by n.match_key;

-- name: delete_listed!
-- Delete the listed addresses of a chunk, which have their results.
delete from job_addresses
where account_id = :account_id and job_id = :job_id and item_id = any(:item_ids::bigint[]);

-- name: reject_listed!
-- Replace the listed address on which its chunk failed by an import rejection, with its line and the detail.
with deleted as (
    delete from job_addresses
    where account_id = :account_id and job_id = :job_id and item_id = :item_id
    returning line, address
)
insert into import_rejections (account_id, job_id, line, reason, detail)
select :account_id, :job_id, line, 'internal_error', address || ': ' || :detail::text from deleted;

-- name: freeze_list!
-- Freeze the chunks of a job over a list of addresses.
with frozen as materialized (
    select array_agg(item_id order by item_id) as ids from job_addresses
    where account_id = :account_id and job_id = :job_id
)
insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs)
select :account_id, :job_id, c.chunk_no, c.item_ids, cardinality(c.item_ids)
from frozen cross join cut_into_chunks(frozen.ids, :chunk_size::int) c;
