-- tell_states: all states of one process's machines, in place of what it told before; takes away what dead ones left
with told as (
    select * from unnest(%(machines)s::text[], %(subjects)s::text[], %(states)s::text[], %(errors)s::text[])
        as told (machine, subject, state, error)
), kept as (
    insert into actor (role, instance, machine, subject, state, error, at)
    select %(role)s, %(instance)s, machine, subject, state, error, now() from told
    on conflict (instance, machine, subject) do update
    set role = excluded.role, state = excluded.state, error = excluded.error, at = excluded.at
    -- What has not changed is a sign of life only, and costs a write only now and then.
    where (actor.role, actor.state, actor.error) is distinct from (excluded.role, excluded.state, excluded.error)
        or actor.at < now() - interval '20 s'
), dead as (
    -- Skipped where locked: after an outage each process takes the other for dead while that one tells its own.
    select instance, machine, subject from actor
    where instance <> %(instance)s and at < now() - interval '1 minute'
    for update skip locked
)
delete from actor
where instance = %(instance)s and (machine, subject) not in (select machine, subject from told)
    or (instance, machine, subject) in (select instance, machine, subject from dead);
