"""What the lab's database holds: roles, grants, and the manager's tables.

The manager's objects have serial keys, as a real manager's have, so the writes of
the two sides of a split collide on them. The agent's roles get exactly what
`splitguard grants` prints.
"""

from psycopg import sql

from agent.lab.plan import DATABASE, MANAGER_ROLE, Secrets

KINDS = ("blueprints", "deployments", "plugins")
_READS_ALL = 14
"""The major version that brought pg_read_all_data."""
READERS = "splitguard_loss, splitguard_local"
"""Who reads every row: the winner's, and a losing side's."""
_BACKUP_RENAMED = 15
"""The major version in which pg_start_backup became pg_backup_start."""

TABLE = """
CREATE TABLE {kind} (
    _storage_id serial PRIMARY KEY,
    id text NOT NULL,
    tenant_name text NOT NULL,
    content text NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant_name, id)
)"""

SNAPSHOTS = """
CREATE TABLE snapshots (
    _storage_id serial PRIMARY KEY,
    id text NOT NULL,
    tenant_name text NOT NULL,
    status text NOT NULL,
    error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant_name, id)
)"""

EXECUTIONS = """
CREATE TABLE executions (
    _storage_id serial PRIMARY KEY,
    id text NOT NULL UNIQUE,
    tenant_name text NOT NULL,
    workflow_id text NOT NULL,
    status text NOT NULL,
    error text NOT NULL DEFAULT '',
    is_system_workflow boolean NOT NULL DEFAULT true,
    created_by text NOT NULL,
    parameters jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz
)"""

TOKENS = """
CREATE TABLE tokens (
    id text PRIMARY KEY,
    secret_hash text NOT NULL,
    username text NOT NULL,
    description text,
    expiration_date timestamptz,
    last_used timestamptz
)"""

MAINTENANCE = """
CREATE TABLE maintenance_mode (
    id int PRIMARY KEY CHECK (id = 1),
    status text NOT NULL,
    activation_requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    activated_at timestamptz,
    requested_by text NOT NULL
)"""

AUDIT_LOG = """
CREATE TABLE audit_log (
    _storage_id serial PRIMARY KEY,
    ref_table text NOT NULL,
    ref_id int NOT NULL,
    ref_identifier jsonb NOT NULL,
    operation text NOT NULL,
    creator_name text NOT NULL,
    execution_id text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""

AUDIT = """
CREATE FUNCTION write_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    INSERT INTO audit_log
        (ref_table, ref_id, ref_identifier, operation, creator_name)
    VALUES (
        TG_TABLE_NAME, changed._storage_id,
        jsonb_build_object('id', changed.id, 'tenant_name', changed.tenant_name),
        CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE lower(TG_OP) END,
        coalesce(nullif(current_setting('audit.username', true), ''), 'admin'));
    RETURN NULL;
END $$"""
"""Written by triggers, as a manager's is from 6.2 on."""

REWIND = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
"""What pg_rewind needs on its source, from PostgreSQL's documentation of it."""


def cluster_statements(major: int, secrets: Secrets) -> list[sql.Composed | sql.SQL]:
    """Return the statements for the database `postgres`, to be run one by one."""
    backup = (
        ("pg_backup_start(text, boolean)", "pg_backup_stop(boolean)")
        if major >= _BACKUP_RENAMED
        else (
            "pg_start_backup(text, boolean, boolean)",
            "pg_stop_backup(boolean, boolean)",
        )
    )
    found: list[sql.Composed | sql.SQL] = [
        _login("splitguard_probe", secrets.probe),
        _login("splitguard_loss", secrets.loss),
        _login("replicator", secrets.replicator),
        _login(MANAGER_ROLE, secrets.manager),
        sql.SQL("ALTER ROLE replicator REPLICATION"),
        sql.SQL("CREATE ROLE splitguard_local LOGIN"),
        sql.SQL("GRANT pg_monitor TO splitguard_probe, splitguard_local"),
        sql.SQL("ALTER ROLE splitguard_loss BYPASSRLS"),
        sql.SQL("ALTER ROLE splitguard_local BYPASSRLS"),
        sql.SQL("ALTER ROLE splitguard_loss SET default_transaction_read_only = on"),
    ]
    if major >= _READS_ALL:
        found.append(sql.SQL(f"GRANT pg_read_all_data TO {READERS}"))
    if major >= _BACKUP_RENAMED:
        found.append(sql.SQL("GRANT pg_checkpoint TO splitguard_local"))
    found += [_execute(function, "splitguard_local") for function in backup]
    found += [_execute(function, "replicator") for function in REWIND]
    found.append(
        sql.SQL("CREATE DATABASE {} OWNER {}").format(
            sql.Identifier(DATABASE), sql.Identifier(MANAGER_ROLE)
        )
    )
    return found


def manager_statements(*, audited: bool = False) -> list[sql.Composed | sql.SQL]:
    """Return the statements for the manager's database, as its owner."""
    tables: list[sql.Composed | sql.SQL] = [
        sql.SQL(TABLE).format(kind=sql.Identifier(kind)) for kind in KINDS
    ]
    more = (SNAPSHOTS, EXECUTIONS, TOKENS, MAINTENANCE)
    tables += [sql.SQL(statement) for statement in more]
    if audited:
        tables += _audit_statements()
    read = sql.SQL(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READERS}")
    return [*tables, read]


def _audit_statements() -> list[sql.Composed | sql.SQL]:
    triggers = [
        sql.SQL(
            "CREATE TRIGGER audit_{table} AFTER INSERT OR UPDATE OR DELETE ON {name} "
            "FOR EACH ROW EXECUTE FUNCTION write_audit_log()"
        ).format(table=sql.SQL(table), name=sql.Identifier(table))
        for table in (*KINDS, "snapshots", "executions")
    ]
    return [sql.SQL(AUDIT_LOG), sql.SQL(AUDIT), *triggers]


def _login(role: str, password: str) -> sql.Composed:
    return sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
        sql.Identifier(role), sql.Literal(password)
    )


def _execute(function: str, role: str) -> sql.Composed:
    """Grant one of the functions named above; no part of it comes from outside."""
    return sql.SQL("GRANT EXECUTE ON FUNCTION pg_catalog.{} TO {}").format(
        sql.SQL(function),
        sql.Identifier(role),
    )
