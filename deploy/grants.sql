-- Splitguard's three roles, for PostgreSQL 10 and later.
-- Run once on the primary, as a superuser: psql -X -d postgres -f grants.sql
-- (10 to 13: in every other database too, and again when tables were made).
-- It may be run again at any time. Passwords are not set here:
--   psql -c '\password splitguard_probe'
--   psql -c '\password splitguard_loss'
--
-- pg_hba.conf on every node, above other lines (one line for each agent's address):
--   hostssl  postgres  splitguard_probe  10.0.0.1/32  scram-sha-256
--   hostssl  postgres  splitguard_probe  10.0.0.2/32  scram-sha-256
--   hostssl  all       splitguard_loss   10.0.0.1/32  scram-sha-256
--   hostssl  all       splitguard_loss   10.0.0.2/32  scram-sha-256
--   local    all       splitguard_local               peer map=splitguard
-- pg_ident.conf on every node; the second word is the user that the agent runs as:
--   splitguard  postgres  splitguard_local
-- Then: SELECT pg_reload_conf();

\set ON_ERROR_STOP on

BEGIN;

DO $splitguard$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'splitguard_probe') THEN
    CREATE ROLE splitguard_probe;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'splitguard_local') THEN
    CREATE ROLE splitguard_local;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'splitguard_loss') THEN
    CREATE ROLE splitguard_loss;
  END IF;
END
$splitguard$;

-- Asked once a second by every agent, over one kept connection and now and then a new
-- one: the limit leaves room for nine agents and keeps a fault from using up all slots.
ALTER ROLE splitguard_probe LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
  NOBYPASSRLS CONNECTION LIMIT 20;
ALTER ROLE splitguard_probe SET default_transaction_read_only = on;
ALTER ROLE splitguard_probe SET statement_timeout = '5s';
GRANT pg_monitor TO splitguard_probe;
GRANT CONNECT ON DATABASE postgres TO splitguard_probe;

-- Starts and stops a backup, and reads a losing side's rows while that still runs, each
-- database in one transaction; through the unix socket of its own machine only.
ALTER ROLE splitguard_local LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
  BYPASSRLS CONNECTION LIMIT 100;
GRANT pg_monitor TO splitguard_local;
GRANT CONNECT ON DATABASE postgres TO splitguard_local;

DO $splitguard$
BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN
    GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO splitguard_local;
    GRANT EXECUTE ON FUNCTION pg_backup_stop(boolean) TO splitguard_local;
    GRANT pg_checkpoint TO splitguard_local;
  ELSE
    GRANT EXECUTE ON FUNCTION pg_start_backup(text, boolean, boolean)
      TO splitguard_local;
    GRANT EXECUTE ON FUNCTION pg_stop_backup(boolean, boolean) TO splitguard_local;
  END IF;
END
$splitguard$;

-- Reads the winner's rows when a losing side is compared with it; changes nothing.
-- Without this role everything but that comparison works.
ALTER ROLE splitguard_loss LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
  BYPASSRLS CONNECTION LIMIT 5;
ALTER ROLE splitguard_loss SET default_transaction_read_only = on;

-- Rows that row security hides would look as if they were lost: BYPASSRLS. From 14 on
-- these two can read password hashes (pg_authid) too: guard the password of
-- splitguard_loss as a superuser's. Without its part of this splitguard_local still has
-- full copies made, and level `rows` of a capture is not to be had.
DO $splitguard$
DECLARE
  one name;
  reader name;
BEGIN
  FOREACH reader IN ARRAY ARRAY['splitguard_loss', 'splitguard_local']::name[] LOOP
    FOR one IN SELECT datname FROM pg_database WHERE datallowconn LOOP
      EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', one, reader);
    END LOOP;
    IF current_setting('server_version_num')::int >= 140000 THEN
      EXECUTE format('GRANT pg_read_all_data TO %I', reader);
      CONTINUE;
    END IF;
    FOR one IN SELECT nspname FROM pg_namespace
      WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP
      EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', one, reader);
      EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', one, reader);
      EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO %I', one, reader);
    END LOOP;
  END LOOP;
END
$splitguard$;

COMMIT;
