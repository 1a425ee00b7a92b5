-- Lock what the chunk may change, in the order that all chunks use.
select count(*)
from (
    select
    from email_addresses
    where account_id = %(account_id)s
      and id = any(array(
          select address_id
          from contact_emails
          where account_id = %(account_id)s
            and contact_id = any(%(contact_ids)s::bigint[])
            and field = any(%(fields)s::smallint[])
      ))
    order by id
    for no key update
) locked
