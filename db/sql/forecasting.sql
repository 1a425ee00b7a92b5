-- What a planned job would do, counted over its frozen selection and changing nothing. The rules are not
-- here: an address is told by a code, twice the place of its status in :statuses (from 1), and one less
-- where the status had not spread; what the rules say of each code comes as an array.
--
-- Most addresses are on one contact, and all that matters for them is on that contact: they are counted
-- slice by slice. Those on several contacts are counted once for all slices.

-- name: join_by_hash!
-- Slices are joined by hashing: the planner takes each for a handful, and would compare all with all.
select set_config('enable_nestloop', 'off', true), set_config('work_mem', :memory, true);

-- name: join_as_fits!
-- Where the selection is a good part of all there is, go over tables once, and otherwise look up each.
select set_config('work_mem', :memory, true),
       set_config('enable_nestloop', case when s.selected * 20 > t.rows then 'off' else 'on' end, true)
from (
    select coalesce(sum(cardinality(contact_ids)), 0) as selected
    from job_chunks where job_id = :job_id and state = 'pending'
) s
cross join (
    select greatest(reltuples, 0) as rows from pg_class where oid = 'contact_emails'::regclass
) t;

-- name: last_chunk$
-- The number of the last chunk of the plan; 0 where there is none.
select coalesce(max(chunk_no), 0) from job_chunks where job_id = :job_id and state = 'pending';

-- name: count_slice
-- Of the contacts of some chunks: the addresses that no other contact holds, in the job's fields, by
-- field, code, whether an opt-out beside them spreads to them, and whether the contact has the address
-- there for the first time. The row without a field says how many further ones would be reached: :sources
-- and :role_sources tell, as bits, from which of the rules' spreads an address is a source, and :reach
-- which of them reach it.
with links as materialized (
    select contact_id, field, address_id from contact_emails
    where account_id = :account_id and contact_id = any(array(
        select unnest(contact_ids) from job_chunks
        where job_id = :job_id and state = 'pending' and chunk_no between :first and :last))
), known as materialized (
    select id, holders,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id and id = any(array(select address_id from links))
), held as (
    select l.contact_id, l.field, l.address_id, k.holders, k.code,
           case when l.field = any(:fields::smallint[]) then l.address_id end as selected,
           k.holders <= :shared_address_limit and (:spreading::int[])[k.code] = 1 as spreads,
           case when l.field <> all(:fields::smallint[]) then 0
                when k.holders > :shared_address_limit then (:role_sources::int[])[k.code]
                else (:sources::int[])[k.code] end as source
    from links l join known k on k.id = l.address_id
), seen as (
    select h.*,
           count(*) filter (where spreads) over person - spreads::int > 0
               and (:minding::int[])[code] = 1 as beside,
           address_id in (lag(selected) over fields, lag(selected, 2) over fields) is true as again,
           address_id in (lead(selected) over fields, lead(selected, 2) over fields) is true as later,
           bit_or(source) over person & (:reach::int[])[code] <> 0 as reached
    from held h
    window person as (partition by contact_id), fields as (partition by contact_id order by field)
)
select field, code, beside, not again as first, count(*) as rows
from seen
where holders <= 1 and selected is not null
group by field, code, beside, again
union all
select null, null, null, null, count(*)
from seen
where holders <= 1 and selected is null and reached and not again and not later;

-- name: count_shared
-- Of all contacts of the job: the addresses that several contacts hold, told as in a slice. The contact
-- with the lowest id has an address first.
with selected as materialized (
    select unnest(contact_ids) as id from job_chunks where job_id = :job_id and state = 'pending'
), rows as materialized (
    select e.contact_id, e.field, a.id as address_id,
           2 * array_position(:statuses::email_status[], a.status) - 1
               + (a.propagated_from is not null)::int as code,
           row_number() over (partition by a.id order by e.contact_id, e.field) = 1 as first
    from selected s
    join contact_emails e
        on e.account_id = :account_id and e.contact_id = s.id and e.field = any(:fields::smallint[])
    join email_addresses a
        on a.account_id = :account_id and a.id = e.address_id and a.holders > 1
), beside as materialized (
    select distinct x.address_id
    from rows x
    join contact_emails h on h.account_id = :account_id and h.address_id = x.address_id
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = h.contact_id
        and o.address_id <> x.address_id
    join email_addresses y
        on y.account_id = :account_id and y.id = o.address_id
        and y.holders <= :shared_address_limit
    where x.first and (:minding::int[])[x.code] = 1
      and (:spreading::int[])[2 * array_position(:statuses::email_status[], y.status) - 1
              + (y.propagated_from is not null)::int] = 1
)
select r.field, r.code, b.address_id is not null as beside, r.first, count(*) as rows
from rows r left join beside b on b.address_id = r.address_id
group by 1, 2, 3, 4;

-- name: count_reached$
-- How many further addresses the spread would reach besides those that were counted by slices: such as
-- several contacts hold, and such as stand beside a shared one of the selection, on whatever contact.
with selected as materialized (
    select unnest(contact_ids) as id from job_chunks where job_id = :job_id and state = 'pending'
), known as (
    select id, holders,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id
), chosen as materialized (
    select distinct a.id, a.code, a.holders
    from selected s
    join contact_emails e
        on e.account_id = :account_id and e.contact_id = s.id and e.field = any(:fields::smallint[])
    join known a on a.id = e.address_id and a.holders > 1
), beside_selected as (
    select x.id, x.code
    from selected s
    join contact_emails e
        on e.account_id = :account_id and e.contact_id = s.id and e.field <> all(:fields::smallint[])
    join known x on x.id = e.address_id and x.holders > 1
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = s.id and o.field = any(:fields::smallint[])
        and o.address_id <> x.id
    join known y on y.id = o.address_id
    where (:reach::int[])[x.code] & case when y.holders > :shared_address_limit
              then (:role_sources::int[])[y.code] else (:sources::int[])[y.code] end <> 0
), beyond as (
    select x.id, x.holders, h.contact_id
    from chosen y
    join contact_emails h on h.account_id = :account_id and h.address_id = y.id
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = h.contact_id and o.address_id <> y.id
    join known x on x.id = o.address_id
    where y.holders <= :shared_address_limit
      and (:reach::int[])[x.code] & (:beyond_sources::int[])[y.code] <> 0
), counted_by_slices as (
    select b.id
    from beyond b
    join selected s on s.id = b.contact_id
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = s.id and o.field = any(:fields::smallint[])
        and o.address_id <> b.id
    join known y on y.id = o.address_id
    join known x on x.id = b.id
    where b.holders <= 1
      and (:reach::int[])[x.code] & case when y.holders > :shared_address_limit
              then (:role_sources::int[])[y.code] else (:sources::int[])[y.code] end <> 0
), reached as materialized (
    select id from beside_selected
    union
    select id from beyond
    except
    select id from counted_by_slices
)
select count(*)
from reached r
where not exists (
    select from contact_emails e
    join selected s on s.id = e.contact_id
    where e.account_id = :account_id and e.address_id = r.id and e.field = any(:fields::smallint[])
);

-- name: count_missing$
-- How many of the selected ids are of no contact; a selection that lists none has none of those.
select count(*)
from (
    select unnest(contact_ids) as id from job_chunks where job_id = :job_id and state = 'pending'
) s
where not exists (select from contacts c where c.account_id = :account_id and c.id = s.id);

-- name: count_listed
-- Of a list of addresses: those listed by code, null where the account does not know them.
select case when a.id is not null then
           2 * array_position(:statuses::email_status[], a.status) - 1
               + (a.propagated_from is not null)::int end as code,
       count(*) as rows
from job_addresses l
left join email_addresses a on a.account_id = :account_id and a.match_key = l.match_key
where l.job_id = :job_id
group by 1;

-- name: count_reached_by_list$
-- How many further addresses the spread of a list would reach, on whatever contact.
with listed as materialized (
    select a.id, 2 * array_position(:statuses::email_status[], a.status) - 1
               + (a.propagated_from is not null)::int as code,
           a.holders
    from job_addresses l
    join email_addresses a on a.account_id = :account_id and a.match_key = l.match_key
    where l.job_id = :job_id
)
select count(distinct x.id)
from listed y
join contact_emails h on h.account_id = :account_id and h.address_id = y.id
join contact_emails o
    on o.account_id = :account_id and o.contact_id = h.contact_id and o.address_id <> y.id
join email_addresses x on x.account_id = :account_id and x.id = o.address_id
where y.holders <= :shared_address_limit
  and (:reach::int[])[2 * array_position(:statuses::email_status[], x.status) - 1
          + (x.propagated_from is not null)::int] & (:beyond_sources::int[])[y.code] <> 0
  and not exists (select from listed l where l.id = x.id);
