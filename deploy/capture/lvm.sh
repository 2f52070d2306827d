#!/bin/sh
# Freezes PostgreSQL's folders on LVM, for capture.exec of Splitguard.
#
# Takes a snapshot of each logical volume that holds one of the folders, and mounts it
# read-only below MOUNTS. That takes root: run by another user it asks sudo, for which
# deploy/README.md has the two changes. A snapshot of a plain volume has room for SIZE of
# what is written to the volume meanwhile; when that is full, the copy is made without
# it. One of a thin volume needs no size.
set -eu

SIZE=20%ORIGIN
MOUNTS=/run/splitguard-lvm

complain() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Prints "VG LV THINPOOL" of the logical volume that a folder lies on.
volume_of() {
    device=$(findmnt -n -o SOURCE --target "$1") || complain "$1 lies on no device"
    # shellcheck disable=SC2046 # the words are names, which hold no blanks
    set -- $(lvs --noheadings -o vg_name,lv_name,pool_lv -- "$device" 2>/dev/null)
    [ $# -ge 2 ] || complain "$device is not a logical volume"
    echo "$@"
}

check() {
    for folder in "$@"; do
        volume_of "$folder" >/dev/null
    done
}

create() {
    id=$1
    shift
    remove "$id"
    check "$@"
    # What is mounted below was perhaps behind a folder that nobody else may enter.
    [ -d "$MOUNTS" ] || install -d -m 0710 -g "${SUDO_GID:-0}" -- "$MOUNTS"
    for folder in "$@"; do
        # shellcheck disable=SC2046 # as above
        snapshot "$id" "$folder" $(volume_of "$folder")
    done
}

# Takes the snapshot of one volume unless it is there, and prints where the folder is.
snapshot() {
    id=$1 folder=$2 group=$3 volume=$4 pool=${5-}
    name=splitguard-$id+$volume # no id has a plus
    place=$MOUNTS/$id/$group-$volume
    top=$(findmnt -n -o TARGET --target "$folder")
    if [ ! -d "$place" ]; then
        if [ -n "$pool" ]; then
            lvcreate --quiet -s -n "$name" -kn "$group/$volume" >&2
        else
            lvcreate --quiet -s -n "$name" -l "$SIZE" "$group/$volume" >&2
        fi
        mkdir -p -- "$place"
        options=ro,nosuid,nodev,noexec
        # A second XFS of the same identity is refused without this.
        [ "$(findmnt -n -o FSTYPE --target "$folder")" = xfs ] && options=$options,nouuid
        mount -o "$options" -- "/dev/$group/$name" "$place" >&2
    fi
    [ "$top" = / ] && top=
    printf '%s\n' "$place${folder#"$top"}"
}

remove() {
    for place in "$MOUNTS/$1"/*; do
        [ -d "$place" ] || continue
        mountpoint -q -- "$place" && umount -- "$place"
        rmdir -- "$place"
    done
    [ ! -d "$MOUNTS/$1" ] || rmdir -- "$MOUNTS/$1"
    lvs --noheadings -o vg_name,lv_name 2>/dev/null | while read -r group name; do
        case $name in
        "splitguard-$1+"*) lvremove --quiet -f -- "$group/$name" >&2 ;;
        esac
    done
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
# Whoever may not do it himself asks sudo, where that is allowed.
[ "$(id -u)" -eq 0 ] || exec sudo -n -- "$0" "$@"
"$@"
