-- What a database administrator would type to import a file of contacts, with a result for each
-- address: COPY into a table of its own, then one statement for each table, all in one transaction.
set local work_mem = '256MB';
create temporary table staging (given text, family text, company text, email text, email2 text)
on commit drop;

-- COPY

analyze staging;

insert into jobs (account_id, action, state, fields, selection, requested_by, request_hash,
                  correlation_id, planned_at)
values (:account_id, 'import', 'running', '{1,2}', '{}', 'the administrator', '', '', now());

create temporary table numbered on commit drop as
select nextval(pg_get_serial_sequence('contacts', 'id')) as contact_id,
       currval(pg_get_serial_sequence('jobs', 'id')) as job_id, *
from staging;

insert into contacts (account_id, id, given_name, family_name, company, import_job_id)
select :account_id, contact_id, given, family, company, job_id from numbered;

-- The addresses of the contacts.
create temporary table held on commit drop as
select job_id, contact_id, field, address, lower(address) as match_key
from numbered cross join lateral (values (1, email), (2, email2)) v (field, address)
where address is not null;

analyze held;

insert into email_addresses (account_id, address, match_key, status, status_job_id, contact_count)
select :account_id, min(address), match_key, 'non_marketable', min(job_id), count(*)
from held group by match_key order by match_key
on conflict do nothing;

insert into contact_emails (account_id, contact_id, field, address_id)
select :account_id, h.contact_id, h.field, e.id
from held h join email_addresses e on e.account_id = :account_id and e.match_key = h.match_key;

insert into results (account_id, job_id, chunk_no, item_id, contact_id, address_id, outcome, to_status,
                     field)
select :account_id, job_id, 1, h.contact_id, h.contact_id, e.id, 'applied', 'non_marketable', h.field
from held h join email_addresses e on e.account_id = :account_id and e.match_key = h.match_key
order by h.contact_id, h.field;
