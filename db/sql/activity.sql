-- Who did what: one row for each act of a caller. They are never changed.

-- name: record!
-- Keep an act, in the transaction that does it.
insert into activity (account_id, actor_kind, actor_id, via, act, job_id, key_id, hook_id,
                      correlation_id, detail)
values (:account_id, :actor_kind, :actor_id, :via, :act, :job_id, :key_id, :hook_id,
        :correlation_id, :detail::jsonb);

-- name: list_activity
-- The newest acts in all accounts before the act :before: of each account no more than are wanted.
select t.*, a.name as account
from accounts a
cross join lateral (
    select * from activity
    where account_id = a.id and id < :before
    order by id desc
    limit :limit
) t
order by t.id desc
limit :limit;

-- name: list_activity_of_account
-- The newest acts in one account before the act :before.
select t.*, a.name as account
from activity t join accounts a on a.id = t.account_id
where t.account_id = :account_id and t.id < :before
order by t.id desc
limit :limit;

-- name: list_activity_of_job
-- The newest acts upon one job before the act :before, in any account unless :account_id is given.
select t.*, a.name as account
from activity t join accounts a on a.id = t.account_id
where t.job_id = :job_id and t.id < :before
  and (:account_id::bigint is null or t.account_id = :account_id)
order by t.id desc
limit :limit;
