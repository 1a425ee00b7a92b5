-- Lock what the chunk may change, in the order that all chunks use: its contacts' addresses, and the
-- siblings of shared ones on other contacts.
with mine as materialized (
    select address_id, field
    from contact_emails
    where account_id = %(account_id)s and contact_id = any(%(contact_ids)s::bigint[])
), around as (
    select o.address_id
    from mine m
    join email_addresses a on a.account_id = %(account_id)s and a.id = m.address_id
    join contact_emails h on h.account_id = a.account_id and h.address_id = a.id
    join contact_emails o on o.account_id = h.account_id and o.contact_id = h.contact_id
    where m.field = any(%(fields)s::smallint[])
      and a.contact_count > 1 and a.contact_count <= %(role_address_limit)s
)
select count(*)
from (
    select
    from email_addresses
    where account_id = %(account_id)s
      and id = any(array(select address_id from mine union select address_id from around))
    order by id
    for no key update
) locked
