#!/bin/sh
# Crossbar.io, the router of the platform, from PyPI in a virtual environment below .real/ (or $REAL_DIR).
#
#   crossbar.sh install       makes the environment (about a minute; nothing to do if it is there)
#   crossbar.sh start DIR     installs, writes DIR/config.json, starts Crossbar on a free loopback port, waits until it
#                             answers; DIR/pid and DIR/port say where it is, DIR/log what it wrote. Again after a stop: on
#                             the same port
#   crossbar.sh stop DIR      ends it
#
# Users: 2-3 (device), 2-4 (device, salted), 42 and system (backend); secrets as in tests/cloud/router_tests.rs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
venv=$REAL_DIR/crossbar

install() {
  if [ -x "$venv/bin/crossbar" ]; then return; fi
  # Another process may install at the same time: the first one does it, the others wait.
  mkdir -p "$REAL_DIR"
  (
    flock 9
    [ ! -x "$venv/bin/crossbar" ] || exit 0
    python=$(find_python) || { need python3-venv; python=/usr/bin/python3; }
    say "installing Crossbar from PyPI into $venv (about a minute, once)"
    rm -rf "$venv.new" "$venv"
    # A virtual environment does not move well, so it is made in its place, and removed if it comes out incomplete.
    if "$python" -m venv "$venv" && "$venv/bin/pip" install --quiet 'crossbar>=25,<27' >"$REAL_DIR/crossbar-install.log" 2>&1
    then :; else
      cat "$REAL_DIR/crossbar-install.log" >&2
      rm -rf "$venv"
      die "Crossbar could not be installed from PyPI; try again with: tests/env/crossbar.sh install"
    fi
  ) 9>"$REAL_DIR/crossbar.lock"
}

# A Python that can make virtual environments; the system's own first.
find_python() {
  for python in /usr/bin/python3 python3; do
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then echo "$python"; return; fi
  done
  return 1
}

start() {
  dir=$1
  install
  mkdir -p "$dir"
  port=$(cat "$dir/port" 2>/dev/null) || port=$(free_port)
  permissions='[{"uri": "", "match": "prefix", "allow": {"call": true, "register": true, "publish": true, "subscribe": true}, "disclose": {"caller": true, "publisher": true}, "cache": true}]'
  cat >"$dir/config.json" <<END
{"version": 2, "controller": {}, "workers": [{"type": "router",
  "realms": [{"name": "realm1", "roles": [
    {"name": "device", "permissions": $permissions},
    {"name": "backend", "permissions": $permissions}]}],
  "transports": [{"type": "web", "endpoint": {"type": "tcp", "port": $port, "interface": "127.0.0.1"}, "paths": {
    "/": {"type": "json", "value": {}},
    "ws-re-dev": {"type": "websocket", "serializers": ["json", "msgpack", "cbor"], "auth": {"wampcra": {"type": "static", "users": {
      "2-3": {"secret": "fake-device-secret", "role": "device"},
      "2-4": {"secret": "salted-secret", "role": "device", "salt": "salt123", "iterations": 1000, "keylen": 32},
      "42": {"secret": "user-secret", "role": "backend"},
      "system": {"secret": "backend-secret", "role": "backend"}}}}}}}]}]}
END
  setsid "$venv/bin/crossbar" start --cbdir "$dir" --logformat none >"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  # One that was here before is guarded already.
  [ -f "$dir/port" ] || guard crossbar.sh "$dir"
  # Ready means that an upgrade request is answered with 101.
  if ! wait_for 60 "$dir/pid" answers_101 "$port"; then
    tail -n 30 "$dir/log" >&2
    stop "$dir"
    die "Crossbar does not answer on port $port"
  fi
  echo "$port" >"$dir/port"
}

answers_101() {
  "$venv/bin/python" - "$1" <<'END'
import socket, sys
try:
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2)
    s.settimeout(2)
    s.sendall(b"GET /ws-re-dev HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
              b"Sec-WebSocket-Protocol: wamp.2.json\r\n\r\n")
    sys.exit(0 if s.recv(64).startswith(b"HTTP/1.1 101") else 1)
except OSError:
    sys.exit(1)
END
}

stop() { end_group "$1/pid"; }

case ${1-} in
  install) install ;;
  start) start "${2:?a folder}" ;;
  stop) stop "${2:?a folder}" ;;
  *) die "usage: crossbar.sh install | start DIR | stop DIR" ;;
esac
