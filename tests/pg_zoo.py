"""A small database that has one of everything the fingerprint tells of, and how to change each alone."""

# ruff: noqa: E501 - one SQL statement a line

from __future__ import annotations

# As pg_dumpall writes passwords: what a server makes of 'not-a-secret' and 'nor-this', with salt.
ROLES = """
CREATE ROLE zoo_owner;
CREATE ROLE zoo_app LOGIN PASSWORD 'SCRAM-SHA-256$4096:cHJvdmFkby16b28tc2FsdA==$u6EKUlHqVu6dBZ368vCKAMZmQ/ZYveBBqYlDJGh3Gnk=:FIhEs6dQAEEw4CLzMgnMsZx586/m+SN0hvWLxQU9GxE=' CONNECTION LIMIT 5;
CREATE ROLE zoo_reader PASSWORD 'SCRAM-SHA-256$4096:cHJvdmFkby16b28tc2FsdA==$UnrBul432nRUDhtOwhTotB4La4RSlFj+7mfaRj2JPK4=:FXXc/nfuvktbtlNR4GqSbr9LU+SFAxh6CU/XERYLbgE=';
GRANT zoo_reader TO zoo_app;
ALTER ROLE zoo_app SET statement_timeout = '30s';
"""

# Belongs to the cluster: a database made from a template has none of it.
SUBSCRIPTION = """
CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 dbname=no password=hidden' PUBLICATION theirs
  WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false);
"""

ZOO = r"""
CREATE SCHEMA z;
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION file_fdw SCHEMA public;
CREATE EXTENSION postgres_fdw SCHEMA public;
CREATE TYPE z.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE z.pair AS (a int, b text);
CREATE TYPE z.span AS RANGE (subtype = float8);
CREATE DOMAIN z.cpf AS text DEFAULT '0' CONSTRAINT cpf_form CHECK (VALUE ~ '^[0-9]*$');
CREATE COLLATION z.bytes (provider = libc, locale = 'C');
CREATE FUNCTION z.tax(v numeric, rate numeric DEFAULT 0.17) RETURNS numeric LANGUAGE plpgsql STABLE COST 50
  SET work_mem = '4MB' AS $$ BEGIN RETURN round(v * rate, 2); END $$;
CREATE FUNCTION z.twice(a int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN a * 2;
CREATE FUNCTION z.secret() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE PROCEDURE z.work() LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE FUNCTION z.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE FUNCTION z.guard() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE AGGREGATE z.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE FUNCTION z.same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT lower($1) = lower($2)';
CREATE OPERATOR z.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = z.same, COMMUTATOR = OPERATOR(z.===));
CREATE FUNCTION z.pair_text(z.pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).b';
ALTER FUNCTION z.pair_text(z.pair) DEPENDS ON EXTENSION postgres_fdw;
CREATE CAST (z.pair AS text) WITH FUNCTION z.pair_text(z.pair) AS ASSIGNMENT;
CREATE TABLE z.parent (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL DEFAULT 'x',
  label text COLLATE "C",
  amount numeric(10, 2) DEFAULT 1,
  doubled int GENERATED ALWAYS AS (n * 2) STORED,
  n int DEFAULT 1,
  mood z.mood,
  doc text,
  CONSTRAINT amount_positive CHECK (amount > 0),
  CONSTRAINT name_once UNIQUE (name) DEFERRABLE INITIALLY DEFERRED
) WITH (fillfactor = 80);
ALTER TABLE z.parent ALTER doc SET STORAGE EXTERNAL;
CREATE TABLE z.child (id bigserial PRIMARY KEY, parent int CONSTRAINT child_parent REFERENCES z.parent, v text);
ALTER TABLE z.child ADD CONSTRAINT v_short CHECK (length(v) < 10) NOT VALID;
CREATE INDEX child_v ON z.child (v) WHERE v IS NOT NULL;
CREATE UNIQUE INDEX child_expr ON z.child ((lower(v)), id);
CREATE TABLE z.parted (k int NOT NULL, at date NOT NULL, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE z.parted_1 PARTITION OF z.parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE z.parted_2 PARTITION OF z.parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE z.base (a int, b int);
CREATE TABLE z.heir (c int) INHERITS (z.base);
CREATE UNLOGGED TABLE z.cache (k text, v numeric(10, 2));
CREATE TABLE z.tenant (id int, who text);
ALTER TABLE z.tenant ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON z.tenant FOR SELECT TO zoo_app USING (who = current_user) ;
CREATE POLICY no_zero ON z.tenant AS RESTRICTIVE USING (id <> 0);
CREATE RULE no_delete AS ON DELETE TO z.tenant DO INSTEAD NOTHING;
CREATE TRIGGER touched BEFORE UPDATE ON z.child FOR EACH ROW WHEN (old.v IS DISTINCT FROM new.v) EXECUTE FUNCTION z.touch();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON z.child DEFERRABLE FOR EACH ROW EXECUTE FUNCTION z.touch();
CREATE EVENT TRIGGER guard ON ddl_command_end WHEN TAG IN ('CREATE CAST') EXECUTE FUNCTION z.guard();
CREATE VIEW z.joined WITH (security_barrier) AS SELECT p.id, c.v FROM z.parent p JOIN z.child c ON c.parent = p.id;
CREATE MATERIALIZED VIEW z.sums AS SELECT parent, count(*) AS n FROM z.child GROUP BY parent;
CREATE SEQUENCE z.ticket START 10 INCREMENT 5 MAXVALUE 1000 CYCLE;
CREATE STATISTICS z.stats (dependencies) ON name, label FROM z.parent;
CREATE TEXT SEARCH DICTIONARY z.dict (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION z.search (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION z.search ALTER MAPPING FOR word WITH z.dict;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE z.log (line text) SERVER files OPTIONS (filename '/nonexistent', format 'csv');
CREATE USER MAPPING FOR zoo_app SERVER files;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1');
CREATE USER MAPPING FOR zoo_app SERVER far OPTIONS (user 'u', password 'concealed');
CREATE OPERATOR FAMILY z.family USING btree;
CREATE OPERATOR CLASS z.class FOR TYPE int USING btree FAMILY z.family AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,
  OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);
CREATE CONVERSION z.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE LANGUAGE tongue HANDLER plpgsql_call_handler;
CREATE ACCESS METHOD pile TYPE TABLE HANDLER heap_tableam_handler;
CREATE TEXT SEARCH PARSER z.parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE z.template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE FOREIGN DATA WRAPPER wrapper OPTIONS (a 'b');
CREATE PUBLICATION pub FOR TABLE z.parent WHERE (id > 0), z.child (id, v);
COMMENT ON TABLE z.parent IS 'people';
COMMENT ON COLUMN z.parent.name IS 'first';
COMMENT ON PROCEDURE z.work() IS 'works';
ALTER TABLE z.base OWNER TO zoo_owner;
GRANT SELECT, INSERT ON z.parent TO zoo_app;
GRANT SELECT ON z.parent TO zoo_reader WITH GRANT OPTION;
GRANT UPDATE (name) ON z.parent TO zoo_reader;
REVOKE EXECUTE ON FUNCTION z.secret() FROM PUBLIC;
GRANT USAGE ON SCHEMA z TO zoo_app;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner IN SCHEMA z GRANT SELECT ON TABLES TO zoo_reader;
INSERT INTO z.parent (name) VALUES ('a'), ('b');
INSERT INTO z.child (parent, v) VALUES (1, 'one'), (2, NULL), (2, '');
SELECT setval('z.ticket', 60);
SELECT lo_from_bytea(4711, '\x00ff10');
"""

# One change in a live database, the class it is told under, and the properties ("" for missing, "+" for added).
MUTATIONS: tuple[tuple[str, str, str], ...] = (
    ("ALTER TABLE z.cache ALTER k TYPE varchar(50)", "column", "type"),
    ("ALTER TABLE z.cache ALTER v TYPE numeric(10, 3)", "column", "type"),
    ("ALTER TABLE z.parent ALTER n SET DEFAULT 2", "column", "default"),
    ("ALTER TABLE z.parent ALTER amount DROP DEFAULT", "column", "default"),
    ("ALTER TABLE z.parent ALTER doubled DROP EXPRESSION", "column", "generated"),
    ("ALTER TABLE z.parent ALTER id SET GENERATED BY DEFAULT", "column", "identity"),
    ("ALTER TABLE z.parent ALTER id DROP IDENTITY", "column", "identity"),
    ("ALTER TABLE z.parent ALTER name DROP NOT NULL", "column", "not null"),
    ('ALTER TABLE z.parent ALTER label TYPE text COLLATE "POSIX"', "column", "collation"),
    ("ALTER TABLE z.parent ALTER doc SET STORAGE EXTENDED", "column", "storage"),
    ("ALTER TABLE z.parent ALTER doc SET COMPRESSION pglz", "column", "compression"),
    ("ALTER TABLE z.parent ALTER doc SET STATISTICS 7", "column", "statistics target"),
    ("ALTER TABLE z.parent ALTER doc SET (n_distinct = 5)", "column", "attribute n_distinct"),
    ("ALTER TABLE z.parent DROP COLUMN doc", "column", ""),
    ("ALTER TABLE z.parent ADD COLUMN more int", "column", "+"),
    (
        "ALTER TABLE z.tenant DISABLE ROW LEVEL SECURITY",
        "table",
        "row security",
    ),
    ("ALTER TABLE z.tenant FORCE ROW LEVEL SECURITY", "table", "forced row security"),
    ("ALTER TABLE z.parent RESET (fillfactor)", "table", "storage fillfactor"),
    ("ALTER TABLE z.parent SET (toast.autovacuum_enabled = off)", "table", "toast storage autovacuum_enabled"),
    ("ALTER TABLE z.parent REPLICA IDENTITY FULL", "table", "replica identity"),
    ("ALTER TABLE z.cache SET LOGGED", "table", "persistence"),
    ("ALTER TABLE z.parted DETACH PARTITION z.parted_2", "table", "partition bound"),
    ("ALTER TABLE z.heir NO INHERIT z.base", "table", "parents"),
    ("DROP TABLE z.cache", "table", ""),
    ("CREATE TABLE z.extra (a int)", "table", "+"),
    (
        "DROP TABLE z.tenant; CREATE TABLE z.tenant (who text, id int);"
        " ALTER TABLE z.tenant ENABLE ROW LEVEL SECURITY;"
        " CREATE POLICY own_rows ON z.tenant FOR SELECT TO zoo_app USING (who = current_user);"
        " CREATE POLICY no_zero ON z.tenant AS RESTRICTIVE USING (id <> 0);"
        " CREATE RULE no_delete AS ON DELETE TO z.tenant DO INSTEAD NOTHING",
        "table",
        "column order",
    ),
    ("ALTER TABLE z.child DROP CONSTRAINT child_parent", "constraint", ""),
    ("ALTER TABLE z.child DROP CONSTRAINT child_pkey", "constraint", ""),
    (
        "ALTER TABLE z.parent DROP CONSTRAINT name_once, ADD CONSTRAINT name_once UNIQUE (name)",
        "constraint",
        "definition",
    ),
    ("ALTER TABLE z.child ALTER CONSTRAINT child_parent DEFERRABLE", "constraint", "definition"),
    (
        "ALTER TABLE z.child DROP CONSTRAINT child_parent, ADD CONSTRAINT child_parent FOREIGN KEY (parent)"
        " REFERENCES z.parent NOT VALID",
        "constraint",
        "validated",
    ),
    (
        "ALTER TABLE z.parent DROP CONSTRAINT amount_positive,"
        " ADD CONSTRAINT amount_positive CHECK (amount >= 0)",
        "constraint",
        "definition",
    ),
    ("DROP INDEX z.child_v", "index", ""),
    ("DROP INDEX z.child_v; CREATE INDEX child_v ON z.child (v)", "index", "definition"),
    (
        "DROP INDEX z.child_expr; CREATE INDEX child_expr ON z.child ((lower(v)), id)",
        "index",
        "definition",
    ),
    (
        "DROP INDEX z.child_v; CREATE INDEX child_v ON z.child (v NULLS FIRST) WHERE v IS NOT NULL",
        "index",
        "definition",
    ),
    ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'z.child_v'::regclass", "index", "valid"),
    ("UPDATE pg_index SET indisready = false WHERE indexrelid = 'z.child_v'::regclass", "index", "ready"),
    ("ALTER TABLE z.child CLUSTER ON child_pkey", "index", "clustered"),
    ("ALTER INDEX z.child_pkey SET (fillfactor = 50)", "index", "storage fillfactor"),
    ("ALTER INDEX z.child_expr ALTER COLUMN 1 SET STATISTICS 9", "index", "statistics target"),
    (
        "CREATE OR REPLACE VIEW z.joined WITH (security_barrier) AS"
        " SELECT c.parent AS id, c.v FROM z.parent p JOIN z.child c ON c.parent = p.id",
        "view",
        "definition",
    ),
    ("ALTER VIEW z.joined RESET (security_barrier)", "view", "option security_barrier"),
    ("ALTER VIEW z.joined ALTER v SET DEFAULT 'd'", "view", "column defaults"),
    ("DROP VIEW z.joined", "view", ""),
    ("REFRESH MATERIALIZED VIEW z.sums WITH NO DATA", "materialized view", "populated"),
    ("DROP MATERIALIZED VIEW z.sums", "materialized view", ""),
    ("ALTER SEQUENCE z.ticket START 11", "sequence", "start"),
    ("ALTER SEQUENCE z.ticket INCREMENT 6", "sequence", "increment"),
    ("ALTER SEQUENCE z.ticket NO CYCLE", "sequence", "cycle"),
    ("ALTER SEQUENCE z.ticket MAXVALUE 2000", "sequence", "maximum"),
    ("ALTER SEQUENCE z.ticket CACHE 3", "sequence", "cache"),
    ("ALTER SEQUENCE z.child_id_seq OWNED BY NONE", "sequence", "owned by"),
    ("DROP SEQUENCE z.ticket", "sequence", ""),
    ("ALTER TABLE z.child DISABLE TRIGGER touched", "trigger", "enabled"),
    ("ALTER TABLE z.child ENABLE ALWAYS TRIGGER touched", "trigger", "enabled"),
    ("DROP TRIGGER touched ON z.child", "trigger", ""),
    ("DROP TRIGGER later ON z.child", "trigger", ""),
    (
        "CREATE OR REPLACE TRIGGER touched BEFORE UPDATE ON z.child FOR EACH ROW EXECUTE FUNCTION z.touch()",
        "trigger",
        "definition",
    ),
    ("ALTER TABLE z.tenant DISABLE RULE no_delete", "rule", "enabled"),
    ("DROP RULE no_delete ON z.tenant", "rule", ""),
    (
        "CREATE OR REPLACE RULE no_delete AS ON DELETE TO z.tenant WHERE old.id > 0 DO INSTEAD NOTHING",
        "rule",
        "definition",
    ),
    ("DROP POLICY own_rows ON z.tenant", "policy", ""),
    ("ALTER POLICY own_rows ON z.tenant USING (true)", "policy", "using"),
    ("ALTER POLICY own_rows ON z.tenant TO zoo_reader", "policy", "roles"),
    ("ALTER POLICY no_zero ON z.tenant WITH CHECK (id > 5)", "policy", "check"),
    ("ALTER STATISTICS z.stats SET STATISTICS 9", "statistics", "target"),
    ("DROP STATISTICS z.stats", "statistics", ""),
    ("CREATE SCHEMA other", "schema", "+"),
    ("DROP EXTENSION citext", "extension", ""),
    ("ALTER EXTENSION citext SET SCHEMA z", "extension", "schema"),
    ("ALTER TYPE z.mood RENAME VALUE 'ok' TO 'fine'", "type", "labels"),
    ("ALTER TYPE z.pair ADD ATTRIBUTE c int", "type", "attributes"),
    ("ALTER DOMAIN z.cpf DROP CONSTRAINT cpf_form", "domain constraint", ""),
    ("ALTER DOMAIN z.cpf DROP DEFAULT", "domain", "default"),
    ("ALTER DOMAIN z.cpf SET NOT NULL", "domain", "not null"),
    (
        "CREATE OR REPLACE FUNCTION z.tax(v numeric, rate numeric DEFAULT 0.17) RETURNS numeric LANGUAGE plpgsql"
        " STABLE COST 50 SET work_mem = '4MB' AS $$ BEGIN RETURN round(v * rate, 3); END $$",
        "function",
        "body",
    ),
    (
        "CREATE OR REPLACE FUNCTION z.twice(a int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN a * 3",
        "function",
        "sql body",
    ),
    ("ALTER FUNCTION z.secret() SECURITY INVOKER", "function", "security definer"),
    ("ALTER FUNCTION z.tax(numeric, numeric) VOLATILE", "function", "volatility"),
    ("ALTER FUNCTION z.tax(numeric, numeric) COST 60", "function", "cost"),
    ("ALTER FUNCTION z.tax(numeric, numeric) STRICT", "function", "strict"),
    ("ALTER FUNCTION z.tax(numeric, numeric) LEAKPROOF", "function", "leakproof"),
    ("ALTER FUNCTION z.tax(numeric, numeric) PARALLEL RESTRICTED", "function", "parallel"),
    ("ALTER FUNCTION z.tax(numeric, numeric) RESET ALL", "function", "setting work_mem"),
    ("DROP PROCEDURE z.work()", "function", ""),
    ("DROP AGGREGATE z.total(int)", "function", ""),
    (
        "CREATE OR REPLACE AGGREGATE z.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '1')",
        "function",
        "aggregate",
    ),
    ("ALTER EVENT TRIGGER guard DISABLE", "event trigger", "enabled"),
    ("DROP EVENT TRIGGER guard", "event trigger", ""),
    ("DROP OPERATOR z.=== (text, text)", "operator", ""),
    ("ALTER OPERATOR z.=== (text, text) SET (RESTRICT = eqsel)", "operator", "restrict"),
    ("DROP CAST (z.pair AS text)", "cast", ""),
    ("DROP COLLATION z.bytes", "collation", ""),
    (
        "ALTER TEXT SEARCH CONFIGURATION z.search DROP MAPPING FOR word",
        "text search configuration",
        "mapping",
    ),
    ("ALTER TEXT SEARCH DICTIONARY z.dict (Accept = false)", "text search dictionary", "options"),
    ("ALTER SERVER far OPTIONS (SET port '2')", "foreign server", "option port"),
    (
        "ALTER USER MAPPING FOR zoo_app SERVER far OPTIONS (SET password 'other')",
        "user mapping",
        "option password",
    ),
    ("UPDATE pg_opclass SET opckeytype = 'int8'::regtype WHERE opcname = 'class'", "operator class", "storage"),
    (
        "ALTER OPERATOR FAMILY z.family USING btree ADD FUNCTION 2 (int, int) btint4sortsupport(internal)",
        "operator family",
        "functions",
    ),
    ("DROP CONVERSION z.conv", "conversion", ""),
    ("DROP LANGUAGE tongue", "language", ""),
    ("UPDATE pg_language SET lanpltrusted = true WHERE lanname = 'tongue'", "language", "trusted"),
    ("DROP ACCESS METHOD pile", "access method", ""),
    ("DROP TEXT SEARCH PARSER z.parser", "text search parser", ""),
    ("DROP TEXT SEARCH TEMPLATE z.template", "text search template", ""),
    ("ALTER FOREIGN DATA WRAPPER wrapper OPTIONS (SET a 'c')", "foreign-data wrapper", "option a"),
    ("DROP SERVER files CASCADE", "foreign server", ""),
    ("ALTER FOREIGN TABLE z.log OPTIONS (SET format 'text')", "foreign table", "option format"),
    ("DROP USER MAPPING FOR zoo_app SERVER files", "user mapping", ""),
    ("ALTER PUBLICATION pub SET (publish = 'insert')", "publication", "delete + update + truncate"),
    ("ALTER PUBLICATION pub DROP TABLE z.child", "publication", "table z.child"),
    (
        "ALTER PUBLICATION pub SET TABLE z.parent WHERE (id > 1), z.child (id, v)",
        "publication",
        "table z.parent",
    ),
    ("ALTER SUBSCRIPTION sub SET (binary = true)", "subscription", "binary"),
    ("ALTER SUBSCRIPTION sub SET (disable_on_error = true)", "subscription", "disable on error (15)"),
    (
        "ALTER SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 dbname=no password=other'",
        "subscription connection",
        "parameter password",
    ),
    ("COMMENT ON COLUMN z.parent.name IS NULL", "comment", ""),
    ("COMMENT ON PROCEDURE z.work() IS 'plays'", "comment", "text"),
    ("COMMENT ON LARGE OBJECT 4711 IS 'a picture'", "comment", "+"),
    ("ALTER TABLE z.parent OWNER TO zoo_owner", "owner", "owner"),
    ("ALTER PROCEDURE z.work() OWNER TO zoo_owner", "owner", "owner"),
    ("REVOKE INSERT ON z.parent FROM zoo_app", "privileges", "zoo_app"),
    ("REVOKE GRANT OPTION FOR SELECT ON z.parent FROM zoo_reader", "privileges", "zoo_reader"),
    ("REVOKE UPDATE (name) ON z.parent FROM zoo_reader", "privileges", ""),
    ("GRANT SELECT ON z.tenant TO PUBLIC", "privileges", "PUBLIC"),
    ("GRANT EXECUTE ON FUNCTION z.secret() TO PUBLIC", "privileges", "PUBLIC"),
    ("REVOKE USAGE ON SCHEMA z FROM zoo_app", "privileges", "zoo_app"),
    ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) TO PUBLIC", "system privileges", ""),
    ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO zoo_app", "system privileges", "+"),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner IN SCHEMA z REVOKE SELECT ON TABLES FROM zoo_reader",
        "default privileges",
        "",
    ),
    ("ALTER ROLE zoo_app NOLOGIN", "role", "login"),
    ("ALTER ROLE zoo_reader BYPASSRLS", "role", "bypass row security"),
    ("ALTER ROLE zoo_app CONNECTION LIMIT 6", "role", "connection limit"),
    ("ALTER ROLE zoo_app PASSWORD NULL", "role password", "method"),
    ("ALTER ROLE zoo_app PASSWORD 'another'", "role password", "verifier (14)"),
    ("REVOKE zoo_reader FROM zoo_app", "membership", ""),
    ("ALTER ROLE zoo_app RESET statement_timeout", "setting", ""),
    ("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", "system privileges", "+"),
    ("GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO zoo_app", "system privileges", "+"),
    ("REVOKE USAGE ON TYPE public.citext FROM PUBLIC", "system privileges", "+"),
    ("REVOKE USAGE ON SCHEMA pg_catalog FROM PUBLIC", "system privileges", "+"),
    ("GRANT SELECT (rolname) ON pg_catalog.pg_authid TO zoo_app", "system privileges", "+"),
    ("ALTER FUNCTION z.pair_text(z.pair) NO DEPENDS ON EXTENSION postgres_fdw", "extension dependency", ""),
    ("ALTER MATERIALIZED VIEW z.sums ALTER n SET STATISTICS 7", "materialized view", "column tuning"),
    ("ALTER MATERIALIZED VIEW z.sums ALTER n SET (n_distinct = 7)", "materialized view", "column tuning"),
    ("UPDATE pg_database SET datconnlimit = 9 WHERE datname = current_database()", "database", "connection limit"),
)  # fmt: skip

# As people write it: what the server makes of it differs from what it makes of its own dump of it.
FIRST_GENERATION = r"""
create schema s;
create table s.t(id int primary key, status varchar(20) check (status in ('a','b''c]','d')), n smallint check (n in (1,2,3)), m bigint check (m not in (1,2)), d date default '2020-01-01'::date + 3 check (d > current_date - interval '100 years'), x text check (x similar to 'a%' and x not like 'b%' and x is distinct from 'q'), p numeric check (p between 0 and 1e6 and p <> -1), a varchar[] check (a <@ array['x','y']::varchar[]), ts timestamptz default (now() at time zone 'utc'), c char(3) check (c in ('abc','def')), e name, j jsonb default '{"a": [1,2]}', b bytea default '\x00', iv interval default '1 day 2 hours', arr int[] default array[1,2,3], g text generated always as (lower(status) || coalesce(x,'') || (n::text)) stored, u uuid default gen_random_uuid(), bb bit(3) default B'101', dd double precision default 'NaN', r real default 1.5, mny numeric(5,2) default 10);
create index on s.t (status) where status in ('a','b');
create index on s.t ((case status when 'a' then 1 else 2 end)) where status = any(array['a','b']::varchar[]);
create index on s.t using gin (j jsonb_path_ops);
create index on s.t (lower(x) collate "C" desc nulls last) include (n) where n is not null and x ~ '^a';
create view s.v as select id, status in ('a','b') ok, case when status not in ('x','y') then 'z' end cs, extract(year from d) yr, substring(x from 2 for 3) sub, trim(both ' ' from x) tr, position('a' in x) ps, overlay(x placing 'z' from 1) ov, (select max(id) from s.t t2 where t2.status in ('q','r')) mx, row_number() over (partition by status order by id rows between 1 preceding and current row) rn, array_agg(n) filter (where n in (1,2)) over () ag, id::text || 'x' cc, x collate "C" xc, now() at time zone 'utc' nw, array[status, 'k'] ak, nullif(id, 0) nf, greatest(id, n) gr, d between symmetric '2020-01-01' and '2021-01-01' sym, (j->>'a')::int jj from s.t where status = any ('{a,b}'::varchar[]) and (id, n) > (1, 2) and exists (select 1 from s.t z where z.id = t.id);
create view s.v2 as select a.id, b.status from s.t a join s.t b using (id) left join lateral (select x from s.t c where c.id = a.id limit 1) q on true where a.status in ('a') union all select 1, 'k'::varchar union select 2, null order by 1;
create view s.v3 as with recursive r(n) as (values (1) union all select n+1 from r where n < 5) select * from r natural join (select 1 n) k;
create view s.v4 as select status, count(*) c, sum(n) filter (where n > 1) from s.t group by grouping sets ((status), ()) having count(*) in (1,2) order by 2 desc nulls last fetch first 3 rows with ties;
create view s.v5 as select * from (values ('a'::varchar, 1), ('b', 2)) v(k, n) where k in ('a','b');
create materialized view s.mv as select distinct on (status) status, string_agg(x, ',' order by x) from s.t where status in ('a','b') group by status, id;
create function s.f(a varchar default 'x', variadic b int[] default array[1,2]) returns boolean language sql return a in ('a', 'b') and 3 = any(b);
create function s.g() returns setof int language sql begin atomic select id from s.t where status in ('a','b'); select 2; end;
create domain s.dom as varchar(10) check (value in ('a','b')) default 'a';
alter table s.t enable row level security; create policy p on s.t using (status in ('a','b') and current_user in ('x'::name, 'y')) with check (exists (select 1 from s.t z where z.status in ('q')));
create function s.trg() returns trigger language plpgsql as 'begin return new; end';
create trigger tr before update of status on s.t for each row when (old.status in ('a','b') and new.status is distinct from old.status) execute function s.trg();
create rule ru as on update to s.v2 where old.status in ('a') do instead update s.t set status = case when new.status in ('q','r') then 'a' else 'b' end where id = old.id;
create table s.pt (k varchar(5), v int) partition by list (k); create table s.pt1 partition of s.pt for values in ('a','b'); create table s.pt2 partition of s.pt default; create index on s.pt (k) where k in ('a','b'); alter table s.pt add check (k in ('a','b','c'));
create table s.pr (at timestamptz, v text) partition by range (at, v); create table s.pr1 partition of s.pr for values from ('2020-01-01', minvalue) to ('2021-01-01 00:00+05', 'x');
create statistics s.st on (lower(x)), status from s.t;
create publication pp for table s.t (id, status) where (id in (1,2));
create table s.ex (r int4range, k varchar, exclude using gist (r with &&) where (k in ('a','b')));
create table s.ih (a int, b varchar check (b in ('x','y'))); create table s.ic (c int default 3) inherits (s.ih); alter table s.ih add column late varchar default 'q' not null;
comment on view s.v is E'multi\nline';
"""
