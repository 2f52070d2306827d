#!/usr/bin/env bash
# Sees to it that the programs the tests drive are on this machine. As root it installs
# what is missing, from Debian; as anybody else it says what to install, and fails.
set -euo pipefail

# A program or file that shows that the package is there, and the package.
needed=(
    /usr/lib/postgresql/15/bin/postgres postgresql-15
    /usr/lib/postgresql/15/bin/psql     postgresql-client-15
    /usr/lib/postgresql/15/bin/repmgr   postgresql-15-repmgr
    age                                 age
    btrfs                               btrfs-progs
    chromium                            chromium
    curl                                curl
    etcd                                etcd-server
    filefrag                            e2fsprogs
    ip                                  iproute2
    mkfs.xfs                            xfsprogs
    nft                                 nftables
    npm                                 npm
    promtool                            prometheus
    shellcheck                          shellcheck
    setpriv                             util-linux
    systemd-analyze                     systemd
    unshare                             util-linux
    zstd                                zstd
)
PATH=$PATH:/usr/sbin:/sbin

missing=()
for ((i = 0; i < ${#needed[@]}; i += 2)); do
    command -v "${needed[i]}" >/dev/null || missing+=("${needed[i + 1]}")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need packages that are not here. Install them, as root:" >&2
    echo "    apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "Installing from Debian, for the tests: ${missing[*]}"

# No service starts, and no PostgreSQL cluster is made, because tests want the programs:
# both wishes last as long as this script.
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d
wish=$clusters/splitguard-tests.conf
ours=("$wish")
clean_up() {
    rm -f -- "${ours[@]}"
    rmdir --ignore-fail-on-non-empty "$clusters"
}
trap clean_up EXIT
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours+=("$policy")
fi
mkdir -p "$clusters"
echo "create_main_cluster = false" >"$wish"

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" \
    >/dev/null
# The programs were wanted, no service at the next boot.
if [[ " ${missing[*]} " == *" prometheus "* ]]; then
    systemctl --quiet disable prometheus
fi
if [[ " ${missing[*]} " == *" etcd-server "* ]]; then
    systemctl --quiet disable etcd
fi
if [[ " ${missing[*]} " == *" postgresql-15-repmgr "* ]]; then
    systemctl --quiet disable repmgrd
fi
