#!/bin/sh
# Makes the secrets of docker-compose.yml that are not there yet, each a file of its own in deploy/secrets, which git
# ignores, or in the folder that is named. The folder is closed to others; the files are readable, since the containers'
# user has another number than yours.
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 022
mkdir -p "$folder"
chmod 0700 "$folder"
for name in redis_password grafana_password; do
    [ -s "$folder/$name" ] && continue
    head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/$name"
    echo "made $folder/$name"
done
if [ ! -s "$folder/alert_webhook_url" ]; then
    printf 'http://localhost/nobody-is-told' >"$folder/alert_webhook_url"
    echo "made $folder/alert_webhook_url: write the address of your chat's incoming webhook into it, or nobody is told of alerts"
fi
