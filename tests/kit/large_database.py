"""A database large enough that Postgres plans for it as for millions of rows.

One account holds half of everything, and thirty others share the rest. Every growing table has so
many rows that a full scan is never the cheapest way to the few rows of a statement.
"""

import asyncpg

CONTACTS = 100_000
CONTACTS_OF_LARGEST = 50_000
ROLE_HOLDERS = 2_500
CHUNK = 2_500

ACCOUNT = 1
"""The default account, which is the largest."""
OPT_OUT = 2988
"""A running opt-out of that account; half of its chunks are done."""
NO_RESULTS_YET = 2994
"""Another running opt-out, whose results are unknown to the planner's statistics."""
IMPORT = 3000
"""A running import of that account whose rows are waiting."""
FIRST_ROW = 200_000
"""The item of the first of these rows; from there on every second number is one of them."""
ROLE_ADDRESS = 1_000_000
"""An address with thousands of contacts and thousands of results. Shared ones follow it."""

FILL = f"""
insert into accounts (name) select 'account' || n from generate_series(1, 30) n;

create temporary table places as
select n as contact_id,
       case when n <= {CONTACTS_OF_LARGEST} then first else first + 1 + n % 30 end as account_id
from generate_series(1, {CONTACTS}) n, (select min(id) as first from accounts) a;

insert into jobs (account_id, action, state, fields, selection, requested_by, idempotency_key,
                  request_hash, correlation_id, planned_at, started_at, finished_at, selected)
select first + case when n % 2 = 0 then 0 else n % 31 end,
       case when n % 50 = 0 then 'import' when n % 3 = 0 then 'opt_out' else 'opt_in' end,
       case when n > 2980 then 'running' when n > 2960 then 'planning' else 'completed'
       end::job_state,
       '{{1,2}}', '{{}}', 'somebody', 'key' || n, '', '',
       case when n not between 2961 and 2980 then now() end,
       case when n not between 2961 and 2980 then now() end,
       case when n <= 2960 then now() end, 0
from generate_series(1, 3000) n, (select min(id) as first from accounts) a;

insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, state, applied, error)
select account_id, id, chunk_no, '{{}}', 100, s.state,
       case when s.state = 'done' then 100 else 0 end, 'it broke'
from jobs j
cross join lateral generate_series(1, case when j.state = 'running' then 100 else 4 end) chunk_no
cross join lateral (
    select case when j.state = 'running' and chunk_no > 50 then 'pending'
                else 'done' end::chunk_state as state) s
where j.state <> 'planning';

insert into job_lanes (account_id, job_id, lane)
select account_id, id, lane from jobs, generate_series(0, 7) lane
where id % 3 = 0 or state = 'running';

insert into job_contacts (account_id, job_id, block_no, contact_ids)
select account_id, id, block_no, array(select generate_series(1, 200))
from jobs, generate_series(1, 2) block_no;

insert into activity (account_id, actor_kind, via, event, job_id)
select account_id, 'cli', 'cli', 'job.submitted', id from jobs, generate_series(1, 3);

insert into merged_events (account_id, idempotency_key, request_hash, job_id)
select account_id, 'event' || id || '.' || n, '', id from jobs, generate_series(1, 5) n;

insert into api_keys (account_id, name, digest, scopes)
select a.id, 'key' || n, sha256(n::text::bytea), '{{jobs:read}}'
from accounts a, generate_series(1, 300) n;

insert into job_addresses (account_id, job_id, item_id, line, address, match_key)
select j.account_id, j.id, 3 * {ROLE_ADDRESS} + n, n, key, key
from generate_series(1, 50000) n
join jobs j on j.id = case when n <= 25000 then 2000 + n % 950 else {OPT_OUT} end
cross join lateral (select 'listed' || n || '@host.example' as key) k;

insert into webhook_deliveries (account_id, job_id, url, due_at, delivered_at)
select account_id, id, 'https://shop.example/ended', coalesce(finished_at, 'infinity'),
       case when id <= 2950 then finished_at end
from jobs;

insert into hooks (account_id, source, salt)
select id, 'sender' || n, decode(repeat('00', 16), 'hex')
from accounts, generate_series(1, 100) n;

insert into contacts
    (account_id, id, given_name, family_name, company, import_job_id, external_id)
select account_id, contact_id, 'Ann', 'Other', 'A Company', 50 + 50 * (contact_id % 50),
       'id' || contact_id
from places;

insert into recognized_rows (account_id, job_id, item_id, contact_id)
select j.account_id, j.id, 10 * {FIRST_ROW} + contact_id, contact_id
from places join jobs j on j.id = 50 + 50 * (contact_id % 58)
where contact_id % 4 = 0;

insert into email_addresses (account_id, id, address, match_key, status, contact_count)
select account_id, 2 * contact_id - 2 + field, key, key,
       case when contact_id % 20 = 0 then 'admin' else 'confirmed' end::email_status, 1
from places, generate_series(1, 2) field,
     lateral (select (1000000 + contact_id) || '.' || field || '@host.example' as key) k;

insert into email_addresses (account_id, id, address, match_key, status, contact_count)
select first, {ROLE_ADDRESS} + n, key, key, 'confirmed',
       case when n = 0 then {ROLE_HOLDERS} else 4 end
from (select min(id) as first from accounts) a, generate_series(0, 500) n,
     lateral (select 'shared' || n || '@host.example' as key) k
order by n;

alter table email_addresses alter id restart with {2 * ROLE_ADDRESS};

create temporary table links as
select account_id, contact_id, field::smallint, 2 * contact_id - 2 + field as address_id
from places, generate_series(1, 2) field
union all
select account_id, contact_id, 3,
       {ROLE_ADDRESS} + case when contact_id % 20 = 0 then 0 else 1 + (contact_id / 20) % 500 end
from places
where contact_id <= {CONTACTS_OF_LARGEST}
  and (contact_id % 20 = 0 or contact_id % 20 = 7 and contact_id <= 40000);

insert into contact_emails (account_id, contact_id, field, address_id)
select account_id, contact_id, field, address_id from links;

insert into tags (account_id, id, name)
select id, n, 'tag' || n from accounts, generate_series(1, 50) n;

insert into contact_tags (account_id, tag_id, contact_id)
select account_id, 1 + contact_id % 50, contact_id from places where contact_id % 3 = 0;

insert into import_repeated_addresses (account_id, job_id, match_key, contact_count, person_count)
select j.account_id, j.id, 'shared' || n || '@host.example', 2, 2
from generate_series(0, 12000) n join jobs j on j.id = 50 + 50 * (n % 58);

insert into import_rejections (account_id, job_id, line, reason, detail)
select j.account_id, j.id, n, 'invalid_address', 'no address'
from generate_series(1, 30000) n join jobs j on j.id = 50 + 50 * (n % 60);

insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     reason, from_status, to_status, decided_at)
select account_id, j.id, 1 + contact_id / {CHUNK}, contact_id, contact_id, field, address_id,
       case when rejected then 'rejected' else 'applied' end::result_outcome,
       case when rejected then 'bounced' end, 'confirmed',
       case when not rejected then 'admin' end::email_status,
       now() - make_interval(mins => (3000 - j.id)::int, secs => contact_id / {CHUNK})
from links cross join (values (2901), (2934), ({OPT_OUT})) j (id)
cross join lateral (select contact_id % 10 = 3 as rejected) r
where contact_id <= {CONTACTS_OF_LARGEST} or j.id = 2901;
"""

RUNNING_IMPORT = f"""
insert into import_rows (account_id, job_id, item_id, line, addresses, match_keys)
select {ACCOUNT}, {IMPORT} - 50 * (n % 2), {FIRST_ROW} + n, n, array[key, key || '2', null],
       array[key, key || '2', null]
from generate_series(1, 30000) n, lateral (select 'new' || n || '@host.example' as key) k;

insert into import_repeated_addresses (account_id, job_id, match_key, contact_count, person_count)
select {ACCOUNT}, {IMPORT}, 'shared' || n || '@host.example', 2, 2 from generate_series(0, 2000) n;
"""
"""Rows that the planner's statistics do not cover yet, as for an import that has just begun."""


async def fill(connection: asyncpg.Connection) -> None:
    """Fill an empty, migrated database, which takes some seconds."""
    await connection.execute(FILL)
    await connection.execute("vacuum (analyze)")
    await connection.execute(RUNNING_IMPORT)
