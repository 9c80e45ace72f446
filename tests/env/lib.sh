# What the scripts of this folder share. Read by them with `.`; `here` is this folder.

# What was installed or is running; several working trees may share one.
REAL_DIR=${REAL_DIR:-$(cd "$here/../.." && pwd)/.real}

say() { echo "tests/env: $*" >&2; }
die() { say "$*"; exit 1; }

# Debian packages that have to be there; those that are missing are installed.
need() {
  missing=
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "missing:$missing. There is no apt-get here: install them by hand"
  [ "$(id -u)" = 0 ] || die "missing:$missing. Install them with: sudo apt-get install --no-install-recommends$missing"
  say "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of names
  install_packages $missing || { apt-get update -q >&2; install_packages $missing; } || die "apt-get could not install$missing"
}

# Debian starts services on installation; here the test starts what it needs, and nothing else runs.
install_packages() {
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ] && [ ! -d /run/systemd/system ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    made=1
  else
    made=
  fi
  status=0
  apt-get install -y -q --no-install-recommends "$@" >&2 || status=$?
  [ -z "$made" ] || rm -f $policy
  return $status
}

# A loopback port that was free a moment ago. (perl-base is on every Debian.)
free_port() {
  perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport, "\n"'
}

# Whether something listens on a loopback port.
listens() {
  perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0], Timeout => 2)' "$1"
}

# Whether a process runs. One that has ended and that nobody has collected (no init system here) does not.
alive() {
  state=$(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null) || return 1
  [ "${state:-Z}" != Z ]
}

# wait_for SECONDS PIDFILE COMMAND...: until the command succeeds; fails when the time is over or the process is gone.
wait_for() {
  tries=$(($1 * 5)) pidfile=$2
  shift 2
  while ! "$@"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    alive "$(cat "$pidfile")" || return 1
    sleep 0.2
  done
}

# Ends the process group (a session of its own, by setsid) whose leader's id is in a file, and waits for it.
end_group() {
  [ -f "$1" ] || return 0
  pid=$(cat "$1")
  kill -s TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null || true
  tries=50
  while alive "$pid"; do
    tries=$((tries - 1))
    if [ $tries -le 0 ]; then
      kill -s KILL -- "-$pid" 2>/dev/null || true
      break
    fi
    sleep 0.1
  done
  rm -f "$1"
}

# The flags with which dockerd can run privileged containers here: without CAP_SYS_RESOURCE (bit 24 of the bounding set)
# runc itself cannot.
dockerd_runtime() {
  set=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
  [ $((0x$set >> 24 & 1)) = 1 ] || echo "--add-runtime bounded=$here/runc-bounded --default-runtime bounded"
}

# guard SCRIPT DIR: if OWNER_PID names a process (a test), stops the part in DIR and removes DIR once that is gone, however
# it went.
guard() {
  [ -n "${OWNER_PID-}" ] || return 0
  setsid sh -c 'tail --pid="$1" -f /dev/null; "$2" stop "$3"; rm -rf "$3"' guard "$OWNER_PID" "$here/$1" "$2" \
    >/dev/null 2>&1 </dev/null &
}
