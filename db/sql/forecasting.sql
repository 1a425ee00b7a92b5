-- What a planned job would do, counted over its frozen selection and changing nothing. The rules are not
-- here: an address is told by a code, twice the place of its status in :statuses (from 1), and one less
-- where the status had not spread; what the rules say of each code comes as an array.
--
-- Most addresses are on one contact, and all that matters for them is on that contact: they are counted
-- slice by slice. Those on several contacts are counted once for all slices.

-- name: join_by_hash!
-- Slices are joined by hashing: the planner takes each for a handful, and would compare all with all.
select set_config('enable_nestloop', 'off', true), set_config('work_mem', :memory, true);

-- name: plan_for_values!
-- Plan each statement for the values at hand: of a small selection the shared addresses are looked up,
-- and of a large one all are gone over.
select set_config('enable_nestloop', 'on', true), set_config('work_mem', :memory, true),
       set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: is_large$
-- Whether the selection is a good part of all contacts that there are.
select coalesce(sum(cardinality(item_ids)), 0) * 20
       > (select greatest(reltuples, 0) from pg_class where oid = 'contacts'::regclass)
from job_chunks where account_id = :account_id and job_id = :job_id and state = 'pending';

-- name: last_chunk$
-- The number of the last chunk of the plan; 0 where there is none.
select coalesce(max(chunk_no), 0) from job_chunks
where account_id = :account_id and job_id = :job_id and state = 'pending';

-- name: count_slice
-- Of the contacts of some chunks: the addresses that no other contact holds, in the job's fields, by
-- field, code, whether an opt-out beside them spreads to them, and whether the contact has the address
-- there for the first time. The row without a field says to how many others an opt-out would be propagated:
-- :sources and :role_sources tell, as bits, from which of the rules' propagations an address is a source, and
-- :reach which of them reach it.
-- Contacts are alike that hold addresses of the same codes in the same fields: of each kind one is looked
-- at, for so many as there are of it. There are a few hundred kinds.
with links as materialized (
    select contact_id, field, address_id from contact_emails
    where account_id = :account_id and contact_id = any(array(
        select unnest(item_ids) from job_chunks
        where account_id = :account_id and job_id = :job_id and state = 'pending'
          and chunk_no between :first and :last))
), known as materialized (
    select id, contact_count, person_count(contact_count, repeat_count) as person_count,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id and id = any(array(select address_id from links))
), held as materialized (
    select l.contact_id, l.field, l.address_id, k.contact_count, k.person_count, k.code
    from links l join known k on k.id = l.address_id
), by_contact as (
    -- What an address is fits into 10 bits: its code, and whether it is shared, and a role address.
    select contact_id,
           bit_or((code * 4 + (contact_count > 1)::int + (person_count > :shared_address_limit)::int)::bigint
                  << (10 * field)) as kinds,
           max(address_id) filter (where field = 1) as first,
           max(address_id) filter (where field = 2) as second,
           max(address_id) filter (where field = 3) as third
    from held
    group by contact_id
), alike as (
    select min(contact_id) as contact_id, count(*) as contacts
    from by_contact
    group by kinds, first = second, first = third, second = third
), looked_at as (
    select h.*, a.contacts,
           case when h.field = any(:fields::smallint[]) then h.address_id end as selected,
           h.person_count <= :shared_address_limit and (:spreading::int[])[h.code] = 1 as spreads,
           case when h.field <> all(:fields::smallint[]) then 0
                when h.person_count > :shared_address_limit then (:role_sources::int[])[h.code]
                else (:sources::int[])[h.code] end as source
    from alike a join held h on h.contact_id = a.contact_id
), seen as (
    select l.*,
           count(*) filter (where spreads) over person - spreads::int > 0
               and (:sibling_sensitive::int[])[code] = 1 as beside,
           address_id in (lag(selected) over fields, lag(selected, 2) over fields) is true as again,
           address_id in (lead(selected) over fields, lead(selected, 2) over fields) is true
               or address_id in (lag(address_id) over fields, lag(address_id, 2) over fields) is true
               as elsewhere,
           bit_or(source) over person & (:reach::int[])[code] <> 0 as propagated
    from looked_at l
    window person as (partition by contact_id), fields as (partition by contact_id order by field)
)
select field, code, beside, not again as first, sum(contacts)::bigint as rows
from seen
where contact_count <= 1 and selected is not null
group by field, code, beside, again
union all
select null, null, null, null, coalesce(sum(contacts), 0)::bigint
from seen
where contact_count <= 1 and selected is null and propagated and not elsewhere;

-- name: count_shared
-- Of all contacts of the job: the addresses that several contacts hold, told as in a slice. The contact
-- with the lowest id has an address first.
with selected as materialized (
    select unnest(item_ids) as id from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending'
), shared as materialized (
    select id, contact_count, person_count(contact_count, repeat_count) as person_count,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id and contact_count > 1
      and (:large::boolean or id = any(array(
          select e.address_id from selected s
          join contact_emails e on e.account_id = :account_id and e.contact_id = s.id)))
), links as materialized (
    select e.contact_id, e.field, a.id as address_id, a.code, a.person_count, s.id is not null as chosen
    from shared a
    join contact_emails e on e.account_id = :account_id and e.address_id = a.id
    left join selected s on s.id = e.contact_id
), rows as materialized (
    select field, address_id, code,
           row_number() over (partition by address_id order by contact_id, field) = 1 as first
    from links
    where chosen and field = any(:fields::smallint[])
), beside as materialized (
    select distinct x.address_id
    from rows r
    join links x on x.address_id = r.address_id
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = x.contact_id
        and o.address_id <> x.address_id
    join email_addresses y
        on y.account_id = :account_id and y.id = o.address_id
        and person_count(y.contact_count, y.repeat_count) <= :shared_address_limit
    where r.first and (:sibling_sensitive::int[])[r.code] = 1
      and (:spreading::int[])[2 * array_position(:statuses::email_status[], y.status) - 1
              + (y.propagated_from is not null)::int] = 1
)
select r.field, r.code, b.address_id is not null as beside, r.first, count(*) as rows
from rows r left join beside b on b.address_id = r.address_id
group by 1, 2, 3, 4;

-- name: count_propagated$
-- To how many addresses an opt-out would be propagated, besides those that were counted by slices: such as
-- several contacts hold, and such as stand beside a shared one of the selection, on whatever contact.
with selected as materialized (
    select unnest(item_ids) as id from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending'
), shared as materialized (
    select id, contact_count, person_count(contact_count, repeat_count) as person_count,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id and contact_count > 1
      and (:large::boolean or id = any(array(
          select e.address_id from selected s
          join contact_emails e on e.account_id = :account_id and e.contact_id = s.id)))
), links as materialized (
    select e.contact_id, e.field, a.id as address_id, a.code, a.person_count, s.id is not null as chosen
    from shared a
    join contact_emails e on e.account_id = :account_id and e.address_id = a.id
    left join selected s on s.id = e.contact_id
), known as not materialized (
    select id, contact_count, person_count(contact_count, repeat_count) as person_count,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id
), chosen as materialized (
    select distinct address_id as id from links where chosen and field = any(:fields::smallint[])
), beside_selected as (
    select x.address_id as id
    from links x
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = x.contact_id
        and o.field = any(:fields::smallint[]) and o.address_id <> x.address_id
    join known y on y.id = o.address_id
    where x.chosen and x.field <> all(:fields::smallint[])
      and (:reach::int[])[x.code] & case when y.person_count > :shared_address_limit
              then (:role_sources::int[])[y.code] else (:sources::int[])[y.code] end <> 0
), beyond as materialized (
    select x.id, x.code, x.contact_count, h.contact_id, h.chosen, o.field
    from links h
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = h.contact_id
        and o.address_id <> h.address_id
    join known x on x.id = o.address_id
    where h.person_count <= :shared_address_limit
      and (:reach::int[])[x.code] & (:beyond_sources::int[])[h.code] <> 0
      and h.address_id in (select id from chosen)
), counted_by_slices as (
    select b.id
    from beyond b
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = b.contact_id
        and o.field = any(:fields::smallint[]) and o.address_id <> b.id
    join known y on y.id = o.address_id
    where b.contact_count <= 1 and b.chosen
      and (:reach::int[])[b.code] & case when y.person_count > :shared_address_limit
              then (:role_sources::int[])[y.code] else (:sources::int[])[y.code] end <> 0
), propagated as (
    select id from beside_selected
    union
    select id from beyond
    except
    select id from counted_by_slices
    except
    select id from chosen
    except
    select id from beyond where chosen and field = any(:fields::smallint[])
)
select count(*) from propagated;

-- name: count_missing$
-- How many of the selected ids are of no contact; a selection that lists none has none of those.
select count(*)
from (
    select unnest(item_ids) as id from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending'
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
where l.account_id = :account_id and l.job_id = :job_id
group by 1;

-- name: count_propagated_by_list$
-- To how many addresses an opt-out would be propagated from a list, on whatever contact.
with listed as materialized (
    select a.id, 2 * array_position(:statuses::email_status[], a.status) - 1
               + (a.propagated_from is not null)::int as code,
           person_count(a.contact_count, a.repeat_count) as person_count
    from job_addresses l
    join email_addresses a on a.account_id = :account_id and a.match_key = l.match_key
    where l.account_id = :account_id and l.job_id = :job_id
)
select count(distinct x.id)
from listed y
join contact_emails h on h.account_id = :account_id and h.address_id = y.id
join contact_emails o
    on o.account_id = :account_id and o.contact_id = h.contact_id and o.address_id <> y.id
join email_addresses x on x.account_id = :account_id and x.id = o.address_id
where y.person_count <= :shared_address_limit
  and (:reach::int[])[2 * array_position(:statuses::email_status[], x.status) - 1
          + (x.propagated_from is not null)::int] & (:beyond_sources::int[])[y.code] <> 0
  and not exists (select from listed l where l.id = x.id);
