"""What `splitguard grants --before-10` prints, for PostgreSQL 9.5 and 9.6.

Theory of operation. Before pg_monitor a role that is no superuser sees its own rows of
the statistics and nothing else, and 9.5 tells nobody what pg_control says. So the
script makes four functions in a schema of their own that run with their owner's rights
and each give away one thing: pg_control, the senders, the receiver, and who waits for
a standby. Only the probe's role may call them. Their results are JSON or bytes, so that
a dump of them can be restored into any later version, which needs none of them.
"""

SQL = """\
-- Splitguard's role, for PostgreSQL 9.5 and 9.6, which are watched and not copied.
-- Run once on the primary, as a superuser: psql -X -d postgres -f grants.sql
-- It may be run again at any time. The password is not set here:
--   psql -c '\\password splitguard_probe'
-- After an upgrade to 10 or later: DROP SCHEMA splitguard CASCADE; then run what
-- `splitguard grants` prints.
--
-- pg_hba.conf on every node, above other lines (one line for each agent's address):
--   hostssl  postgres  splitguard_probe  10.0.0.1/32  md5
--   hostssl  postgres  splitguard_probe  10.0.0.2/32  md5
-- Then: SELECT pg_reload_conf();

\\set ON_ERROR_STOP on

BEGIN;

DO $splitguard$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'splitguard_probe') THEN
    CREATE ROLE splitguard_probe;
  END IF;
END
$splitguard$;

-- Asked once a second by every agent, over one kept connection and now and then a new
-- one: the limit leaves room for nine agents and keeps a fault from using up all slots.
ALTER ROLE splitguard_probe LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
  NOBYPASSRLS CONNECTION LIMIT 20;
ALTER ROLE splitguard_probe SET default_transaction_read_only = on;
ALTER ROLE splitguard_probe SET statement_timeout = '5s';
GRANT CONNECT ON DATABASE postgres TO splitguard_probe;

CREATE SCHEMA IF NOT EXISTS splitguard;
REVOKE ALL ON SCHEMA splitguard FROM PUBLIC;
GRANT USAGE ON SCHEMA splitguard TO splitguard_probe;

-- The system identifier, and the timeline of a standby: the whole of pg_control.
CREATE OR REPLACE FUNCTION splitguard.control() RETURNS bytea
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
  AS $$ SELECT pg_read_binary_file('global/pg_control', 0, 512) $$;

CREATE OR REPLACE FUNCTION splitguard.senders() RETURNS json
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
  AS $$ SELECT coalesce(json_agg(one), '[]') FROM (
          SELECT application_name, state, sync_state, flush_location, replay_location
            FROM pg_stat_replication ORDER BY application_name, pid LIMIT 64
        ) AS one $$;

DO $splitguard$
BEGIN
  IF current_setting('server_version_num')::int >= 90600 THEN
    CREATE OR REPLACE FUNCTION splitguard.receiver() RETURNS json
      LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
      AS $$ SELECT row_to_json(one) FROM (
              SELECT received_tli, latest_end_lsn, last_msg_receipt_time
                FROM pg_stat_wal_receiver LIMIT 1) AS one $$;
    CREATE OR REPLACE FUNCTION splitguard.waiting() RETURNS json
      LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
      AS $$ SELECT coalesce(json_agg(pid || ' ' || query_start), '[]') FROM (
              SELECT pid, query_start FROM pg_stat_activity
               WHERE wait_event = 'SyncRep' ORDER BY query_start LIMIT 1000
            ) AS one $$;
  ELSE
    -- 9.5 shows neither a receiver nor what a backend waits for.
    CREATE OR REPLACE FUNCTION splitguard.receiver() RETURNS json
      LANGUAGE sql STABLE SET search_path = pg_catalog AS $$ SELECT NULL::json $$;
    CREATE OR REPLACE FUNCTION splitguard.waiting() RETURNS json
      LANGUAGE sql STABLE SET search_path = pg_catalog AS $$ SELECT '[]'::json $$;
  END IF;
END
$splitguard$;

REVOKE ALL ON FUNCTION splitguard.control(), splitguard.senders(),
  splitguard.receiver(), splitguard.waiting() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION splitguard.control(), splitguard.senders(),
  splitguard.receiver(), splitguard.waiting() TO splitguard_probe;

COMMIT;
"""
