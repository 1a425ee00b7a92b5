-- Lock what the chunk may change, in the order that all chunks use: what its contacts hold, and what
-- stands beside their shared addresses on other contacts.
with mine as materialized (
    select e.address_id, e.field, a.holders
    from contact_emails e
    join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
    where e.account_id = %(account_id)s and e.contact_id = any(%(contact_ids)s::bigint[])
), around as (
    select o.address_id
    from mine m
    join contact_emails h on h.account_id = %(account_id)s and h.address_id = m.address_id
    join contact_emails o on o.account_id = h.account_id and o.contact_id = h.contact_id
    where m.field = any(%(fields)s::smallint[])
      and m.holders between 2 and %(shared_address_limit)s
)
select count(*)
from (
    select
    from email_addresses
    where account_id = %(account_id)s
      and id in (select address_id from mine union select address_id from around)
    order by id
    for no key update
) locked
