#!/bin/sh
# Freezes PostgreSQL's folders on btrfs, for capture.exec of Splitguard.
#
# Takes a read-only snapshot of the subvolume that each folder lies on: inside it, or
# beside it where the folder is the subvolume itself. Whoever owns the subvolume may do
# that; it may remove them at once where the file system is mounted with
# user_subvol_rm_allowed, else file by file, which takes longer.
set -eu

complain() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Prints the subvolume that a folder lies on.
top_of() {
    [ "$(stat -f -c %T -- "$1")" = btrfs ] || complain "$1 is not on btrfs"
    top=$1
    while [ "$(stat -c %i -- "$top")" -ne 256 ]; do # every subvolume's own inode
        top=$(dirname -- "$top")
    done
    printf '%s\n' "$top"
}

# Prints where the snapshot of a folder's subvolume goes.
place_for() {
    top=$(top_of "$1")
    if [ "$top" = "$1" ]; then dirname -- "$top"; else printf '%s\n' "$top"; fi
}

check() {
    for folder in "$@"; do
        place=$(place_for "$folder")
        [ -w "$place" ] || complain "no snapshot can be made in $place"
        top=$(top_of "$folder")
        [ "$(id -u)" -eq 0 ] || [ -O "$top" ] ||
            complain "$top belongs to somebody else"
    done
}

# Where the snapshots lie is noted, because `remove` is told the name only.
notes=/var/tmp/splitguard-btrfs-$(id -u)

create() {
    id=$1
    shift
    remove "$id"
    check "$@"
    [ -d "$notes" ] || mkdir -m 700 -- "$notes"
    [ ! -h "$notes" ] || complain "$notes is a link"
    [ -O "$notes" ] || complain "$notes belongs to somebody else"
    for folder in "$@"; do
        top=$(top_of "$folder")
        frozen=$(place_for "$folder")/.splitguard-$id-$(basename -- "$top")
        if [ ! -d "$frozen" ]; then
            printf '%s\n' "$frozen" >>"$notes/$id"
            btrfs subvolume snapshot -r -- "$top" "$frozen" >&2
        fi
        printf '%s\n' "$frozen${folder#"$top"}"
    done
}

remove() {
    [ ! -h "$notes" ] && [ -O "$notes" ] && [ -f "$notes/$1" ] || return 0
    while IFS= read -r frozen; do
        [ -d "$frozen" ] || continue
        btrfs subvolume delete -- "$frozen" >/dev/null 2>&1 && continue
        btrfs property set -f -ts "$frozen" ro false >&2
        rm -rf -- "$frozen"
    done <"$notes/$1"
    rm -f -- "$notes/$1"
}

[ $# -ge 2 ] || complain "usage: check DIR... | create ID DIR... | remove ID"
case $1 in
check) ;;
create | remove)
    case $2 in
    '' | .* | *[!A-Za-z0-9._-]*) complain "no name for a snapshot: $2" ;;
    esac
    ;;
*) complain "no such verb: $1" ;;
esac
"$@"
