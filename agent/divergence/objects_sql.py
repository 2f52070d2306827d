"""What is asked of the catalogues of a server, to tell its objects apart.

Theory of operation. Each query gives rows of one form: kind, object id, file, name,
parent, the transaction that made it, the transactions that left its catalogue rows as
they are, and what there is to compare, as a JSON object of texts. The transaction that
made a table is that of its column `ctid`: the row of a system column is never
changed. What a version does not know is left out, because a whole row as JSON has only
what is there. What belongs to an extension is the extension's. Names come out with
their schema, because the session's search path holds no other (`values.settle`).
Source: the catalogues' descriptions of PostgreSQL 10 to 18.
"""

from typing import LiteralString

_OURS: LiteralString = (
    "n.nspname NOT IN ('pg_catalog', 'information_schema')"
    " AND n.nspname !~ '^pg_(toast|temp|toast_temp)'"
)


def _own(catalogue: LiteralString, alias: LiteralString) -> LiteralString:
    """Return the condition that an object belongs to no extension."""
    return (
        "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '"
        + catalogue
        + "'::regclass AND e.objid = "
        + alias
        + ".oid AND e.deptype = 'e')"
    )


_TABLES: LiteralString = """
SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
    WHEN 'm' THEN 'materialised view' WHEN 'f' THEN 'foreign table' END,
  c.oid, c.relfilenode, n.nspname || '.' || c.relname, '',
  (SELECT a.xmin FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = -1),
  ARRAY(SELECT c.xmin::text
    UNION SELECT a.xmin::text FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0
    UNION SELECT d.xmin::text FROM pg_attrdef d WHERE d.adrelid = c.oid
    UNION SELECT r.xmin::text FROM pg_rewrite r
      WHERE r.ev_class = c.oid AND r.rulename = '_RETURN'),
  json_build_object(
    'columns', (SELECT string_agg(concat_ws(' ', a.attname,
        format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attcollation <> 0 THEN (SELECT s.nspname || '.' || o.collname
          FROM pg_collation o JOIN pg_namespace s ON s.oid = o.collnamespace
          WHERE o.oid = a.attcollation) END,
        CASE WHEN a.attnotnull THEN 'NOT NULL' END, a.attidentity,
        to_jsonb(a) ->> 'attgenerated', pg_get_expr(d.adbin, d.adrelid)), ', '
      ORDER BY a.attnum)
      FROM pg_attribute a LEFT JOIN pg_attrdef d
        ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
    'kind', c.relkind, 'persistence', c.relpersistence,
    'partitioning', CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
    'place among partitions', pg_get_expr(c.relpartbound, c.oid),
    'parents', (SELECT string_agg(s.nspname || '.' || p.relname, ', '
        ORDER BY i.inhseqno) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
      JOIN pg_namespace s ON s.oid = p.relnamespace WHERE i.inhrelid = c.oid),
    'options', c.reloptions::text, 'replica identity', c.relreplident,
    'row security', c.relrowsecurity::text || c.relforcerowsecurity::text,
    'owner', pg_get_userbyid(c.relowner), 'privileges', c.relacl::text || coalesce((
      SELECT string_agg(a.attname || a.attacl::text, ' ' ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL), ''),
    'server', (SELECT s.srvname || coalesce(f.ftoptions::text, '')
      FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver
      WHERE f.ftrelid = c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {ours} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND c.relpersistence <> 't' AND {pg_class_c}
"""
_SEQUENCES: LiteralString = """
SELECT 'sequence', c.oid, c.relfilenode, n.nspname || '.' || c.relname,
  coalesce((SELECT s.nspname || '.' || t.relname FROM pg_depend d
    JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace s ON s.oid = t.relnamespace
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refobjsubid > 0
      AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    ORDER BY d.deptype DESC LIMIT 1), ''),
  (SELECT a.xmin FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = -1),
  ARRAY(SELECT c.xmin::text UNION SELECT q.xmin::text),
  json_build_object('parameters', concat_ws(' ', format_type(q.seqtypid, NULL),
      q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle),
    'owner', pg_get_userbyid(c.relowner), 'privileges', c.relacl::text,
    'value', CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE')
      THEN coalesce(pg_sequence_last_value(c.oid)::text, 'its start') END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence q ON q.seqrelid = c.oid
WHERE {ours} AND c.relpersistence <> 't' AND {pg_class_c}
"""
_INDEXES: LiteralString = """
SELECT 'index', c.oid, 0, n.nspname || '.' || c.relname,
  n.nspname || '.' || t.relname,
  (SELECT a.xmin FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = 1),
  ARRAY(SELECT c.xmin::text UNION SELECT i.xmin::text),
  json_build_object('definition', pg_get_indexdef(c.oid), 'valid', i.indisvalid::text)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {ours} AND t.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_constraint o
  WHERE o.conindid = c.oid AND o.conrelid = t.oid) AND {pg_class_t}
"""
_CONSTRAINTS: LiteralString = """
SELECT 'constraint', o.oid, 0, n.nspname || '.' || c.relname || '.' || o.conname,
  n.nspname || '.' || c.relname, o.xmin, ARRAY[o.xmin::text],
  json_build_object('definition', pg_get_constraintdef(o.oid))
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {ours} AND o.contype NOT IN ('t', 'n') AND c.relpersistence <> 't'
  AND {pg_class_c}
"""
_TRIGGERS: LiteralString = """
SELECT 'trigger', g.oid, 0, n.nspname || '.' || c.relname || '.' || g.tgname,
  n.nspname || '.' || c.relname, g.xmin, ARRAY[g.xmin::text],
  json_build_object('definition', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled)
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {ours} AND NOT g.tgisinternal AND c.relpersistence <> 't' AND {pg_class_c}
"""
_POLICIES: LiteralString = """
SELECT 'policy', p.oid, 0, n.nspname || '.' || c.relname || '.' || p.polname,
  n.nspname || '.' || c.relname, p.xmin, ARRAY[p.xmin::text],
  json_build_object('definition', concat_ws(' / ', p.polcmd, p.polpermissive,
    ARRAY(SELECT pg_get_userbyid(r) FROM unnest(p.polroles) r)::text,
    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {ours} AND {pg_class_c}
"""
_RULES: LiteralString = """
SELECT 'rule', r.oid, 0, n.nspname || '.' || c.relname || '.' || r.rulename,
  n.nspname || '.' || c.relname, r.xmin, ARRAY[r.xmin::text],
  json_build_object('definition', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled)
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {ours} AND r.rulename <> '_RETURN' AND {pg_class_c}
"""
_FUNCTIONS: LiteralString = """
SELECT CASE WHEN a.aggfnoid IS NOT NULL THEN 'aggregate'
    WHEN to_jsonb(p) ->> 'prokind' = 'p' THEN 'procedure' ELSE 'function' END,
  p.oid, 0, n.nspname || '.' || p.proname || '('
    || pg_get_function_identity_arguments(p.oid) || ')', '', p.xmin,
  ARRAY(SELECT p.xmin::text UNION SELECT a.xmin::text WHERE a.xmin IS NOT NULL),
  json_build_object('definition', CASE WHEN a.aggfnoid IS NULL
      THEN pg_get_functiondef(p.oid)
      ELSE concat_ws(' ', pg_get_function_result(p.oid), a.aggtransfn, a.aggfinalfn,
        format_type(a.aggtranstype, NULL), a.agginitval) END,
    'owner', pg_get_userbyid(p.proowner), 'privileges', p.proacl::text)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
WHERE {ours} AND {pg_proc_p}
"""
_TYPES: LiteralString = """
SELECT CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'type' END,
  t.oid, 0, n.nspname || '.' || t.typname, '', t.xmin,
  ARRAY(SELECT t.xmin::text
    UNION SELECT l.xmin::text FROM pg_enum l WHERE l.enumtypid = t.oid
    UNION SELECT o.xmin::text FROM pg_constraint o WHERE o.contypid = t.oid
    UNION SELECT a.xmin::text FROM pg_attribute a WHERE a.attrelid = t.typrelid),
  json_build_object('labels', (SELECT string_agg(quote_literal(l.enumlabel), ', '
        ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid),
    'definition', concat_ws(' ', CASE WHEN t.typbasetype <> 0
        THEN format_type(t.typbasetype, t.typtypmod) END,
      CASE WHEN t.typnotnull THEN 'NOT NULL' END, t.typdefault,
      (SELECT string_agg(pg_get_constraintdef(o.oid), ' ' ORDER BY o.conname)
        FROM pg_constraint o WHERE o.contypid = t.oid),
      (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod),
        ', ' ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
      (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r
        WHERE r.rngtypid = t.oid)),
    'owner', pg_get_userbyid(t.typowner), 'privileges', t.typacl::text)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE {ours} AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS (
  SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')) AND {pg_type_t}
"""
_SCHEMAS: LiteralString = """
SELECT 'schema', n.oid, 0, n.nspname, '', n.xmin, ARRAY[n.xmin::text],
  json_build_object('owner', pg_get_userbyid(n.nspowner), 'privileges', n.nspacl::text)
FROM pg_namespace n WHERE {ours} AND {pg_namespace_n}
"""
_EXTENSIONS: LiteralString = """
SELECT 'extension', e.oid, 0, e.extname, '', e.xmin, ARRAY[e.xmin::text],
  json_build_object('version', e.extversion, 'schema', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
"""
_STATISTICS: LiteralString = """
SELECT 'statistics', s.oid, 0, n.nspname || '.' || s.stxname, t.nspname || '.'
  || c.relname, s.xmin, ARRAY[s.xmin::text],
  json_build_object('definition', pg_get_statisticsobjdef(s.oid))
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
JOIN pg_class c ON c.oid = s.stxrelid JOIN pg_namespace t ON t.oid = c.relnamespace
WHERE {ours} AND {pg_statistic_ext_s}
"""
_PUBLICATIONS: LiteralString = """
SELECT 'publication', p.oid, 0, p.pubname, '', p.xmin,
  ARRAY(SELECT p.xmin::text UNION SELECT r.xmin::text FROM pg_publication_rel r
    WHERE r.prpubid = p.oid),
  json_build_object('definition', (to_jsonb(p) - 'oid' - 'pubowner')::text,
    'owner', pg_get_userbyid(p.pubowner),
    'tables', (SELECT string_agg(n.nspname || '.' || c.relname, ', '
        ORDER BY n.nspname, c.relname) FROM pg_publication_rel r
      JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE r.prpubid = p.oid))
FROM pg_publication p
"""
_SUBSCRIPTIONS: LiteralString = """
SELECT 'subscription', 0, 0, s.subname, '', NULL, ARRAY[]::text[],
  json_build_object('definition', concat_ws(' ', s.subenabled, s.subslotname,
    s.subpublications::text), 'owner', pg_get_userbyid(s.subowner))
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database()
"""
_EVENT_TRIGGERS: LiteralString = """
SELECT 'event trigger', t.oid, 0, t.evtname, '', t.xmin, ARRAY[t.xmin::text],
  json_build_object('definition', concat_ws(' ', t.evtevent, t.evtfoid::regproc,
    t.evtenabled, t.evttags::text), 'owner', pg_get_userbyid(t.evtowner))
FROM pg_event_trigger t
"""
_SERVERS: LiteralString = """
SELECT 'foreign server', s.oid, 0, s.srvname, '', s.xmin, ARRAY[s.xmin::text],
  json_build_object('definition', concat_ws(' ', w.fdwname, s.srvtype, s.srvversion,
    s.srvoptions::text), 'owner', pg_get_userbyid(s.srvowner),
    'privileges', s.srvacl::text)
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
"""
_DEFAULT_PRIVILEGES: LiteralString = """
SELECT 'default privileges', a.oid, 0, concat_ws(' ', pg_get_userbyid(a.defaclrole),
    n.nspname, a.defaclobjtype), '', a.xmin, ARRAY[a.xmin::text],
  json_build_object('privileges', a.defaclacl::text)
FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
"""
_LARGE_OBJECTS: LiteralString = """
SELECT 'large objects', 0, 0, 'all together', '', NULL, ARRAY[]::text[],
  json_build_object('number', count(*)::text, 'which', md5(string_agg(
    concat_ws(' ', m.oid, pg_get_userbyid(m.lomowner), m.lomacl), ',' ORDER BY m.oid)))
FROM pg_largeobject_metadata m
"""

_ROLES: LiteralString = """
SELECT 'role', r.oid, 0, r.rolname, '', NULL, ARRAY(SELECT {xmin}
    UNION SELECT s.xmin::text FROM pg_db_role_setting s WHERE s.setrole = r.oid
    UNION SELECT m.xmin::text FROM pg_auth_members m WHERE m.member = r.oid),
  json_build_object('rights', concat_ws(' ', r.rolsuper, r.rolinherit, r.rolcreaterole,
      r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
      r.rolvaliduntil),
    'settings', (SELECT string_agg(concat_ws(' ', d.datname, s.setconfig::text), '; '
        ORDER BY d.datname) FROM pg_db_role_setting s
      LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = r.oid),
    'membership', (SELECT string_agg(DISTINCT concat_ws(' ',
        pg_get_userbyid(m.roleid), m.admin_option), ', ')
      FROM pg_auth_members m WHERE m.member = r.oid)
    {hash})
FROM {catalogue} r WHERE r.rolname !~ '^pg_'
"""
_DATABASES: LiteralString = """
SELECT 'database', d.oid, 0, d.datname, '', d.xmin, ARRAY(SELECT d.xmin::text
    UNION SELECT s.xmin::text FROM pg_db_role_setting s
      WHERE s.setdatabase = d.oid AND s.setrole = 0),
  json_build_object('definition', concat_ws(' ', pg_encoding_to_char(d.encoding),
      to_jsonb(d) ->> 'datcollate', to_jsonb(d) ->> 'datctype', d.datistemplate,
      d.datallowconn, d.datconnlimit),
    'owner', pg_get_userbyid(d.datdba), 'privileges', d.datacl::text,
    'settings', (SELECT string_agg(s.setconfig::text, '; ') FROM pg_db_role_setting s
      WHERE s.setdatabase = d.oid AND s.setrole = 0))
FROM pg_database d
"""
_TABLESPACES: LiteralString = """
SELECT 'tablespace', t.oid, 0, t.spcname, '', t.xmin, ARRAY[t.xmin::text],
  json_build_object('owner', pg_get_userbyid(t.spcowner), 'options', t.spcoptions::text,
    'privileges', t.spcacl::text)
FROM pg_tablespace t
"""


def _filled(template: LiteralString) -> LiteralString:
    """Return a query with its conditions."""
    return template.format(
        ours=_OURS,
        pg_class_c=_own("pg_class", "c"),
        pg_class_t=_own("pg_class", "t"),
        pg_namespace_n=_own("pg_namespace", "n"),
        pg_proc_p=_own("pg_proc", "p"),
        pg_statistic_ext_s=_own("pg_statistic_ext", "s"),
        pg_type_t=_own("pg_type", "t"),
    )


OF_A_DATABASE: tuple[LiteralString, ...] = tuple(
    map(
        _filled,
        (
            _SCHEMAS, _EXTENSIONS, _TYPES, _TABLES, _SEQUENCES, _INDEXES, _CONSTRAINTS,
            _TRIGGERS, _POLICIES, _RULES, _FUNCTIONS, _STATISTICS, _PUBLICATIONS,
            _SUBSCRIPTIONS, _EVENT_TRIGGERS, _SERVERS, _DEFAULT_PRIVILEGES,
            _LARGE_OBJECTS,
        ),
    )
)  # fmt: skip
"""What each database has for itself."""
ROLES_SEEN: LiteralString = _ROLES.format(
    xmin="''::text", hash="", catalogue="pg_roles"
)
ROLES_WHOLE: LiteralString = _ROLES.format(
    xmin="r.xmin::text",
    hash=", 'password', coalesce(md5(r.rolpassword), '')",
    catalogue="pg_authid",
)
"""For who may read password hashes: so a report can say that one was changed."""
OF_ALL_DATABASES: tuple[LiteralString, ...] = (_DATABASES, _TABLESPACES)
"""What all databases share, roles aside."""
