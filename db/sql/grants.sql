-- What a role needs to run processes and commands, and nothing more. The current schema is that of the tables.

-- name: read_role^
-- Whether the role is a superuser or acts as the owner of the tables, and whether the current user may grant. No row
-- if the role does not exist.
select r.rolsuper as is_superuser,
       pg_has_role(r.oid, c.relowner, 'member') as acts_as_owner,
       pg_has_role(c.relowner, 'usage') as may_grant, current_user::text as granted_by,
       pg_get_userbyid(c.relowner) as owner
from pg_roles r, pg_class c
where r.rolname = :role and c.oid = to_regclass('results');

-- name: grants
-- The statements that grant it, in order, and what they let the role do to whole tables. Tests fail for a table
-- without an entry here, and for a verb or a column that no statement needs.
-- `for update` needs one column that may be updated.
with privileges (name, verbs, columns) as (
    values
        ('accounts', '{select,insert,update}'::text[], '{webhook_salt,webhook_key_id}'::text[]),
        ('activity', '{select,insert}', null),
        ('alembic_version', '{select}', null),
        ('api_keys', '{select,insert,update}', '{last_used_at,revoked_at}'),
        ('webhook_deliveries', '{select,insert,update}',
         '{attempts,due_at,delivered_at,abandoned_at,error}'),
        ('contact_emails', '{select,insert}', null),
        ('contact_tags', '{select,insert}', null),
        ('contacts', '{select,insert,update}',
         '{given_name,family_name,company,external_id,is_repeat}'),
        ('deployment', '{select}', null),
        ('email_addresses', '{select,insert,update}',
         '{status,previous_status,propagated_from,status_job_id,status_changed_at,contact_count,repeat_count}'),
        ('hooks', '{select,insert,update}',
         '{salt,key_id,former_salt,former_key_id,former_until,revoked_at}'),
        ('recognized_rows', '{select,insert}', null),
        ('import_rejections', '{select,insert}', null),
        ('import_repeated_addresses', '{select,insert}', null),
        ('import_rows', '{select,insert,delete}', null),
        ('job_addresses', '{select,insert,delete}', null),
        ('job_chunks', '{select,insert,update}', null),
        ('job_contacts', '{select,insert}', null),
        ('job_lanes', '{select,insert,update}', null),
        -- Written by a trigger, as the owner.
        ('job_states', '{select}', null),
        -- What was asked for, by whom and on what evidence, is not among the columns.
        ('jobs', '{select,insert,update}',
         '{state,request_hash,selected,applied,unchanged,rejected,empty,propagated,error,planned_at,'
         'started_at,finished_at,forecast,confirmation,confirmed_at,staged_at}'),
        ('merged_events', '{select,insert}', null),
        ('rejections', '{select}', null),
        ('results', '{select,insert}', null),
        ('sweeps', '{select,update}', null),
        ('tags', '{select,insert}', null)
), tables as (
    select p.name, format('%I.%I', current_schema(), p.name) as qualified,
           -- Columns follow `update`, which is then the last of the verbs.
           array_to_string(p.verbs, ', ')
               || coalesce(' (' || array_to_string(p.columns, ', ') || ')', '') as granted,
           case when p.columns is null then p.verbs else array_remove(p.verbs, 'update') end as of_table
    from privileges p
)
select 1 as place, null as name, null::text[] as verbs,
       format('grant connect on database %I to %I', current_database(), :role::text) as statement
where not has_database_privilege(:role, current_database(), 'connect')
union all
-- Uploaded lists are compared in temporary tables.
select 1, null, null,
       format('grant temporary on database %I to %I', current_database(), :role)
where not has_database_privilege(:role, current_database(), 'temporary')
union all
select 2, null, null, format('grant usage on schema %I to %I', current_schema(), :role)
where not has_schema_privilege(:role, current_schema(), 'usage')
union all
select 3, name, '{}', format('revoke all on %s from %I', qualified, :role) from tables
union all
select 4, name, of_table, format('grant %s on %s to %I', granted, qualified, :role) from tables
union all
-- Identity columns need no grant, but ids are also drawn before their rows are inserted.
select 5, null, null,
       format('grant usage on sequence %s to %I', pg_get_serial_sequence(drawn, 'id'), :role)
from unnest('{contacts,email_addresses}'::text[]) drawn
union all
select 6, null, null, format('grant execute on function %s to %I', p.oid::regprocedure, :role)
from pg_proc p
where p.pronamespace = current_schema()::regnamespace
  and p.proname = any (
      '{csv_cell,cut_into_chunks,job_sums,person_count,require_unchanged,result_rows,without_formula}')
order by place, statement;

-- name: list_grants
-- What the role may do to whole tables and to the schema, by its own grants or others.
select c.relname::text as name, verb
from pg_class c
cross join unnest('{insert,update,delete,truncate,references,trigger}'::text[]) verb
where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'v')
  and has_table_privilege(:role, c.oid, verb)
union all
select format('schema %s', current_schema()), 'create'
where has_schema_privilege(:role, current_schema(), 'create')
order by name, verb;
