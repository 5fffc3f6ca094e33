-- What somebody keeps in this database: everything in a schema, and schemas and extensions of this
-- role. What extensions own, and what an administrator has set up (his extensions and schemas), do
-- not count: they are left alone.
with ours as (
    select oid, nspname from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
), objects as (
    select classid, objid from pg_depend join ours on refobjid = ours.oid
    where refclassid = 'pg_namespace'::regclass and deptype = 'n'
    and classid <> 'pg_extension'::regclass
    union all
    select 'pg_namespace'::regclass, n.oid from pg_namespace n join ours using (oid)
    where n.nspname <> 'public' and nspowner = current_user::regrole
    union all
    select 'pg_extension'::regclass, oid from pg_extension
    where extname <> 'plpgsql' and extowner = current_user::regrole
)
select pg_describe_object(classid, objid, 0) from objects
where not exists (select from pg_depend part
    where part.classid = objects.classid and part.objid = objects.objid
    and part.objsubid = 0 and part.deptype in ('e', 'i', 'a'))
order by 1 limit 1
