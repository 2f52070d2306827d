#!/bin/sh
# Patroni's way to a new replica, with Splitguard in front: the old data is moved aside.
#
# Written by `splitguard guard install`, for Patroni's `create_replica_methods` with
# `keep_data`. Like the pg_rewind beside it, it needs a POSIX shell and no Python.
#
# How it works. It asks for a permit, so that a copy that is being made is finished. When
# no agent answers it goes on all the same, because nothing is deleted here: the folder
# of the server, its pg_wal and the version folder of each tablespace are renamed, all
# or none, after the room for the clone was measured. Then pg_basebackup makes the clone.
# When that fails, the old data is put back and it is tried again, for ever: Patroni
# deletes the data folder when this ends with anything but 0. So when Patroni ends this by
# SIGTERM, the old data is aside before it ends.

REAL=@REAL@
SPLITGUARD=@SPLITGUARD@
SOCKET=@SOCKET@
RESCUE=@RESCUE@
CONTROLDATA=@CONTROLDATA@

case ${1-} in
    --help | -h)
        echo "usage: replica --datadir=DIR --connstring=DSN [--max-rate=RATE]" \
            "[--checkpoint=fast|spread]"
        echo "Called by Patroni; see Splitguard's README."
        exit 0
        ;;
esac

PURPOSE=replica
PROGRAM=$REAL
UNDONE='no replica was made'

@COMMON@
pgdata='' dsn='' rate='' checkpoint=fast
for word; do
    case $word in
        --datadir=*) pgdata=${word#*=} ;;
        --connstring=*) dsn=${word#*=} ;;
        --max-rate=*) rate=$word ;;
        --checkpoint=*) checkpoint=${word#*=} ;;
    esac
done

suffix=.splitguard-aside-$(date -u +%Y%m%dT%H%M%SZ)
target='' aside=''

needs_permit() { return 1; } # nothing is deleted here
exit_code() { echo "$1"; }

last_thing() { # with which exit code this ends tells who will look at the folder next
    case $1 in
        143) is_aside || move_aside ;; # Patroni, and it deletes the folder
        *) ! is_aside || put_back ;;   # nobody, or a person
    esac
}

# --- moving aside, and back -----------------------------------------------------------

is_aside() { [ -n "$aside" ] && [ -d "$aside" ]; }

holds_data() { [ -n "$(ls -A -- "$1" 2>/dev/null)" ]; }

real_path() { (cd -P -- "$1" 2>/dev/null && pwd -P); }

device_of() { stat -L -c %d -- "$1" 2>/dev/null; }

rename() { # never across volumes, where mv would copy and delete
    there=$(device_of "$(dirname -- "$2")")
    [ ! -e "$2" ] && [ -n "$there" ] && [ "$(device_of "$1")" = "$there" ] &&
        mv -- "$1" "$2" 2>/dev/null
}

point() { # a link to another place, at once: without it nobody finds what it led to
    rm -f -- "$1.new" && ln -s -- "$2" "$1.new" && mv -fT -- "$1.new" "$1"
}

links_of() { # pg_wal and tablespaces that lie elsewhere, as links in a data folder
    for each in "$1/pg_wal" "$1"/pg_tblspc/*; do
        [ -h "$each" ] && echo "${each#"$1/"}"
    done
}

move_linked() { # what a link in the folder that is aside leads to
    linked=$(real_path "$aside/$1") || return
    case $linked in *"$suffix") return 0 ;; esac
    case $1 in
        pg_wal) rename "$linked" "$linked$suffix" ;;
        *)
            mkdir -m 700 -- "$linked$suffix" || return
            for folder in "$linked"/PG_[0-9]*; do
                rename "$folder" "$linked$suffix/${folder##*/}" || return
            done
            ;;
    esac && point "$aside/$1" "$linked$suffix"
}

return_linked() {
    linked=$(readlink -- "$aside/$1")
    case $linked in *"$suffix") ;; *) linked=$linked$suffix ;; esac
    place=${linked%"$suffix"}
    [ -d "$linked" ] || return 0
    case $1 in
        pg_wal) rm -rf -- "$place" && rename "$linked" "$place" ;;
        *)
            for folder in "$linked"/PG_[0-9]*; do
                [ -d "$folder" ] || continue
                rm -rf -- "${place:?}/${folder##*/}" &&
                    rename "$folder" "$place/${folder##*/}" || return
            done
            rmdir -- "$linked"
            ;;
    esac && point "$aside/$1" "$place"
}

move_aside() { # all, or nothing
    target=$(real_path "$pgdata") || return
    aside=$target$suffix
    rename "$target" "$aside" || return
    for name in $(links_of "$aside"); do
        if ! move_linked "$name"; then
            tell "$aside/$name cannot be moved aside"
            put_back
            return 1
        fi
    done
}

put_back() { # the clone that failed goes, and the old data comes back
    is_aside || return
    for name in $(links_of "$aside"); do
        return_linked "$name" || say "$aside/$name cannot be put back"
    done
    rm -rf -- "$target" && rename "$aside" "$target" && return
    say "the old data stays in $aside: it cannot be put back to $target"
    return 1
}

# --- room -----------------------------------------------------------------------------

parts() { # every folder that will be written
    echo "$pgdata"
    for name in $(links_of "$pgdata"); do echo "$pgdata/$name"; done
}

missing_kib() { # on the fullest volume: as much again as the old data, and a floor
    parts | while read -r part; do
        printf '%s ' "$(du -sk -- "$part/." | cut -f 1)"
        df -Pk -- "$part" | tail -n 1
    done | awk -v spare="$SPARE_KIB" '
        { for (i = 3; i + 2 < NF; i++) if ($(i + 3) ~ /^[0-9]+%$/) {
            volume = $2; needed[volume] += $1; free[volume] = $(i + 2)
            floor[volume] = 2097152 < $i / 10 ? 2097152 : $i / 10
            if (floor[volume] < $i / 20) floor[volume] = $i / 20
            if (floor[volume] < spare) floor[volume] = spare
            break } }
        END { for (volume in needed) {
            lacking = needed[volume] * 1.1 + floor[volume] - free[volume]
            if (lacking > most) most = lacking }
            printf "%d\n", most }'
}

# --- the clone ------------------------------------------------------------------------

clone() {
    set -- --pgdata="$target" --wal-method=stream --checkpoint="$checkpoint" \
        --no-password --dbname="$dsn"
    [ -n "$rate" ] && set -- "$@" "$rate"
    wal=$(readlink -- "$aside/pg_wal" 2>/dev/null) && set -- "$@" --waldir="${wal%"$suffix"}"
    mkdir -m 700 -- "$target" && waited "$REAL" "$@"
}

if ! holds_data "$pgdata"; then # nothing is there that could be lost
    set -- --pgdata="$pgdata" --wal-method=stream --checkpoint="$checkpoint" \
        --no-password --dbname="$dsn"
    [ -n "$rate" ] && set -- "$@" "$rate"
    trap - HUP INT TERM PIPE
    PATH=$called_path
    exec "$REAL" "$@"
fi

check_caller
wait_for_lock
while :; do
    if [ -n "$(position)" ]; then
        wait_for_permit || say "no permit: the old data is moved aside all the same"
    fi
    lacking=$(missing_kib)
    if server_runs; then
        tell "a server runs on $pgdata; this waits until it is stopped"
    elif [ "$lacking" -gt 0 ]; then
        tell "no room for a clone beside the old data: $lacking KiB are missing; this waits"
    elif ! move_aside; then
        tell "$pgdata cannot be moved aside; this waits. Is it, or a tablespace, a mount\
 point, or the folder that it lies in closed to this user?"
    elif clone; then
        say "the old data is kept in $aside"
        exit 0
    else
        check_caller
        put_back && tell "pg_basebackup failed; the old data is in its place again"
    fi
    pause "$SLOW_S"
done
