-- What a request lists in a file, on its way to the job, within one transaction.

-- name: create_id_tables#
-- Contact ids as they arrive, one row for each piece of the file; and in order, in blocks.
create temporary table listed_contacts (contact_ids bigint[] not null) on commit drop;
alter table listed_contacts alter column contact_ids set storage external;
create temporary table listed_blocks (block_no int not null, contact_ids bigint[] not null) on commit drop;
alter table listed_blocks alter column contact_ids set storage external;

-- name: sort_ids$
-- Cut the distinct ids, in order, into blocks of :size, and return how many ids there are.
with ordered as materialized (
    select array_agg(id order by id) as ids
    from (select distinct unnest(contact_ids) as id from listed_contacts) listed
), kept as (
    insert into listed_blocks (block_no, contact_ids)
    select c.chunk_no - 1, c.item_ids from ordered cross join cut_into_chunks(ordered.ids, :size::int) c
)
select coalesce(cardinality(ids), 0) from ordered;

-- name: read_blocks
-- The blocks in order.
select contact_ids from listed_blocks order by block_no;

-- name: store_ids!
-- Store the blocks as what the job lists.
insert into job_contacts (account_id, job_id, block_no, contact_ids)
select :account_id, :job_id, block_no, contact_ids from listed_blocks;

-- name: create_address_table#
-- Listed addresses as they arrive.
create temporary table listed_addresses (line bigint not null, address text not null,
                                         match_key text not null) on commit drop;

-- name: deduplicate_addresses#
-- The same, each match key once, as it was first given.
create temporary table distinct_addresses on commit drop as
select distinct on (match_key) line, address, match_key
from listed_addresses
order by match_key, line;
analyze distinct_addresses;

-- name: count_addresses$
-- How many listed addresses there are.
select count(*) from distinct_addresses;

-- name: count_unknown$
-- How many of them the account does not know.
select count(*)
from distinct_addresses d
where not exists (
    select from email_addresses e where e.account_id = :account_id and e.match_key = d.match_key
);

-- name: read_match_keys
-- Their match keys in order.
select match_key from distinct_addresses order by match_key collate "C";

-- name: store_addresses!
-- Store them as what the job lists, in the order of the file.
insert into job_addresses (account_id, job_id, line, address, match_key)
select :account_id, :job_id, line, address, match_key from distinct_addresses order by line;
