# --- what both scripts do: who called, the lock, the permit, WAL copied aside ----------

PASS_CODE=93      # how the permit is told: no broken program says this by accident
ANSWER_VALID_S=3  # an answer older than this is asked for again
AGAIN_S=2         # pause between two attempts
SLOW_S=10         # added when Splitguard answers, but does not give permits
RESCUE_AFTER=2    # failures in a row before WAL is copied aside
RESCUES_MAX=4     # copies kept, over all positions
SPARE_KIB=65536   # stays free on the rescue volume at least

called_path=${PATH-}
PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
told='' child='' link='' locked='' source=''

say() { printf 'splitguard: %s\n' "$1" >&2; }

tell() { # say it, unless it is what was said last
    [ "$1" = "$told" ] || say "$1"
    told=$1
}

# --- who called, and signals ----------------------------------------------------------

parent() { # the process that this one belongs to now
    if [ -r "/proc/$$/status" ]; then
        while read -r key value _; do
            [ "$key" = PPid: ] && echo "$value" && return
        done <"/proc/$$/status"
    else
        ps -o ppid= -p $$ | tr -d ' '
    fi
}

end() { # without going on; a script may have a last thing to do
    trap '' HUP INT TERM
    [ -n "$child" ] && kill "$child" 2>/dev/null
    last_thing "$2"
    [ -n "$link" ] && rm -f -- "$link"
    say "$1; $UNDONE"
    exit "$(exit_code "$2")"
}

trap 'end "ended by SIGHUP" 129' HUP
trap 'end "ended by SIGINT" 130' INT
trap 'end "ended by SIGTERM" 143' TERM
trap '' PIPE # whoever does not read what is said shall not end the wait

caller=$PPID

check_caller() {
    [ "$(parent)" = "$caller" ] || end "whoever called this is gone" 1
}

watch() { # end a process when the caller, or this shell, is gone
    exec 9<&- # here, because a shell keeps what is closed for a function only
    while kill -0 "$1"; do
        [ "$(parent)" = "$caller" ] || kill "$1"
        sleep 1
    done
}

waited() { # run something, and wait for it in a way that a signal or an orphan ends
    "$@" </dev/null 9<&- &
    child=$!
    watch "$child" >/dev/null 2>&1 & # it ends by itself, a second late
    wait "$child"
    ended=$?
    child=''
    return $ended
}

pause() {
    sleep "$1" 9<&- &
    child=$!
    wait "$child"
    child=''
    check_caller
}

# --- the data folder ------------------------------------------------------------------

inode_of() {
    # shellcheck disable=SC2012 # only the number is read, and it comes first
    ls -diL -- "$1" 2>/dev/null | { read -r number _ && echo "$number"; }
}

position() { # changes whenever a server was started on the folder; empty: unreadable
    sum=$(cksum 2>/dev/null <"$pgdata/global/pg_control") || return
    echo "$(inode_of "$pgdata") $sum"
}

server_runs() {
    read -r pid _ 2>/dev/null <"$pgdata/postmaster.pid" || return 1
    pid=${pid#-} # single-user mode
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    if [ ! -e /proc/self/stat ]; then
        kill -0 "$pid" 2>/dev/null
        return
    fi
    read -r name 2>/dev/null <"/proc/$pid/comm" || return 1
    case $name in postgres | postmaster) ;; *) return 1 ;; esac
    # What another user's process works in cannot be seen: it may be this folder.
    here=$(inode_of "$pgdata")
    there=$(inode_of "/proc/$pid/cwd")
    [ "${there:-$here}" = "$here" ]
}

# --- one at a time --------------------------------------------------------------------

birth() { # when a process began, so that a number used again is another process
    read -r stat 2>/dev/null <"/proc/$1/stat" || return
    case ${stat##*)} in ' Z'*) return ;; esac # dead, and not yet collected
    echo "${stat##*)}" | cut -d ' ' -f 21
}

take_link() { # without flock: a link whose target names the process that holds it
    link=''
    (umask 077 && mkdir -p -- "$RESCUE") 2>/dev/null
    place=$RESCUE/lock-$(inode_of "$pgdata")
    if ln -s "$$:$(birth $$)" "$place" 2>/dev/null; then
        link=$place
        return 0
    fi
    holder=$(readlink "$place" 2>/dev/null) || return 1
    pid=${holder%%:*}
    kill -0 "$pid" 2>/dev/null && [ "$(birth "$pid")" = "${holder#*:}" ] && return 1
    # Whoever held it is dead. Two that see this at once must not remove each other's.
    mv -- "$place" "$place.$$" 2>/dev/null || return 1
    [ "$(readlink "$place.$$")" = "$holder" ] || ln -s "$(readlink "$place.$$")" "$place"
    rm -f -- "$place.$$"
    return 1
}

take_lock() { # the folder itself is locked: nothing is left behind, and links are followed
    if command -v flock >/dev/null; then
        exec 9<"$pgdata"
        flock -n 9
    else
        take_link
    fi
}

wait_for_lock() {
    until [ -d "$pgdata" ] && [ -r "$pgdata" ] && take_lock; do
        if [ -d "$pgdata" ] && [ -r "$pgdata" ]; then
            tell "another resync works on $pgdata, or waits; this one waits for it"
        else
            tell "$pgdata is no folder that can be read; this waits until it is"
        fi
        pause "$AGAIN_S"
    done
    locked=$(inode_of "$pgdata")
}

# --- when Splitguard does not answer --------------------------------------------------

room_kib() { # what may be used on the rescue volume: a part of it always stays free
    df -Pk -- "$RESCUE" | awk -v spare="$SPARE_KIB" '
        NR == 2 { for (i = 2; i + 2 < NF; i++) if ($(i + 3) ~ /^[0-9]+%$/) {
            floor = 2097152 < $i / 10 ? 2097152 : $i / 10
            if (floor < $i / 20) floor = $i / 20
            if (floor < spare) floor = spare
            left = $(i + 2) - floor
            printf "%d\n", (left > 0 ? left : 0); exit } }'
}

copy_wal() { # into a folder that gets its name when all is on disk
    partial=$RESCUE/.partial-$(inode_of "$pgdata")
    rm -rf -- "$partial"
    umask 077
    mkdir -- "$partial" &&
        cp -p -- "$pgdata/global/pg_control" "$partial/" &&
        cp -pR -- "$pgdata/pg_wal/." "$partial/pg_wal" &&
        { printf '%s\n' "$pgdata" && date; } >"$partial/ORIGIN" || return
    { LC_ALL=C "$CONTROLDATA" -D "$pgdata" >"$partial/CONTROLDATA"; } 2>/dev/null
    { sync -- "$partial" "$partial"/* "$partial"/pg_wal/* || sync; } 2>/dev/null
    mv -- "$partial" "$1"
}

rescue() {
    if ! (umask 077 && mkdir -p -- "$RESCUE") 2>/dev/null || [ ! -w "$RESCUE" ]; then
        tell "no copy of pg_wal: this user cannot write to $RESCUE"
        return
    fi
    name=$RESCUE/$(position | tr ' ' -)
    [ -e "$name" ] && return
    set -- "$RESCUE"/[0-9]*-[0-9]*-[0-9]*
    if [ -e "$1" ] && [ $# -ge "$RESCUES_MAX" ]; then
        tell "no copy of pg_wal: $RESCUE holds $# already; remove what nobody needs"
        return
    fi
    set -- "$(du -sk -- "$pgdata/pg_wal/." | tr '\t' ' ')"
    needed=${1%% *}
    free=$(room_kib)
    if [ "${needed:-0}" -gt "${free:-0}" ]; then
        tell "no copy of pg_wal: $RESCUE has room for ${free:-0} of $needed KiB"
    elif waited copy_wal "$name"; then
        say "pg_wal, pg_control and history files are copied to $name"
    else
        tell "copying pg_wal to $RESCUE failed"
    fi
}

# --- the permit -----------------------------------------------------------------------

splitguard() { # in a clean environment: no password of the caller, nothing for Python
    waited env -i PATH="$PATH" HOME="${HOME:-/}" LC_ALL=C.UTF-8 "$SPLITGUARD" "$@" \
        --socket "$SOCKET" >/dev/null
}

ask() {
    set -- --purpose "$PURPOSE" --data-dir "$pgdata" --pass-code "$PASS_CODE"
    [ -n "$source" ] && set -- "$@" --source "$source"
    splitguard guard permit "$@"
}

out_of_order() { # Splitguard does not answer, or refuses; returns when it seems to
    if [ "$1" -eq "$RESCUE_AFTER" ]; then
        say "no permit. This waits and asks again; $UNDONE. Start Splitguard's agent,\
 or take this program out of the HA software's configuration."
    fi
    rescue
    # The same complaint every few seconds helps nobody: be quiet until it answers.
    until pause "$AGAIN_S" && splitguard guard status 2>/dev/null; do rescue; done
    [ "$1" -eq "$RESCUE_AFTER" ] || pause "$SLOW_S"
}

objection() { # why the permit that was just given must not be used; empty: it may
    if [ ! -x "$PROGRAM" ]; then
        echo "$PROGRAM is not there or cannot be run; this waits for it"
    elif server_runs; then
        echo "a server runs on $pgdata"
    elif [ "$(position)" != "$before" ]; then
        echo "$pgdata is not what it was when the permit was asked for; asking again"
    elif age=$(($(date +%s) - answered)) && [ "${age#-}" -gt "$ANSWER_VALID_S" ]; then
        echo "the permit was answered too long ago; asking again"
    fi
}

wait_for_permit() { # returns with 0 when there is one, with 1 when it is not needed
    failures=0
    while :; do
        [ "$(inode_of "$pgdata")" = "$locked" ] || wait_for_lock # another folder now
        before=$(position)
        if [ -z "$before" ]; then
            tell "$pgdata/global/pg_control cannot be read; this waits until it can"
            pause "$AGAIN_S"
            continue
        fi
        ask
        code=$?
        answered=$(date +%s)
        check_caller
        if [ $code -eq $PASS_CODE ]; then
            failures=0
            why=$(objection)
            [ -z "$why" ] && return 0
            tell "$why"
        else
            failures=$((failures + 1))
            [ $failures -ge $RESCUE_AFTER ] && ! needs_permit && return 1
            [ $failures -ge $RESCUE_AFTER ] && out_of_order $failures
        fi
        pause "$AGAIN_S"
    done
}
