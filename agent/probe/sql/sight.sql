-- What one round trip tells about a server, PostgreSQL 14 and later.
-- Needs pg_monitor and nothing else; writes nothing, takes no transaction id.
-- Functions that raise in recovery stand behind CASE on a volatile function, which is
-- never folded early; a promotion in between can only turn "in recovery" off, and what
-- is called in recovery works after it too.
WITH server AS MATERIALIZED (
    SELECT pg_catalog.pg_is_in_recovery() AS in_recovery
), receiver AS (
    SELECT * FROM pg_catalog.pg_stat_wal_receiver LIMIT 1
), waiting AS (
    SELECT pid, query_start
      FROM pg_catalog.pg_stat_activity
     WHERE wait_event = 'SyncRep'
     ORDER BY query_start
     LIMIT 1000
)
SELECT json_build_object(
    'granted', pg_catalog.pg_has_role('pg_monitor', 'USAGE'),
    'role', current_user,
    'sight', json_build_object(
        'system_id', (SELECT system_identifier::text
                        FROM pg_catalog.pg_control_system()),
        'version_num', pg_catalog.current_setting('server_version_num')::int,
        'in_recovery', server.in_recovery,
        'timeline', CASE
            WHEN NOT server.in_recovery
                -- pg_control_checkpoint() shows the old timeline until the first
                -- checkpoint after a promotion; the WAL file's name does not.
                THEN ('x' || left(pg_catalog.pg_walfile_name(
                        pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::int
            ELSE coalesce(
                (SELECT received_tli FROM receiver),
                greatest(
                    (SELECT nullif(min_recovery_end_timeline, 0)
                       FROM pg_catalog.pg_control_recovery()),
                    (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())))
        END,
        'control_timeline', (SELECT timeline_id
                               FROM pg_catalog.pg_control_checkpoint()),
        'write_lsn', CASE
            WHEN NOT server.in_recovery THEN pg_catalog.pg_current_wal_insert_lsn()
            ELSE greatest((SELECT written_lsn FROM receiver),
                          pg_catalog.pg_last_wal_receive_lsn(),
                          pg_catalog.pg_last_wal_replay_lsn())
        END,
        'flush_lsn', CASE
            WHEN NOT server.in_recovery THEN pg_catalog.pg_current_wal_flush_lsn()
            -- What was replayed from pg_wal or an archive counts as well: after a
            -- restart nothing was received yet.
            ELSE greatest(pg_catalog.pg_last_wal_receive_lsn(),
                          pg_catalog.pg_last_wal_replay_lsn())
        END,
        'replay_lsn', CASE
            WHEN server.in_recovery THEN pg_catalog.pg_last_wal_replay_lsn()
        END,
        'postmaster_started', pg_catalog.to_char(
            pg_catalog.pg_postmaster_start_time() AT TIME ZONE 'UTC',
            'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'next_xid', pg_catalog.pg_snapshot_xmax(
            pg_catalog.pg_current_snapshot())::text::bigint,
        'upstream', (SELECT sender_host || ':' || sender_port
                       FROM receiver WHERE server.in_recovery),
        'receiver_mark', (SELECT coalesce(latest_end_lsn::text, '-') || ' '
                              || coalesce(last_msg_receipt_time::text, '-')
                            FROM receiver WHERE server.in_recovery),
        'senders', (
            SELECT coalesce(json_agg(json_build_object(
                       'name', coalesce(application_name, ''),
                       'state', coalesce(state, ''),
                       'sync_state', coalesce(sync_state, ''),
                       'flush_lsn', flush_lsn,
                       'reply_mark', coalesce(reply_time::text, ''))), '[]'::json)
              FROM (SELECT * FROM pg_catalog.pg_stat_replication
                     ORDER BY application_name, pid LIMIT 64) AS sender),
        'waiting_for_sync', (SELECT count(*) FROM waiting),
        'waiting_for_sync_s', 0,
        'apply_delay_s', CASE
            WHEN server.in_recovery THEN extract(
                epoch FROM pg_catalog.current_setting(
                    'recovery_min_apply_delay', true)::interval)
        END,
        'replay_paused', CASE
            WHEN server.in_recovery THEN pg_catalog.pg_is_wal_replay_paused()
        END,
        'slots', (
            SELECT coalesce(json_agg(json_build_object(
                       'name', slot_name,
                       'kind', slot_type,
                       'active', active,
                       'restart_lsn', restart_lsn,
                       'database', database,
                       'plugin', plugin,
                       'confirmed_lsn', confirmed_flush_lsn,
                       'lost', coalesce(wal_status = 'lost', false))), '[]'::json)
              FROM (SELECT * FROM pg_catalog.pg_replication_slots
                     ORDER BY slot_name LIMIT 64) AS slot)),
    'archive', CASE
        -- What is archived, and where to, every role may see; the probe makes a digest
        -- of it before anything else does.
        WHEN pg_catalog.current_setting('archive_mode') <> 'off' THEN (
            SELECT json_build_object(
                       'mode', pg_catalog.current_setting('archive_mode'),
                       'command', pg_catalog.current_setting('archive_command'),
                       'library', coalesce(pg_catalog.current_setting(
                           'archive_library', true), ''),
                       'folder', coalesce(pg_catalog.current_setting(
                           'basic_archive.archive_directory', true), ''),
                       'archived', archived_count,
                       'last_archived', last_archived_wal,
                       'failing', coalesce(last_failed_time > coalesce(
                           last_archived_time, '-infinity'), false),
                       'last_failed', last_failed_wal)
              FROM pg_catalog.pg_stat_archiver)
    END,
    'waits', (SELECT coalesce(json_agg(pid || ' ' || coalesce(query_start::text, '')),
                              '[]'::json)
                FROM waiting))::text
  FROM server
