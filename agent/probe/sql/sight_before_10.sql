-- What one round trip tells about a server, PostgreSQL 9.5 and 9.6. It differs from
-- sight_before_14.sql where those have other names (xlog, location), and where a role
-- that is no superuser sees nothing: the schema splitguard, which `splitguard grants
-- --before-10` makes, tells of pg_control, senders, receiver and waiting backends. What
-- pg_control says is read out of its bytes by the probe. 9.5 does not tell the flushed
-- position: what is written is a little more, never less. Run on 9.5.5 and 9.6.1,
-- primary, standby and through a promotion.
-- Writes nothing, takes no transaction id.
-- Functions that raise in recovery stand behind CASE on a volatile function, which is
-- never folded early; a promotion in between can only turn "in recovery" off, and what
-- is called in recovery works after it too.
WITH server AS (
    SELECT pg_catalog.pg_is_in_recovery() AS in_recovery
), receiver AS (
    SELECT splitguard.receiver() AS told
), waiting AS (
    SELECT splitguard.waiting() AS told
)
SELECT json_build_object(
    'granted', true,
    'role', current_user,
    'control', encode(splitguard.control(), 'hex'),
    'sight', json_build_object(
        'version_num', pg_catalog.current_setting('server_version_num')::int,
        'in_recovery', server.in_recovery,
        'timeline', CASE
            WHEN NOT server.in_recovery
                THEN ('x' || left(pg_catalog.pg_xlogfile_name(
                        pg_catalog.pg_current_xlog_location()), 8))::bit(32)::int
            ELSE (SELECT (told ->> 'received_tli')::int FROM receiver)
        END,
        'write_lsn', CASE
            WHEN NOT server.in_recovery
                THEN pg_catalog.pg_current_xlog_insert_location()
            ELSE greatest(pg_catalog.pg_last_xlog_receive_location(),
                          pg_catalog.pg_last_xlog_replay_location())
        END,
        'flush_lsn', CASE
            WHEN NOT server.in_recovery THEN pg_catalog.pg_current_xlog_location()
            ELSE greatest(pg_catalog.pg_last_xlog_receive_location(),
                          pg_catalog.pg_last_xlog_replay_location())
        END,
        'replay_lsn', CASE
            WHEN server.in_recovery THEN pg_catalog.pg_last_xlog_replay_location()
        END,
        'postmaster_started', pg_catalog.to_char(
            pg_catalog.pg_postmaster_start_time() AT TIME ZONE 'UTC',
            'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'next_xid', pg_catalog.txid_snapshot_xmax(
            pg_catalog.txid_current_snapshot()),
        'upstream', NULL,
        'receiver_mark', CASE
            WHEN server.in_recovery THEN (
                SELECT coalesce(told ->> 'latest_end_lsn',
                                pg_catalog.pg_last_xlog_receive_location()::text, '-')
                       || ' ' || coalesce(told ->> 'last_msg_receipt_time', '-')
                  FROM receiver)
        END,
        'senders', (
            SELECT coalesce(json_agg(json_build_object(
                       'name', coalesce(one ->> 'application_name', ''),
                       'state', coalesce(one ->> 'state', ''),
                       'sync_state', coalesce(one ->> 'sync_state', ''),
                       'flush_lsn', one ->> 'flush_location',
                       'reply_mark', concat_ws(' ', one ->> 'flush_location',
                                               one ->> 'replay_location'))),
                       '[]'::json)
              FROM pg_catalog.json_array_elements(splitguard.senders()) AS one),
        'waiting_for_sync', (SELECT pg_catalog.json_array_length(told) FROM waiting),
        'waiting_for_sync_s', 0,
        'replay_paused', CASE
            WHEN server.in_recovery THEN pg_catalog.pg_is_xlog_replay_paused()
        END,
        'slots', (
            SELECT coalesce(json_agg(json_build_object(
                       'name', slot_name,
                       'kind', slot_type,
                       'active', active,
                       'restart_lsn', restart_lsn,
                       'lost', false)), '[]'::json)
              FROM (SELECT * FROM pg_catalog.pg_replication_slots
                     ORDER BY slot_name LIMIT 64) AS slot)),
    'archive', CASE
        WHEN pg_catalog.current_setting('archive_mode') <> 'off' THEN (
            SELECT json_build_object(
                       'mode', pg_catalog.current_setting('archive_mode'),
                       'command', pg_catalog.current_setting('archive_command'),
                       'library', '',
                       'folder', '',
                       'archived', archived_count,
                       'last_archived', last_archived_wal,
                       'failing', coalesce(last_failed_time > coalesce(
                           last_archived_time, '-infinity'), false),
                       'last_failed', last_failed_wal)
              FROM pg_catalog.pg_stat_archiver)
    END,
    'waits', (SELECT told FROM waiting))::text
  FROM server
