-- What a database administrator would type to bring a file of contacts in, with a result for each
-- address: COPY into a table of its own, then one statement for each table, all in one transaction.

-- name: make_staging#
-- Where the file is copied to.
create temporary table staging (given text, family text, company text, email text, email2 text);

-- name: analyze_staging#
-- The planner knows nothing of it otherwise.
analyze staging;

-- name: insert_job$
-- The job that the results belong to.
insert into jobs (account_id, action, state, fields, selection, requested_by, request_hash,
                  correlation_id, planned_at)
values (:account_id, 'import', 'running', '{1,2}', '{}', 'the administrator', '', '', now())
returning id;

-- name: number_rows#
-- A contact for each row.
create temporary table numbered on commit drop as
select nextval(pg_get_serial_sequence('contacts', 'id')) as contact_id, * from staging;

-- name: insert_contacts!
-- The contacts.
insert into contacts (account_id, id, given_name, family_name, company, import_job_id)
select :account_id, contact_id, given, family, company, :job_id from numbered;

-- name: list_held#
-- The addresses of the contacts.
create temporary table held on commit drop as
select contact_id, field, address, lower(address) as match_key
from numbered cross join lateral (values (1, email), (2, email2)) v (field, address)
where address is not null;

-- name: analyze_held#
-- As above.
analyze held;

-- name: insert_addresses!
-- Each address once.
insert into email_addresses (account_id, address, match_key, status, status_job_id, holders)
select :account_id, min(address), match_key, 'non_marketable', :job_id, count(*)
from held group by match_key order by match_key
on conflict do nothing;

-- name: insert_links!
-- Who holds them.
insert into contact_emails (account_id, contact_id, field, address_id)
select :account_id, h.contact_id, h.field, e.id
from held h join email_addresses e on e.account_id = :account_id and e.match_key = h.match_key;

-- name: insert_results!
-- A result for each.
insert into results (job_id, chunk_no, contact_id, address_id, outcome, to_status, field)
select :job_id, 1, h.contact_id, e.id, 'applied', 'non_marketable', h.field
from held h join email_addresses e on e.account_id = :account_id and e.match_key = h.match_key
order by h.contact_id, h.field;
