-- What bulk work pays for without need (decision 0015).

-- All tables before anything is done, in the order in which an opt-out that is applied at once comes to
-- them.
lock table contact_emails, email_addresses, contacts, results, job_chunks, job_contacts
    in access exclusive mode;

-- A foreign key looks its row up once for each row that is written, and locks it. Where thousands of
-- rows are written by one statement, the same is asked once for all of them. It is planned each time
-- (`execute`): an import begins with empty tables, and what is a good way to look into those compares
-- every row with every other when they have grown.
create function refuse_unknown_sources() returns trigger
language plpgsql set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    unknown boolean;
begin
    if not exists (select from changed where propagated_from is not null) then
        return null;
    end if;
    execute 'select exists (
        select from changed c
        where c.propagated_from is not null and not exists (
            select from email_addresses s
            where s.account_id = c.account_id and s.id = c.propagated_from))'
    into unknown;
    if unknown then
        raise exception 'an address says that its status spread from one that its account has not'
            using errcode = 'foreign_key_violation', table = 'email_addresses',
                  constraint = 'source_is_of_the_account';
    end if;
    return null;
end $$;

create function refuse_unknown_ends() returns trigger
language plpgsql set search_path from current
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    unknown boolean;
begin
    execute 'select exists (
        select from changed c
        where not exists (
            select from contacts x where x.account_id = c.account_id and x.id = c.contact_id)
    ) or exists (
        select from changed c
        where not exists (
            select from email_addresses x
            where x.account_id = c.account_id and x.id = c.address_id))'
    into unknown;
    if unknown then
        raise exception 'a contact is to hold an address, and its account has not both of them'
            using errcode = 'foreign_key_violation', table = 'contact_emails',
                  constraint = 'link_is_within_the_account';
    end if;
    return null;
end $$;

-- The other side: what is referred to stays, and keeps its identity.
create function refuse_loss_of_what_is_held() returns trigger
language plpgsql set search_path from current as $$
declare
    held boolean;
begin
    if tg_table_name = 'contacts' then
        held := exists (select from contact_emails e
                        where e.account_id = old.account_id and e.contact_id = old.id);
    else
        held := exists (select from contact_emails e
                        where e.account_id = old.account_id and e.address_id = old.id)
             or exists (select from email_addresses e
                        where e.account_id = old.account_id and e.propagated_from = old.id);
    end if;
    if held then
        raise exception '% % of account % is referred to, and stays as it is',
            tg_table_name, old.id, old.account_id
            using errcode = 'foreign_key_violation', table = tg_table_name;
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;

create function refuse_loss_of_everything() returns trigger language plpgsql as $$
begin
    raise exception '% may be referred to: not truncated', tg_table_name
        using errcode = 'foreign_key_violation', table = tg_table_name;
end $$;

alter table email_addresses drop constraint source_is_of_the_account;
create trigger new_sources_are_of_the_account after insert on email_addresses
    referencing new table as changed for each statement execute function refuse_unknown_sources();
create trigger sources_are_of_the_account after update on email_addresses
    referencing new table as changed for each statement execute function refuse_unknown_sources();
create trigger addresses_stay before delete on email_addresses
    for each row execute function refuse_loss_of_what_is_held();
create trigger addresses_keep_their_identity before update of account_id, id on email_addresses
    for each row when ((old.account_id, old.id) is distinct from (new.account_id, new.id))
    execute function refuse_loss_of_what_is_held();

alter table contact_emails drop constraint contact_emails_account_id_contact_id_fkey;
alter table contact_emails drop constraint contact_emails_account_id_address_id_fkey;
create trigger new_links_are_within_the_account after insert on contact_emails
    referencing new table as changed for each statement execute function refuse_unknown_ends();
create trigger links_are_within_the_account after update on contact_emails
    referencing new table as changed for each statement execute function refuse_unknown_ends();
create trigger contacts_stay before delete on contacts
    for each row execute function refuse_loss_of_what_is_held();
create trigger contacts_keep_their_identity before update of account_id, id on contacts
    for each row when ((old.account_id, old.id) is distinct from (new.account_id, new.id))
    execute function refuse_loss_of_what_is_held();
create trigger addresses_are_not_truncated before truncate on email_addresses
    for each statement execute function refuse_loss_of_everything();
create trigger contacts_are_not_truncated before truncate on contacts
    for each statement execute function refuse_loss_of_everything();

-- The same words as before. The bounded repetition made each look at a reason fourteen times as dear.
-- What is there has met it already, and to look again would lock out everybody meanwhile.
alter table results drop constraint reason_is_a_word;
alter table results add constraint reason_is_a_word
    check (reason ~ '^[a-z][a-z0-9_]*$' and octet_length(reason) <= 63) not valid;

-- Compressing the ids of a million contacts took eight times as long as finding them.
alter table job_chunks alter column contact_ids set storage external;
alter table job_contacts alter column contact_ids set storage external;
