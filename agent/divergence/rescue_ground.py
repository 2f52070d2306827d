"""What a rescue makes for itself on the winner before it writes a row.

Theory of operation. The ledger is a table that stays; it is made only where something
has to be remembered. The other two live in the session. `FREE` looks for rows that
refer to one that is to be deleted. `THERE` holds a hash of each row that was found or
put in as the losing side has it: what refers to such a row is written only when its
hash is there, so that it can never hang on a stranger that took the key meanwhile. The
rows behind the hashes are locked against deletion and another key until the end.
"""
# ruff: noqa: S608 - constants

LEDGER = "splitguard_rescue.ledger"
LEDGER_SQL = (
    "CREATE SCHEMA IF NOT EXISTS splitguard_rescue;",
    (
        f"CREATE TABLE IF NOT EXISTS {LEDGER} (origin text NOT NULL,"
        " relation text NOT NULL, columns text[] NOT NULL, was text[] NOT NULL,"
        " now text[], how text NOT NULL, at timestamptz NOT NULL DEFAULT now(),"
        " PRIMARY KEY (origin, relation, columns, was));"
    ),
)
FREE = "pg_temp.splitguard_free"
FREE_SQL = (
    f"CREATE OR REPLACE FUNCTION {FREE}(part oid, place tid) RETURNS boolean"
    " LANGUAGE plpgsql AS $free$ DECLARE k record; held boolean; BEGIN"
    " FOR k IN WITH RECURSIVE up (oid) AS (SELECT part UNION SELECT i.inhparent"
    " FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid)"
    " SELECT c.conrelid, string_agg(format('c.%I = t.%I', a.attname, b.attname),"
    " ' AND ') AS pairs FROM pg_catalog.pg_constraint c"
    " CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS u (own, other)"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = u.own"
    " JOIN pg_catalog.pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = u.other"
    " WHERE c.contype = 'f' AND c.confrelid IN (SELECT up.oid FROM up)"
    " GROUP BY c.oid, c.conrelid LOOP EXECUTE format('SELECT EXISTS (SELECT FROM %s c,"
    " %s t WHERE t.tableoid = $1 AND t.ctid = $2 AND %s AND (c.tableoid, c.ctid)"
    " IS DISTINCT FROM ($1, $2))', k.conrelid::regclass, part::regclass, k.pairs)"
    " INTO held USING part, place; IF held THEN RETURN false; END IF; END LOOP;"
    " RETURN true; END $free$;"
)
"""Whether no other row refers to this one: a foreign key that cascades would take rows
along that the winner has made since."""
THERE = "pg_temp.splitguard_there"
THERE_SQL = (
    f"CREATE TEMP TABLE {THERE.partition('.')[2]} (note text PRIMARY KEY)"
    " ON COMMIT DROP;"
)
"""Rows that are on the winner as the losing side has them, by the hash of their key."""
