#!/bin/sh
# A Docker Engine of a test's own, beside the machine's: its data, its socket and its bridge are in or named after a folder.
# Its published ports are served by Docker's own proxy; it leaves the machine's packet filter alone.
#
#   engine.sh start DIR     starts it (again), waits until it answers on unix://DIR/sock; DIR/pid says what it is
#   engine.sh stop DIR      ends it with everything that runs on it, removes its bridge and its data
#
# DIR has to be short: sockets are below it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

answers() { DOCKER_HOST=unix://$1/sock timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

start() {
  dir=$1
  [ "$(id -u)" = 0 ] || die "an engine of its own needs root"
  command -v dockerd >/dev/null && command -v ip >/dev/null || need docker.io iptables iproute2
  mkdir -p "$dir"
  [ -f "$dir/bridge" ] || bridge "$dir"
  # A second start: whatever the first daemon left behind of itself.
  rm -f "$dir/pid" "$dir/dockerd.pid" "$dir/sock"
  # A killed daemon takes its containerd along, a moment later. The next daemon would wait for it in vain, also where
  # nobody collects dead processes.
  containerd=$(cat "$dir/exec/containerd/containerd.pid" 2>/dev/null || echo none)
  tries=50
  while alive "$containerd" && [ $tries -gt 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
  ! alive "$containerd" || kill -KILL "$containerd" 2>/dev/null || true
  rm -f "$dir/exec/containerd/containerd.pid"
  # Not for a second start: one with pools deletes docker0, which is the bridge of the machine's engine.
  pools=
  [ -d "$dir/data" ] || pools=$(pools "$dir")
  # shellcheck disable=SC2046,SC2086 # flags
  setsid dockerd $(dockerd_runtime) --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
    -H "unix://$dir/sock" -b "$(cat "$dir/bridge")" $pools --iptables=false --ip-masq=false >>"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  [ -f "$dir/guarded" ] || guard engine.sh "$dir"
  touch "$dir/guarded"
  if ! wait_for 60 "$dir/pid" answers "$dir"; then
    tail -n 20 "$dir/log" >&2
    die "dockerd does not come up; its log is $dir/log"
  fi
}

# Networks of compose projects: the addresses that Docker takes by itself are too few for several engines.
pools() {
  for net in 214 215 216 217; do
    echo "--default-address-pool base=10.$net.$(sed 's/[^0-9]*//' "$1/bridge").0/24,size=28"
  done
}

# A bridge whose name and network nobody else has: making it fails if the name is taken.
bridge() {
  n=1
  while [ $n -lt 200 ]; do
    if ip link add "reagent$n" type bridge 2>/dev/null; then
      echo "reagent$n" >"$1/bridge"
      ip addr add "10.213.$n.1/24" dev "reagent$n"
      ip link set "reagent$n" up
      return
    fi
    n=$((n + 1))
  done
  die "cannot make a bridge: $(ip link add reagent200 type bridge 2>&1)"
}

stop() {
  dir=$1
  if answers "$dir"; then
    export DOCKER_HOST=unix://$dir/sock
    # shellcheck disable=SC2046 # a list of ids
    timeout 60 docker rm -f -v $(docker ps -aq) >/dev/null 2>&1 || true
    # Their bridges would outlive the daemon.
    timeout 60 docker network prune -f >/dev/null 2>&1 || true
  fi
  [ ! -f "$dir/pid" ] || end_group "$dir/pid"
  # A daemon that was killed leaves containerd and the shims of its containers; all of them carry the folder's path.
  for process in $(grep -lsF "$dir/exec" /proc/[0-9]*/cmdline | cut -d/ -f3); do
    [ "$process" = $$ ] || kill -KILL "$process" 2>/dev/null || true
  done
  if [ -f "$dir/bridge" ]; then
    # What a killed daemon left of its networks, too: they are named after ids that its store knows.
    for link in $(cat "$dir/bridge") $(ip -br link | sed -n 's/^\(br-[0-9a-f]*\) .*/\1/p'); do
      [ "${link#br-}" = "$link" ] || grep -aqs "${link#br-}" "$dir/data/network/files/local-kv.db" || continue
      ip link del "$link" 2>/dev/null || true
    done
  fi
  grep -F " $dir/" /proc/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do
    umount -l "$mount" 2>/dev/null || true
  done
  rm -rf "$dir/data" "$dir/exec" "$dir/bridge"
}

case ${1-} in
  start) start "${2:?a folder}" ;;
  stop) stop "${2:?a folder}" ;;
  *) die "usage: engine.sh start DIR | stop DIR" ;;
esac
