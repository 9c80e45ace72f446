#!/bin/sh
# A Docker Engine. One that answers on DOCKER_HOST or on the usual socket is used as it is; else Debian's is installed and
# started, and stays when this script ends.
#
#   docker.sh         makes sure that an engine answers; prints the pid file if it was started here, else nothing
#   docker.sh stop    ends the engine that this script has started, and no other
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
pidfile=$REAL_DIR/dockerd.pid
log=$REAL_DIR/dockerd.log

answers() {
  command -v docker >/dev/null && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

ensure() {
  mkdir -p "$REAL_DIR"
  # Two at a time: the second one finds the engine of the first.
  (
    flock 9
    if answers; then exit 0; fi
    if [ -n "${DOCKER_HOST-}" ]; then
      die "no Docker Engine answers on DOCKER_HOST=$DOCKER_HOST. Start it, or unset DOCKER_HOST to have one started"
    fi
    [ "$(id -u)" = 0 ] || die "no Docker Engine answers. Start it (sudo systemctl start docker), or run this as root"
    need docker.io iptables
    if answers; then exit 0; fi
    runtime=$(dockerd_runtime)
    [ -z "$runtime" ] || say "this machine lacks CAP_SYS_RESOURCE: containers run by tests/env/runc-bounded, which does without"
    # shellcheck disable=SC2086 # flags
    setsid dockerd $runtime >"$log" 2>&1 </dev/null 9>&- &
    echo $! >"$pidfile"
    if ! wait_for 60 "$pidfile" answers; then
      tail -n 20 "$log" >&2
      end_group "$pidfile"
      die "dockerd does not come up; its log is $log"
    fi
    say "started dockerd (process $(cat "$pidfile"), log $log); it stays until: tests/env/docker.sh stop"
    echo "$pidfile"
  ) 9>"$REAL_DIR/docker.lock"
}

case ${1-} in
  '') ensure ;;
  stop) end_group "$pidfile" ;;
  *) die "usage: docker.sh [stop]" ;;
esac
