#!/bin/sh
# A registry of its own on a free loopback port, with its storage in a folder.
#
#   registry.sh start DIR [USER PASSWORD]    DIR/port and DIR/pid say where it is; with USER it asks for the password
#   registry.sh stop DIR                     ends it
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

start() {
  dir=$1
  command -v docker-registry >/dev/null || need docker-registry
  mkdir -p "$dir/storage"
  port=$(free_port)
  cat >"$dir/config.yml" <<END
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: $dir/storage}
  delete: {enabled: true}
http: {addr: "127.0.0.1:$port"}
END
  if [ $# = 3 ]; then
    # bcrypt, the only form that the registry takes; a fixed salt does for a test.
    perl -e 'print "$ARGV[0]:", crypt($ARGV[1], q($2b$05$abcdefghijklmnopqrstuu)), "\n"' "$2" "$3" >"$dir/htpasswd"
    printf 'auth:\n  htpasswd: {realm: test, path: %s}\n' "$dir/htpasswd" >>"$dir/config.yml"
  fi
  setsid docker-registry serve "$dir/config.yml" >"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  guard registry.sh "$dir"
  if ! wait_for 30 "$dir/pid" listens "$port"; then
    tail -n 20 "$dir/log" >&2
    end_group "$dir/pid"
    die "the registry does not answer on port $port"
  fi
  echo "$port" >"$dir/port"
}

case ${1-} in
  start) shift; { [ $# = 1 ] || [ $# = 3 ]; } || die "usage: registry.sh start DIR [USER PASSWORD]"; start "$@" ;;
  stop) end_group "${2:?a folder}/pid" ;;
  *) die "usage: registry.sh start DIR [USER PASSWORD] | stop DIR" ;;
esac
