-- Contact lists, as an import of two addresses each leaves them, and settings of the server.

-- name: next_ids$
-- An id above those of all contacts and addresses.
select 1 + greatest((select max(id) from contacts), (select max(id) from email_addresses), 0);

-- name: make_contacts!
-- Contacts with consecutive ids.
insert into contacts (account_id, id)
select :account_id, :first::bigint + n from generate_series(0, :contacts::int - 1) n;

-- name: make_addresses!
-- Two addresses for each contact, with consecutive ids, without evidence of permission.
insert into email_addresses (account_id, id, address, match_key, status, status_job_id, contact_count)
select :account_id, :first::bigint + n, address, address, 'non_marketable', 0, 1
from generate_series(0, 2 * :contacts::int - 1) n,
     lateral (select left(md5(n::text), 12) || '.' || n || '@example.com' as address) made;

-- name: make_links!
-- The addresses in the contacts' fields email1 and email2.
insert into contact_emails (account_id, contact_id, field, address_id)
select :account_id, :first::bigint + n, f, :first::bigint + 2 * n + f - 1
from generate_series(0, :contacts::int - 1) n, generate_series(1, 2) f;

-- name: make_mixed_addresses!
-- Two addresses for each contact, as in a list that has been mailed for years; the n-th contact's class
-- decides. One in a hundred shares email2 with the next one, one in a hundred with one half a list
-- away, and one in two hundred shares email1 with the next one. The email2 of one in 20,000 is a role
-- address, held by up to 20 others. An opt-out was propagated to 30 of 1000 addresses.
insert into email_addresses (account_id, id, address, match_key, status, previous_status,
                             propagated_from, contact_count)
select :account_id, :first::bigint + 2 * n + f - 1, made.address, made.address,
       made.status::email_status,
       case when made.spread then 'non_marketable'::email_status end,
       case when made.spread then :first::bigint + 2 * n end,
       case when f = 2 and n % 20000 = 0
            then 1 + least(20, greatest(0, (:contacts::int - n - 500 + 999) / 1000))
            when f = 2 and n % 100 = 98 and n + 1 < :contacts::int then 2
            when f = 2 and n % 100 = 49 and n < half and n + half < :contacts::int then 2
            when f = 1 and n % 200 = 120 and n + 1 < :contacts::int then 2
            else 1 end
from generate_series(0, :contacts::int - 1) n, generate_series(1, 2) f,
     lateral (select 100 * (:contacts::int / 200) as half) list,
     lateral (
         -- Contacts that share an address are in class 0, so that only the sharing is special.
         select case when n % 100 in (49, 98, 99) or n % 200 in (120, 121) or n % 1000 in (500, 0) then 0
                     else (n * 7919::bigint) % 1000 end as class
     ) drawn,
     lateral (
         select left(md5((2 * n + f)::text), 12) || '.' || :first::bigint + 2 * n + f
                    || '@example.com' as address,
                class between 930 and 959 and f = 2 as spread,
                case when class < 760 then 'non_marketable'
                     when class < 840 then case f when 1 then 'single_opt_in' else 'non_marketable' end
                     when class < 860 then 'confirmed'
                     when class < 880 then 'unengaged_non_marketable'
                     when class < 910 then case f when 1 then 'hard_bounce' else 'non_marketable' end
                     when class < 930 then case f when 1 then 'bounce' else 'non_marketable' end
                     when class < 960 then 'manual'
                     when class < 980 then case f when 1 then 'non_marketable'
                                           else 'list_unsubscribe' end
                     when class < 990 then case f when 1 then 'admin' else 'non_marketable' end
                     else case f when 1 then 'feedback' else 'spam' end end as status
     ) made
where not (f = 2 and (n % 100 = 99 or n % 1000 = 500 or (n % 100 = 49 and half <= n and n < 2 * half)))
  and not (f = 1 and n % 200 = 121);

-- name: make_mixed_links!
-- The contacts' email1 and email2. Some are those of the previous contact, of one half a list before,
-- or a role address.
insert into contact_emails (account_id, contact_id, field, address_id)
select :account_id, :first::bigint + n, f,
       :first::bigint + case when f = 2 and n % 100 = 99 then 2 * (n - 1) + 1
                             when f = 1 and n % 200 = 121 then 2 * (n - 1)
                             when f = 2 and n % 100 = 49 and half <= n and n < 2 * half
                             then 2 * (n - half) + 1
                             when f = 2 and n % 1000 = 500 then 2 * (n - n % 20000) + 1
                             else 2 * n + f - 1 end
from generate_series(0, :contacts::int - 1) n, generate_series(1, 2) f,
     lateral (select 100 * (:contacts::int / 200) as half) list;

-- name: move_sequences
-- Move the sequences beyond these ids.
select setval(pg_get_serial_sequence('contacts', 'id'), :last::bigint),
       setval(pg_get_serial_sequence('email_addresses', 'id'), :last::bigint);

-- name: first_addresses
-- The address in field email1 of each contact.
select a.address
from contact_emails e
join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
where e.account_id = :account_id and e.field = 1
order by e.contact_id;

-- name: server_settings
-- The settings that affect the figures.
select name, current_setting(name) as value from pg_settings
where name in ('server_version', 'shared_buffers', 'fsync', 'synchronous_commit', 'full_page_writes',
               'max_wal_size', 'checkpoint_timeout', 'wal_compression', 'random_page_cost', 'jit')
order by name;
