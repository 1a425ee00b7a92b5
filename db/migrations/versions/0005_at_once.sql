-- What an opt-out needs that one statement stores, applied and completed (decision 0017).

-- Besides noting the state, and that a notice is due: a job that is stored as completed ran from its start
-- on, and had no notice before.
create or replace function note_state() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' and new.state = 'completed' and new.started_at is not null then
        insert into job_states (job_id, state, entered_at)
        values (new.id, 'running', new.started_at), (new.id, new.state, clock_timestamp());
        return null;
    end if;
    insert into job_states (job_id, state) values (new.id, new.state);
    if new.finished_at is not null then
        update completion_notices set due_at = clock_timestamp()
        where job_id = new.id and delivered_at is null;
    end if;
    return null;
end $$;

-- As before (0003), but where a status has spread to one address or a few, as by one person's opt-out: their
-- sources are looked up one by one, by a plan that is made once. To plan the other way took longer than
-- the rest of what writes such an opt-out.
create or replace function refuse_unknown_sources() returns trigger
language plpgsql set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    spread constant bigint := (select count(*) from changed where propagated_from is not null);
    unknown boolean := false;
    one record;
begin
    if spread between 1 and 10 then
        for one in select account_id, propagated_from from changed where propagated_from is not null loop
            unknown := unknown or not exists (
                select from email_addresses
                where account_id = one.account_id and id = one.propagated_from);
        end loop;
    elsif spread > 10 then
        execute 'select exists (
            select from changed c
            where c.propagated_from is not null and not exists (
                select from email_addresses s
                where s.account_id = c.account_id and s.id = c.propagated_from))'
        into unknown;
    end if;
    if unknown then
        raise exception 'an address says that its status spread from one that its account has not'
            using errcode = 'foreign_key_violation', table = 'email_addresses',
                  constraint = 'source_is_of_the_account';
    end if;
    return null;
end $$;

-- For a statement that writes what was decided on rows that were read before: nothing of it, unless all
-- are as they were.
create function require_as_read(changed bigint, wanted int) returns void language plpgsql as $$
begin
    if changed <> wanted then
        raise exception '% of % addresses are still as they were read', changed, wanted
            using errcode = 'serialization_failure',
                  hint = 'Read them again, decide again, and begin again.';
    end if;
end $$;
