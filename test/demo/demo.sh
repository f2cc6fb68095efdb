#!/usr/bin/env bash
# make demo: two demo Pods on loopback, and Podlane in front of them, fed from the manifests in config/samples.
# Ends everything it started when Podlane ends.
set -euo pipefail
cd "$(dirname "$0")/../.."
http=${HTTP:-127.0.0.1:8080} https=${HTTPS:-127.0.0.1:8443} admin=${ADMIN:-127.0.0.1:9090}

pods=()
stop() {
  for pid in "${pods[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
}
trap stop EXIT

for n in 1 2; do
  bin/backend --listen "127.0.0.1:1800$n" --name "goweb-$n" &
  pods+=($!)
done
sleep 0.3
for pid in "${pods[@]}"; do
  kill -0 "$pid" 2>/dev/null || { echo "demo: a demo Pod did not start: are ports 18001 and 18002 free?" >&2; exit 1; }
done

cat <<TEXT

  Two demo Pods run on 127.0.0.1:18001 and :18002, and Podlane serves the manifests in config/samples.
  In another terminal:

    curl -H 'Host: www.goweb.com' http://$http/            # again: the other Pod answers
    curl -i -H 'Host: nobody.example' http://$http/        # 404: no Ingress names this host
    curl http://$admin/debug/routes                        # what is live

  Now edit a file, config/samples/goweb.yaml say: what changes is printed here, and is live at once.
  Ctrl-C ends the demo.

TEXT
bin/podlane serve --from config/samples --http-address "$http" --https-address "$https" --admin-address "$admin" --access-log off &
podlane=$!
trap 'kill -TERM $podlane 2>/dev/null || true' INT TERM
code=0
wait "$podlane" || code=$?
# A trapped signal ends the first wait; the second one waits for the drain.
wait "$podlane" 2>/dev/null || true
exit "$code"
