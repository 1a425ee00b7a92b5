-- Deliveries of completion webhooks. A delivery is due when its job ends (the trigger `state_is_recorded`), and again
-- after each failed attempt. `due_at` is compared with now(): clock_timestamp() could not use the index.

-- name: insert_delivery!
-- Store the URL of a job's completion webhook.
insert into webhook_deliveries (account_id, job_id, url) values (:account_id, :job_id, :url);

-- name: get_secret_source^
-- What the account's secret is derived from; nulls if it was never shown.
select webhook_salt as salt, webhook_key_id as key_id from accounts where id = :account_id;

-- name: store_secret_source!
-- Set what the account's secret is derived from, if it was never shown or is to be renewed.
update accounts set webhook_salt = :salt, webhook_key_id = :signing_key
where id = :account_id and (webhook_key_id is null or :renewed::boolean);

-- name: list_secret_sources
-- The accounts whose secret was shown, and the signing key that it is derived from.
select name, webhook_key_id as key_id from accounts where webhook_key_id is not null order by name;

-- name: has_due$
-- Whether a delivery of any account is due.
select exists (
    select from webhook_deliveries
    where delivered_at is null and abandoned_at is null and due_at <= now()
);

-- name: list_due
-- The jobs whose deliveries have been due for longest, except those of the accounts :busy.
select account_id, job_id
from webhook_deliveries
where delivered_at is null and abandoned_at is null and due_at <= now()
  and account_id <> all (:busy::bigint[])
order by due_at
limit :limit;

-- name: claim_due^
-- Claim a due delivery, unless another process has it, and count the attempt. It is due again after :lease_seconds,
-- in case the process is killed.
with due as materialized (
    select job_id
    from webhook_deliveries
    where account_id = :account_id and job_id = :job_id
      and delivered_at is null and abandoned_at is null and due_at <= now()
    for no key update skip locked
)
update webhook_deliveries d
set attempts = d.attempts + 1,
    due_at = clock_timestamp() + make_interval(secs => :lease_seconds::float8)
from due
where d.account_id = :account_id and d.job_id = due.job_id
returning d.url, d.attempts;

-- name: mark_delivered!
-- Record that the receiver accepted it, even if it had been abandoned meanwhile.
update webhook_deliveries
set delivered_at = clock_timestamp(), abandoned_at = null, error = null
where account_id = :account_id and job_id = :job_id and delivered_at is null;

-- name: mark_failed!
-- Record why the attempt failed, and when the next is due; without a delay, the delivery is abandoned. Nothing
-- changes if a later attempt has begun, or if an earlier one was accepted after all.
update webhook_deliveries
set error = :error,
    due_at = coalesce(clock_timestamp() + make_interval(secs => :delay_seconds::float8), due_at),
    abandoned_at = case when :delay_seconds::float8 is null then clock_timestamp() else abandoned_at end
where account_id = :account_id and job_id = :job_id and attempts = :attempt and delivered_at is null;

-- name: get_delivery^
-- The state of a job's delivery.
select attempts, delivered_at, abandoned_at, error
from webhook_deliveries where account_id = :account_id and job_id = :job_id;
