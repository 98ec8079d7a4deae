#!/bin/sh
# Runs a command as a pod's container would run it: nothing can be written, an arbitrary user without
# a name or a home, no capabilities, the files of a ServiceAccount where a pod has them.
#
#   unshare --mount jail.sh ACCOUNT USER COMMAND...
#
# ACCOUNT is a folder with token, ca.crt and namespace. The user may read every file, which in an image
# it may anyway: here, the code and its Python may lie in the home of somebody else.
set -eu
account=$1
user=$2
shift 2

mount --make-rprivate /
mount -t tmpfs tmpfs /var/run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cp "$account"/* /var/run/secrets/kubernetes.io/serviceaccount/
cut -d ' ' -f 2 /proc/mounts | sort -r | while read -r point; do
    # Some cannot be; what matters is tried below.
    mount -o remount,bind,ro "$(printf '%b' "$point")" 2>/dev/null || true
done
for folder in / /tmp /run /var/tmp "$account" "$PWD"; do
    if (: >"$folder/.written") 2>/dev/null; then
        echo "jail.sh: $folder can still be written" >&2
        exit 97
    fi
done
exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search \
    --bounding-set=-all,+dac_read_search -- "$@"
