-- The whole opt-in of an account's contacts as one statement: $1 account, $2 job, $3 fields.
--
-- All parts see the addresses as they were before the statement. An address in several rows is changed
-- once, by the first of them.
with rules (status, outcome, reason) as (
    values ('non_marketable'::email_status, 'applied'::result_outcome, null::text),
           ('single_opt_in', 'unchanged', 'already_marketable'),
           ('double_opt_in', 'unchanged', 'already_marketable'),
           ('confirmed', 'unchanged', 'already_marketable'),
           ('unengaged_marketable', 'unchanged', 'already_marketable'),
           ('unengaged_non_marketable', 'rejected', 'unengaged'),
           ('lockdown', 'rejected', 'locked_down'),
           ('bounce', 'rejected', 'bounced'),
           ('hard_bounce', 'rejected', 'hard_bounced'),
           ('invalid', 'rejected', 'invalid_address'),
           ('deactivated', 'rejected', 'deactivated_mailbox'),
           ('system', 'rejected', 'system_suppressed'),
           ('admin', 'rejected', 'opted_out_by_account'),
           ('manual', 'rejected', 'opted_out_by_recipient'),
           ('list_unsubscribe', 'rejected', 'opted_out_by_recipient'),
           ('feedback', 'rejected', 'complained'),
           ('spam', 'rejected', 'complained')
), beside as materialized (
    select distinct o.address_id
    from email_addresses y
    join contact_emails h on h.account_id = y.account_id and h.address_id = y.id
    join contact_emails o
        on o.account_id = h.account_id and o.contact_id = h.contact_id and o.address_id <> y.id
    where y.account_id = $1 and y.propagated_from is null and y.contact_count <= 10
      and y.status in ('admin', 'manual', 'list_unsubscribe', 'feedback', 'spam')
), several as materialized (
    select address_id, min(contact_id * 10 + field) as first_row
    from contact_emails
    where account_id = $1 and field = any($3::smallint[])
    group by address_id
    having count(*) > 1
), changed as (
    update email_addresses a
    set status = 'single_opt_in', previous_status = status, propagated_from = null,
        status_job_id = $2, status_changed_at = clock_timestamp()
    where account_id = $1 and status = 'non_marketable'
      and not exists (select from beside b where b.address_id = a.id)
      and exists (select from contact_emails e
                  where e.account_id = $1 and e.address_id = a.id and e.field = any($3::smallint[]))
)
insert into results (account_id, job_id, chunk_no, item_id, contact_id, field, address_id, outcome,
                     reason, from_status, to_status, decided_at)
select $1::bigint, $2, 1, e.contact_id, e.contact_id, e.field, e.address_id,
       case when refused then 'rejected' when again then 'unchanged' else r.outcome end,
       case when refused then 'sibling_opted_out' when again then 'same_address_in_job'
            else r.reason end,
       case when again then 'single_opt_in' else a.status end,
       case when r.outcome = 'applied' and not refused and not again
            then 'single_opt_in'::email_status end,
       clock_timestamp()
from contact_emails e
join email_addresses a on a.account_id = e.account_id and a.id = e.address_id
join rules r on r.status = a.status
left join beside b on b.address_id = e.address_id
left join several s on s.address_id = e.address_id,
lateral (select r.outcome = 'applied' and b.address_id is not null as refused) x,
lateral (
    select r.outcome = 'applied' and not refused
           and coalesce(e.contact_id * 10 + e.field > s.first_row, false) as again
) y
where e.account_id = $1 and e.field = any($3::smallint[])
