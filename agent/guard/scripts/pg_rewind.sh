#!/bin/sh
# pg_rewind, with Splitguard in front: it runs only when nothing can be lost.
#
# Written by `splitguard guard install`; `splitguard guard uninstall` removes it. It needs
# a POSIX shell and the usual tools, and no Python: it stands outside Splitguard's own
# folder, so that a removed or half upgraded Splitguard is a reason to wait and nothing
# worse.
#
# How it works. What changes nothing (--help, --version, a dry run) goes straight to the
# real program. Anything else waits for a permit, however long: an exit code other than 0
# makes some HA software delete the data folder, waiting harms nothing. When Splitguard
# does not answer, pg_wal, pg_control and the history files are copied aside, once for
# each position. Right before the real program starts, everything that the permit rests
# on is looked at again. A signal, or the end of whoever called, ends the wait without
# a rewind. `patronictl reinit --force` ends it by SIGTERM, and Patroni may then delete the
# data folder, since it was not rewound: every file gets a second name before that.

REAL=@REAL@
SPLITGUARD=@SPLITGUARD@
SOCKET=@SOCKET@
RESCUE=@RESCUE@
CONTROLDATA=@CONTROLDATA@

case ${1-} in
    --help | -\?)
        [ -x "$REAL" ] && exec "$REAL" "$@"
        # Patroni asks this to see whether a rewind can be done at all, and deletes the
        # data folder when it cannot. It can: as soon as the program is there again.
        echo "splitguard: $REAL is not there; a rewind will wait for it" >&2
        exit 0
        ;;
    --version | -V) exec "$REAL" "$@" ;;
esac

PURPOSE=pg_rewind
PROGRAM=$REAL
UNDONE='nothing is rewound'

@COMMON@
needs_permit() { :; }

# --- ended by SIGTERM: whoever called may delete the data folder -----------------------

HELD=.splitguard-held

last_thing() { # of what nobody deletes, there is no need to hold anything
    [ "$1" -ne 143 ] || hold
}

exit_code() {
    # Patroni ends this also when it is stopped itself, and then takes the rewind for one
    # that failed: with a flag for that it deletes the data folder on its way out. After
    # a 0 it looks again at its next start, and comes back here.
    if [ "$1" -eq 143 ] && called_by_patroni; then echo 0; else echo "$1"; fi
}

called_by_patroni() {
    tr '\0' '\n' 2>/dev/null <"/proc/$caller/cmdline" |
        grep -Eq '^(.*/)?patroni(\.py)?$'
}

parts() { # the data folder, and what its links lead to
    (cd -P -- "$pgdata" 2>/dev/null && pwd -P)
    for each in "$pgdata/pg_wal" "$pgdata"/pg_tblspc/*; do
        [ -h "$each" ] && (cd -P -- "$each" 2>/dev/null && pwd -P)
    done
}

hold() { # by hard links: no room is taken until the first names go
    number=$(inode_of "$pgdata")
    parts | while read -r part; do
        rm -rf -- "$part$HELD.new"
        if cp -al -- "$part" "$part$HELD.new" 2>/dev/null; then
            rm -rf -- "$part$HELD-$number"
            mv -- "$part$HELD.new" "$part$HELD-$number"
            say "all files of $part are held in $part$HELD-$number; remove it when\
 nobody needs it"
        else
            rm -rf -- "$part$HELD.new"
            say "the files of $part cannot be held against deletion"
        fi
    done
}

let_go() { # a rewind writes into files that are held: they keep nothing any more
    number=$(inode_of "$pgdata")
    parts | while read -r part; do rm -rf -- "$part$HELD-$number"; done
}

# --- the command line, read as pg_rewind reads it -------------------------------------

pgdata='' conninfo='' dry_run=no foreign=no

option_of() { # the long option that a name or its beginning means, in $option
    option=''
    for known in target-pgdata source-pgdata source-server config-file sync-method \
        write-recovery-conf no-ensure-shutdown restore-target-wal dry-run no-sync \
        progress debug help version; do
        case $known in
            "$1") option=$known && return ;;
            "$1"*) [ -z "$option" ] && option=$known || option=ambiguous ;;
        esac
    done
}

read_command_line() {
    while [ $# -gt 0 ]; do
        word=$1
        shift
        case $word in
            --) return ;;
            --?*)
                name=${word#--}
                option_of "${name%%=*}"
                case $option in
                    target-pgdata | source-pgdata | source-server | config-file | \
                        sync-method)
                        value=''
                        case $word in
                            *=*) value=${word#*=} ;;
                            *) [ $# -gt 0 ] && value=$1 && shift ;;
                        esac
                        [ "$option" = target-pgdata ] && pgdata=$value
                        [ "$option" = source-server ] && conninfo=$value
                        ;;
                    dry-run) dry_run=yes ;;
                    '' | ambiguous | help | version) foreign=yes ;;
                esac
                ;;
            -?*)
                letters=${word#-}
                while [ -n "$letters" ]; do
                    rest=${letters#?}
                    letter=${letters%"$rest"}
                    letters=$rest
                    case $letter in
                        D)
                            if [ -n "$letters" ]; then
                                pgdata=$letters letters=
                            elif [ $# -gt 0 ]; then
                                pgdata=$1
                                shift
                            fi
                            ;;
                        n) dry_run=yes ;;
                        c | N | P | R) ;;
                        *) foreign=yes ;;
                    esac
                done
                ;;
        esac
    done
}

word_of() { # one word of a connection string, if it is a plain one
    printf '%s' "$conninfo" | tr '\n' ' ' |
        sed -E "s/password[[:space:]]*=[[:space:]]*('([^'\\\\]|\\\\.)*'|[^[:space:]]*)//g" |
        sed -nE "s/^(.*[[:space:]])?$1[[:space:]]*=[[:space:]]*'?([A-Za-z0-9_.:\/-]+)('|[[:space:]]|\$).*/\2/p"
}

place_of_source() { # HOST:PORT, and nothing else of it: there may be a password
    case $conninfo in
        postgres://* | postgresql://*)
            printf '%s' "$conninfo" | tr '\n' ' ' |
                sed -nE 's|^[a-z]+://([^/?]*@)?([A-Za-z0-9_.-]+)(:([0-9]+))?([/?].*)?$|\2:\4|p' |
                sed 's/:$/:5432/'
            ;;
        *)
            host=$(word_of hostaddr)
            [ -n "$host" ] || host=$(word_of host)
            port=$(word_of port)
            [ -n "$host" ] && echo "$host:${port:-5432}"
            ;;
    esac
}

read_command_line "$@"
# An option of a later version may take a value that looks like -n: with one in sight
# nothing counts as a dry run. Without a target, and as root, pg_rewind refuses by itself.
if [ -z "$pgdata" ] || [ "$(id -u)" = 0 ] || { [ $dry_run = yes ] && [ $foreign = no ]; }; then
    PATH=$called_path
    exec "$REAL" "$@"
fi

source=$(place_of_source)
check_caller
wait_for_lock
wait_for_permit
let_go
check_caller
trap - HUP INT TERM PIPE
PATH=$called_path
exec "$REAL" "$@"
