-- Everything a schema consists of, in PostgreSQL's own canonical words: one row per object with the
-- name it belongs to, its own name, and its definition as JSON. The session's search_path is the
-- home schema alone, so that whatever lives there is named without it and everything else with it.
-- What extensions own is theirs.
with home as (
    select oid from pg_namespace where nspname = current_schema()
), extended as (
    select classid, objid from pg_depend where deptype = 'e'
), spaces as (
    select oid, nspname from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
    and oid not in (select objid from extended where classid = 'pg_namespace'::regclass)
), relations as (
    select c.* from pg_class c join spaces s on s.oid = c.relnamespace
    where c.oid not in (select objid from extended where classid = 'pg_class'::regclass)
    and not (c.relnamespace = (select oid from home) and c.relname in ('peace_migration',
        'peace_migration_log', 'alembic_version', 'alembic_version_retired'))
), tables as (
    select * from relations where relkind in ('r', 'p')
), owned as (
    -- Sequences that live and die with a column: a = serial, i = identity.
    select objid as sequence, refobjid as relation, refobjsubid as position, deptype
    from pg_depend where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass
    and refobjsubid > 0 and deptype in ('a', 'i') and objid in (select seqrelid from pg_sequence)
), sequences as (
    select seqrelid, seqtypid,
        format('as %s increment by %s minvalue %s maxvalue %s start with %s cache %s%s',
            format_type(seqtypid, null), seqincrement, seqmin, seqmax, seqstart, seqcache,
            case when seqcycle then ' cycle' else '' end) as text,
        seqincrement = 1 and seqmin = 1 and seqstart = 1 and seqcache = 1 and not seqcycle
        and seqmax = case seqtypid when 'smallint'::regtype then 32767
            when 'integer'::regtype then 2147483647 else 9223372036854775807 end as plain
    from pg_sequence
), types as (
    select t.* from pg_type t join spaces s on s.oid = t.typnamespace
    where t.oid not in (select objid from extended where classid = 'pg_type'::regclass)
), comments (class, object, position, of, target) as (
    select 'pg_class'::regclass, oid, 0, oid::regclass::text,
        case relkind when 'v' then 'view ' when 'm' then 'materialized view '
            when 'S' then 'sequence ' when 'f' then 'foreign table ' else 'table ' end
            || oid::regclass::text
    from relations where relkind in ('r', 'p', 'v', 'm', 'S', 'f')
    union all
    select 'pg_class'::regclass, indexrelid, 0, indrelid::regclass::text,
        'index ' || indexrelid::regclass::text
    from pg_index where indrelid in (select oid from relations)
    union all
    select 'pg_class'::regclass, attrelid, attnum, attrelid::regclass::text,
        format('column %s.%I', attrelid::regclass, attname)
    from pg_attribute where attnum > 0 and attrelid in (select oid from relations)
    union all
    select 'pg_constraint'::regclass, oid, 0, conrelid::regclass::text,
        format('constraint %I on %s', conname, conrelid::regclass)
    from pg_constraint where conrelid in (select oid from relations)
    union all
    select 'pg_type'::regclass, oid, 0, oid::regtype::text,
        case typtype when 'd' then 'domain ' else 'type ' end || oid::regtype::text
    from types where typtype in ('e', 'd', 'r')
    or typrelid in (select oid from relations where relkind = 'c')
    union all
    select 'pg_proc'::regclass, p.oid, 0, p.oid::regprocedure::text,
        'routine ' || p.oid::regprocedure::text
    from pg_proc p join spaces s on s.oid = p.pronamespace
    where p.oid not in (select objid from extended where classid = 'pg_proc'::regclass)
    union all
    select 'pg_namespace'::regclass, oid, 0, quote_ident(nspname), 'schema ' || quote_ident(nspname)
    from spaces where nspname <> 'public' and oid <> (select oid from home)
)
select quote_ident(nspname) as of, '' as name, '{"kind": "schema"}' as object
from spaces where nspname <> 'public' and oid <> (select oid from home)
union all
select quote_ident(extname), '', '{"kind": "extension"}'
from pg_extension where extname <> 'plpgsql'
union all
select t.oid::regtype::text, '', json_build_object('kind', 'enum', 'labels',
    (select json_agg(enumlabel order by enumsortorder) from pg_enum where enumtypid = t.oid))::text
from types t where typtype = 'e'
union all
select t.oid::regtype::text, '', json_build_object('kind', 'opaque', 'what', 'domain',
    'text', concat_ws(' ',
        format_type(typbasetype, typtypmod),
        (select 'collate ' || o.oid::regcollation::text from pg_collation o, pg_type b
         where o.oid = t.typcollation and b.oid = t.typbasetype
         and t.typcollation <> b.typcollation),
        case when typnotnull then 'not null' end,
        'default ' || typdefault,
        (select string_agg(format('constraint %I %s', conname, pg_get_constraintdef(oid)), ' '
             order by conname)
         from pg_constraint where contypid = t.oid and contype <> 'n')))::text
from types t where typtype = 'd'
union all
select t.oid::regtype::text, '', json_build_object('kind', 'opaque', 'what', 'range type',
    'text', format_type(rngsubtype, null))::text
from types t join pg_range on rngtypid = t.oid where typtype = 'r'
union all
select c.oid::regclass::text, '', json_build_object('kind', 'opaque',
    'what', case relkind when 'c' then 'composite type' else 'foreign table' end,
    'text', (select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', '
            order by attnum)
        from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped))::text
from relations c where relkind in ('c', 'f')
union all
select c.oid::regclass::text, '', json_build_object('kind', 'sequence', 'options', s.text)::text
from relations c join sequences s on seqrelid = c.oid
where relkind = 'S' and c.oid not in (select sequence from owned)
union all
select c.oid::regclass::text, '', json_build_object('kind', 'table',
    'special', nullif(concat_ws(' ',
        case relpersistence when 'u' then 'unlogged' end,
        'partition by ' || pg_get_partkeydef(c.oid),
        (select 'inherits ' || string_agg(inhparent::regclass::text, ', ' order by inhseqno)
         from pg_inherits where inhrelid = c.oid),
        pg_get_expr(relpartbound, c.oid),
        case when relrowsecurity then 'row level security' end,
        case when relforcerowsecurity then 'forced' end), ''))::text
from tables c
union all
select c.oid::regclass::text, quote_ident(attname), json_build_object('kind', 'column',
    'position', attnum,
    'type', format_type(atttypid, atttypmod),
    'not_null', attnotnull,
    'default', case when attgenerated = '' then pg_get_expr(adbin, adrelid) end,
    'generated', case when attgenerated <> '' then pg_get_expr(adbin, adrelid) end,
    'identity', case attidentity when 'a' then 'always' when 'd' then 'by default' end,
    'sequence', (select sequence::regclass::text from owned
        where relation = c.oid and position = attnum and deptype = 'a' limit 1),
    'options', (select s.text from owned join sequences s on seqrelid = sequence
        where relation = c.oid and position = attnum
        and not (plain and seqtypid = atttypid) limit 1),
    'collation', (select o.oid::regcollation::text from pg_collation o
        where o.oid = attcollation and attcollation <> t.typcollation),
    'enum', (select e.oid::regtype::text from pg_type e
        where e.oid in (t.oid, t.typelem) and e.typtype = 'e'))::text
from tables c join pg_attribute on attrelid = c.oid and attnum > 0 and not attisdropped
join pg_type t on t.oid = atttypid
left join pg_attrdef on adrelid = c.oid and adnum = attnum
union all
select conrelid::regclass::text, quote_ident(conname), json_build_object('kind', 'constraint',
    'form', contype, 'text', pg_get_constraintdef(n.oid), 'valid', convalidated,
    'references', nullif(confrelid, 0)::regclass::text,
    'needs', (select quote_ident(relname) from pg_class where oid = conindid and contype = 'f')
)::text
from pg_constraint n where conrelid in (select oid from tables)
and contype in ('p', 'u', 'f', 'c', 'x') and conislocal
union all
select indrelid::regclass::text, quote_ident(c.relname), json_build_object('kind', 'index',
    'qualified', indexrelid::regclass::text, 'unique', indisunique, 'valid', indisvalid,
    'text', pg_get_indexdef(indexrelid))::text
from pg_index join pg_class c on c.oid = indexrelid
where indrelid in (select oid from relations where relkind in ('r', 'p', 'm'))
and not c.relispartition
and not exists (select from pg_constraint where conrelid = indrelid and conindid = indexrelid
    and contype in ('p', 'u', 'x'))
union all
select c.oid::regclass::text, '', json_build_object('kind', 'opaque',
    'what', case relkind when 'v' then 'view' else 'materialized view' end,
    'text', concat_ws(' ', 'with (' || array_to_string(reloptions, ', ') || ')',
        pg_get_viewdef(c.oid)))::text
from relations c where relkind in ('v', 'm')
union all
select p.oid::regprocedure::text, '', json_build_object('kind', 'opaque',
    'what', case prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end,
    'text', case when prokind = 'a' then '' else definition.after_name end)::text
from pg_proc p join spaces s on s.oid = p.pronamespace
cross join lateral (
    -- `CREATE OR REPLACE FUNCTION home.name(…) …`: qualified wherever it is, so from the ( on.
    select format('%I.%I', nspname, proname) as name,
        case when prokind <> 'a' then pg_get_functiondef(p.oid) end as text
) whole cross join lateral (
    select substr(text, strpos(text, name) + length(name)) as after_name
) definition
where p.oid not in (select objid from extended where classid = 'pg_proc'::regclass)
-- The constructors of a range come with it.
and not exists (select from pg_depend
    where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'i')
union all
-- `true` here and for rules: does not qualify what the search_path finds.
select tgrelid::regclass::text, quote_ident(tgname), json_build_object('kind', 'opaque',
    'what', 'trigger', 'text', pg_get_triggerdef(oid, true)
        || case tgenabled when 'O' then '' else ' (' || tgenabled::text || ')' end)::text
from pg_trigger where not tgisinternal and tgparentid = 0 and tgrelid in (select oid from relations)
union all
select polrelid::regclass::text, quote_ident(polname), json_build_object('kind', 'opaque',
    'what', 'policy', 'text', concat_ws(' ',
        case when polpermissive then 'permissive' else 'restrictive' end,
        case polcmd when 'r' then 'for select' when 'a' then 'for insert' when 'w' then 'for update'
            when 'd' then 'for delete' else 'for all' end,
        'to ' || (select string_agg(coalesce(rolname, 'public'), ', ' order by rolname)
            from unnest(polroles) role left join pg_roles r on r.oid = role),
        'using (' || pg_get_expr(polqual, polrelid) || ')',
        'with check (' || pg_get_expr(polwithcheck, polrelid) || ')'))::text
from pg_policy where polrelid in (select oid from relations)
union all
select ev_class::regclass::text, quote_ident(rulename), json_build_object('kind', 'opaque',
    'what', 'rule', 'text', pg_get_ruledef(oid, true))::text
from pg_rewrite where rulename <> '_RETURN' and ev_class in (select oid from relations)
union all
select of, target, json_build_object('kind', 'comment', 'text', description)::text
from comments join pg_description on classoid = class and objoid = object and objsubid = position
