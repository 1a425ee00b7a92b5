-- Who did what: one row for each event. Rows are never changed.

-- name: record!
-- Store an event, in the transaction of what it is about.
insert into activity (account_id, actor_kind, actor_id, via, event, job_id, key_id, hook_id,
                      correlation_id, detail)
values (:account_id, :actor_kind, :actor_id, :via, :event, :job_id, :key_id, :hook_id,
        :correlation_id, :detail::jsonb);

-- name: list_activity
-- The newest events of all accounts before the event :before. Of each account, at most :limit are read.
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
-- The newest events of one account before the event :before.
select t.*, a.name as account
from activity t join accounts a on a.id = t.account_id
where t.account_id = :account_id and t.id < :before
order by t.id desc
limit :limit;

-- name: list_activity_of_job
-- The newest events of one job before the event :before.
select t.*, a.name as account
from activity t join accounts a on a.id = t.account_id
where t.account_id = :account_id and t.job_id = :job_id and t.id < :before
order by t.id desc
limit :limit;
