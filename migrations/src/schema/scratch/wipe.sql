-- Drops what foreign.sql would find: the role's extensions, its schemas, and then what is left in
-- those of others. `public` stays, with the rights that it has.
do $$
declare
    command text;
    commands text[] := (
        with schemas as (
            select oid, nspname, nspowner from pg_namespace
            where nspname !~ '^pg_' and nspname <> 'information_schema'
        ), drops (rank, command) as (
            select 1, format('drop extension if exists %I cascade', extname) from pg_extension
            where extname <> 'plpgsql' and extowner = current_user::regrole
            union all
            select 2, format('drop schema if exists %I cascade', nspname) from schemas
            where nspname <> 'public' and nspowner = current_user::regrole
            union all
            select 3, format('drop %s if exists %s cascade',
                replace(type, 'statistics object', 'statistics'), identity)
            from pg_depend d join schemas s on refobjid = s.oid
            cross join lateral pg_identify_object(classid, objid, 0)
            where refclassid = 'pg_namespace'::regclass and deptype = 'n'
            and classid <> 'pg_extension'::regclass
            and not exists (select from pg_depend part
                where part.classid = d.classid and part.objid = d.objid
                and part.objsubid = 0 and part.deptype in ('e', 'i', 'a'))
        )
        select coalesce(array_agg(drops.command order by rank), '{}') from drops
    );
begin
    foreach command in array commands loop
        execute command;
    end loop;
end $$;
create schema if not exists public
