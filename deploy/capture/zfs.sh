#!/bin/sh
# Freezes PostgreSQL's folders on ZFS, for capture.exec of Splitguard.
#
# One recursive snapshot of DATASET freezes all its datasets in one instant; every folder
# that it is given has to lie on one of them. It is read through .zfs/snapshot, so
# nothing is mounted. Run by an ordinary user, it needs once, as root:
#     zfs allow -u postgres snapshot,destroy,mount tank/pg
set -eu

# The dataset above all of PostgreSQL's folders.
DATASET=tank/pg

complain() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Prints the mountpoint of the dataset that a folder lies on.
mountpoint_of() {
    found=$(zfs list -H -o name,mountpoint -- "$1") || complain "$1 is not on ZFS"
    name=${found%%"$tab"*}
    case $name in
    "$DATASET" | "$DATASET"/*) printf '%s\n' "${found#*"$tab"}" ;;
    *) complain "$1 lies on $name, which is not below $DATASET" ;;
    esac
}

check() {
    for folder in "$@"; do
        mountpoint_of "$folder" >/dev/null
    done
}

create() {
    id=$1
    shift
    remove "$id"
    check "$@"
    zfs snapshot -r "$DATASET@splitguard-$id" >&2
    for folder in "$@"; do
        top=$(mountpoint_of "$folder")
        [ "$top" = / ] && top=
        printf '%s\n' "$top/.zfs/snapshot/splitguard-$id${folder#"$top"}"
    done
}

remove() {
    zfs list -H -t snapshot -o name -- "$DATASET@splitguard-$1" >/dev/null 2>&1 ||
        return 0
    zfs destroy -r "$DATASET@splitguard-$1" >&2
}

tab=$(printf '\t')
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
