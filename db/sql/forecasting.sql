-- What a planned job would do, counted over its frozen selection. Nothing is changed. The rules are not here: each
-- address has a code, twice the position of its status in :statuses (from 1), less one unless the status was
-- propagated. What the rules say about each code comes as an array.
--
-- Most addresses have one contact. They are counted in groups of chunks. Addresses of several contacts are counted
-- once, for all chunks together.

-- name: join_by_hash!
-- Join by hashing: the planner does not know how many contacts a chunk lists, expects few, and would compare all pairs.
-- Let the transaction use :memory for each sort and hash.
select set_config('enable_nestloop', 'off', true), set_config('work_mem', :memory, true);

-- name: avoid_merge_joins!
-- Let the transaction join by nothing but hashing, after `join_by_hash`. A merge join may sort by the first columns
-- of a key only, such as the account and the job. It would then compare all pairs of rows of a job.
select set_config('enable_mergejoin', 'off', true);

-- name: plan_for_values!
-- Plan each statement for its values. Addresses of several contacts are looked up for a small selection; for a large
-- one, all of them are read.
select set_config('enable_nestloop', 'on', true), set_config('work_mem', :memory, true),
       set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: is_large$
-- Whether the selection has more than a twentieth of all contacts.
select coalesce(sum(cardinality(item_ids)), 0) * 20
       > (select greatest(reltuples, 0) from pg_class where oid = 'contacts'::regclass)
from job_chunks where account_id = :account_id and job_id = :job_id and state = 'pending';

-- name: get_last_chunk_no$
-- The number of the last chunk of the plan; 0 if it has none.
select coalesce(max(chunk_no), 0) from job_chunks
where account_id = :account_id and job_id = :job_id and state = 'pending';

-- name: count_held_once
-- For the contacts of some chunks: the addresses that no other contact holds, in the job's fields, by field, code,
-- whether a sibling's opt-out is propagated to them, and whether it is the contact's first field with the address. The
-- row without a field says to how many other addresses an opt-out would be propagated. Bits stand for the rules'
-- propagations: those of which an address is the source (:sources, :role_sources), and those that would change it
-- (:changed_by).
-- Contacts with the same codes in the same fields are of one kind. One contact of each kind is examined, and
-- counted as often as the kind occurs. There are a few hundred kinds.
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
    -- An address fits into 10 bits: its code, whether several contacts hold it, and whether it is a role address.
    select contact_id,
           bit_or((code * 4 + (contact_count > 1)::int + (person_count > :role_address_limit)::int)::bigint
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
), examined as (
    select h.*, a.contacts,
           case when h.field = any(:fields::smallint[]) then h.address_id end as selected,
           h.person_count <= :role_address_limit and (:propagating::int[])[h.code] = 1 as propagates,
           case when h.field <> all(:fields::smallint[]) then 0
                when h.person_count > :role_address_limit then (:role_sources::int[])[h.code]
                else (:sources::int[])[h.code] end as source
    from alike a join held h on h.contact_id = a.contact_id
), seen as (
    select l.*,
           count(*) filter (where propagates) over person - propagates::int > 0
               and (:sibling_sensitive::int[])[code] = 1 as sibling_opted_out,
           address_id in (lag(selected) over fields, lag(selected, 2) over fields) is true as again,
           address_id in (lead(selected) over fields, lead(selected, 2) over fields) is true
               or address_id in (lag(address_id) over fields, lag(address_id, 2) over fields) is true
               as elsewhere,
           bit_or(source) over person & (:changed_by::int[])[code] <> 0 as propagated
    from examined l
    window person as (partition by contact_id), fields as (partition by contact_id order by field)
)
select field, code, sibling_opted_out, not again as is_first_in_job, sum(contacts)::bigint as rows
from seen
where contact_count <= 1 and selected is not null
group by field, code, sibling_opted_out, again
union all
select null, null, null, null, coalesce(sum(contacts), 0)::bigint
from seen
where contact_count <= 1 and selected is null and propagated and not elsewhere;

-- name: count_held_by_several
-- For all contacts of the job: the addresses that several contacts hold, grouped as by count_held_once. Of the contacts
-- that hold an address, the one with the lowest id counts as its first. If the action :propagates, the row without a
-- field says to how many addresses an opt-out would be propagated, without those that count_held_once counts: addresses
-- that several contacts hold, and siblings of the selection's addresses of several contacts.
with selected as materialized (
    select unnest(item_ids) as id from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending'
), known as not materialized (
    select id, contact_count, person_count(contact_count, repeat_count) as person_count,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id
), of_several as materialized (
    select * from known
    where contact_count > 1
      and (:large::boolean or id = any(array(
          select e.address_id from selected s
          join contact_emails e on e.account_id = :account_id and e.contact_id = s.id)))
), links as materialized (
    -- Whether the contact is selected, and whether the address is in one of the fields of such a contact.
    select l.*, s.id is not null as chosen,
           bool_or(s.id is not null and l.field = any(:fields::smallint[]))
               over (partition by l.address_id) as is_address_chosen
    from (
        select e.contact_id, e.field, a.id as address_id, a.code, a.person_count
        from of_several a
        join contact_emails e on e.account_id = :account_id and e.address_id = a.id
    ) l
    -- A full join cannot become a nested loop. An inner join would, because the planner expects few rows of a new
    -- selection. The WHERE drops contacts without such an address, in a form that keeps the join a full one.
    full join selected s on s.id = l.contact_id
    where (l.address_id is not null) is not false
), rows as materialized (
    select field, address_id, code,
           row_number() over (partition by address_id order by contact_id, field) = 1 as is_first_in_job
    from links
    where chosen and field = any(:fields::smallint[])
), with_opted_out_sibling as materialized (
    select distinct x.address_id
    from links x
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = x.contact_id
        and o.address_id <> x.address_id
    join known y on y.id = o.address_id and y.person_count <= :role_address_limit
    where x.is_address_chosen and (:sibling_sensitive::int[])[x.code] = 1
      and (:propagating::int[])[y.code] = 1
), chosen as materialized (
    select distinct address_id as id from links where is_address_chosen
), siblings_of_selected as (
    select x.address_id as id
    from links x
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = x.contact_id
        and o.field = any(:fields::smallint[]) and o.address_id <> x.address_id
    join known y on y.id = o.address_id
    where x.chosen and x.field <> all(:fields::smallint[])
      and (:changed_by::int[])[x.code] & case when y.person_count > :role_address_limit
              then (:role_sources::int[])[y.code] else (:sources::int[])[y.code] end <> 0
), beyond as materialized (
    select x.id, x.code, x.contact_count, h.contact_id, h.chosen, o.field
    from links h
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = h.contact_id
        and o.address_id <> h.address_id
    join known x on x.id = o.address_id
    where h.person_count <= :role_address_limit
      and (:changed_by::int[])[x.code] & (:beyond_sources::int[])[h.code] <> 0
      and h.is_address_chosen
), counted_with_chunks as (
    select b.id
    from beyond b
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = b.contact_id
        and o.field = any(:fields::smallint[]) and o.address_id <> b.id
    join known y on y.id = o.address_id
    where b.contact_count <= 1 and b.chosen
      and (:changed_by::int[])[b.code] & case when y.person_count > :role_address_limit
              then (:role_sources::int[])[y.code] else (:sources::int[])[y.code] end <> 0
), propagated as (
    select id from siblings_of_selected
    union
    select id from beyond
    except
    select id from counted_with_chunks
    except
    select id from chosen
    except
    select id from beyond where chosen and field = any(:fields::smallint[])
)
select r.field, r.code, b.address_id is not null as sibling_opted_out, r.is_first_in_job, count(*) as rows
-- A full join, as above. It adds no rows.
from rows r full join with_opted_out_sibling b on b.address_id = r.address_id
group by 1, 2, 3, 4
union all
select null, null, null, null, count(*) from propagated where :propagates::boolean;

-- name: count_missing$
-- How many of the selected ids belong to no contact; only listed ids can.
select count(*)
from (
    select unnest(item_ids) as id from job_chunks
    where account_id = :account_id and job_id = :job_id and state = 'pending'
) s
where not exists (select from contacts c where c.account_id = :account_id and c.id = s.id);

-- name: count_listed
-- The listed addresses, grouped as by count_held_once: their field is 0, and those that the account does not know have
-- no code. The row without a field says to how many addresses their opt-outs would be propagated, on any contact.
with known as not materialized (
    select id, match_key, person_count(contact_count, repeat_count) as person_count,
           2 * array_position(:statuses::email_status[], status) - 1
               + (propagated_from is not null)::int as code
    from email_addresses
    where account_id = :account_id
), listed as materialized (
    select k.id, k.code, k.person_count
    from job_addresses l left join known k on k.match_key = l.match_key
    where l.account_id = :account_id and l.job_id = :job_id
), propagated as (
    select x.id
    from listed y
    join contact_emails h on h.account_id = :account_id and h.address_id = y.id
    join contact_emails o
        on o.account_id = :account_id and o.contact_id = h.contact_id and o.address_id <> y.id
    join known x on x.id = o.address_id
    where y.person_count <= :role_address_limit
      and (:changed_by::int[])[x.code] & (:beyond_sources::int[])[y.code] <> 0
    -- Not `not exists`: the planner takes a list that was just uploaded for one row, and would compare all pairs.
    except
    select id from listed
)
select 0 as field, code, false as sibling_opted_out, true as is_first_in_job, count(*) as rows
from listed
group by code
union all
select null, null, null, null, count(*) from propagated;
