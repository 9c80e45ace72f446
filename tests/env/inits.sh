#!/bin/sh
# Init systems in containers of the machine's Docker Engine: BusyBox init, OpenRC, SysV init and systemd, each as process 1 of
# a root file system that this script makes. BusyBox and systemd are the machine's own, OpenRC and SysV init are unpacked and
# never installed.
#
#   inits.sh install              brings what is missing (nothing to do if it is there)
#   inits.sh root DIR KIND        lays the init system out in DIR/root; KIND is busybox, openrc, sysv or systemd
#   inits.sh start DIR KIND       boots DIR/root in a container on the host's network; DIR/name is its name
#   inits.sh stop DIR             removes the container and its image
#
# What is copied into DIR/root/opt before the start brings its libraries along.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
openrc=$REAL_DIR/openrc
sysv=$REAL_DIR/sysv

install() {
  [ -x /bin/busybox ] || need busybox-static
  [ -x /lib/systemd/systemd ] && [ -x /usr/bin/systemd-analyze ] || need systemd
  unpack openrc sbin/openrc-init openrc librc1 libeinfo1
  unpack sysv sbin/init sysvinit-core sysv-rc sysvinit-utils
}

# unpack NAME PROGRAM PACKAGE...: the files of Debian's packages in $REAL_DIR/NAME, where PROGRAM then is.
unpack() (
  name=$1 dir=$REAL_DIR/$1 program=$2
  shift 2
  [ ! -x "$dir/$program" ] || exit 0
  command -v apt-get >/dev/null || die "$name is missing and there is no apt-get here: unpack Debian's packages $* into $dir"
  mkdir -p "$REAL_DIR"
  (
    flock 9
    [ ! -x "$dir/$program" ] || exit 0
    say "unpacking $name into $dir"
    rm -rf "$dir.new" "$dir.debs"
    mkdir -p "$dir.new" "$dir.debs"
    cd "$dir.debs"
    log=$REAL_DIR/$name-install.log
    fetch() { apt-get download -q "$@" >"$log" 2>&1; }
    if ! fetch "$@"; then
      [ "$(id -u)" = 0 ] || die "$name cannot be fetched: sudo apt-get update, then tests/env/inits.sh install"
      apt-get update -q >&2
      fetch "$@" || { cat "$log" >&2; die "$name cannot be fetched; try again with: tests/env/inits.sh install"; }
    fi
    for package in *.deb; do dpkg -x "$package" "$dir.new"; done
    rm -rf "$dir.new/usr" "$dir.debs"
    mv "$dir.new" "$dir"
  ) 9>"$REAL_DIR/$name.lock"
)

# What every system has.
base() {
  mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/root" "$root/var" "$root/etc/init.d"
  chmod 1777 "$root/tmp"
  ln -s /run "$root/var/run"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  echo 'hosts: files' >"$root/etc/nsswitch.conf"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
}

busybox() {
  for applet in $(/bin/busybox --list-full); do
    mkdir -p "$root/$(dirname "$applet")"
    ln -s /bin/busybox "$root/$applet"
  done
  mkdir -p "$root/bin"
  rm -f "$root/bin/busybox"
  cp /bin/busybox "$root/bin/busybox"
}

root() {
  root=$1/root
  install
  case $2 in
    busybox)
      base
      busybox
      printf '::sysinit:/etc/init.d/rcS\n::shutdown:/etc/init.d/rcK\n' >"$root/etc/inittab"
      printf '#!/bin/sh\nfor script in /etc/init.d/S??*; do "$script" start; done\n' >"$root/etc/init.d/rcS"
      printf '#!/bin/sh\nfor script in /etc/init.d/S??*; do "$script" stop; done\n' >"$root/etc/init.d/rcK"
      chmod +x "$root/etc/init.d/rcS" "$root/etc/init.d/rcK"
      ;;
    openrc)
      base
      busybox
      rm -f "$root/sbin/start-stop-daemon"
      tar -C "$openrc" -c . | tar -C "$root" -x
      mkdir -p "$root/etc/runlevels/sysinit" "$root/etc/runlevels/boot" "$root/etc/runlevels/default" "$root/etc/runlevels/shutdown"
      # A container's kernel is not its own.
      echo 'rc_sys="docker"' >>"$root/etc/rc.conf"
      ;;
    sysv)
      base
      busybox
      tar -C "$sysv" -c . | tar -C "$root" -x
      # The one of BusyBox is another.
      rm -f "$root/sbin/start-stop-daemon"
      cp "$(command -v start-stop-daemon)" "$root/sbin/start-stop-daemon"
      # What Debian's own has in it for services, and the last step of its scripts for the machine, which are not here.
      printf '%s\n' id:2:initdefault: si::sysinit:/etc/init.d/rcS '2:2:wait:/etc/init.d/rc 2' \
        '0:0:wait:/etc/init.d/rc 0' 'h0:0:wait:/sbin/halt -d -f -p' \
        '6:6:wait:/etc/init.d/rc 6' 'h6:6:wait:/sbin/reboot -d -f' >"$root/etc/inittab"
      ;;
    systemd)
      base
      # Programs and libraries are the machine's.
      for name in bin sbin lib lib32 lib64 libx32; do
        [ ! -e /$name ] || [ -L /$name ] || die "/$name is no link to /usr/$name here: this needs a merged /usr"
        [ ! -L /$name ] || ln -s "usr/$name" "$root/$name"
      done
      mkdir -p "$root/usr" "$root/etc/systemd/system"
      : >"$root/etc/machine-id"
      ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
      # The machine's other services are not asked for.
      for unit in systemd-udevd systemd-udev-trigger systemd-modules-load systemd-sysctl systemd-resolved systemd-networkd \
        systemd-timesyncd systemd-logind systemd-firstboot systemd-hwdb-update getty@tty1 dbus; do
        ln -s /dev/null "$root/etc/systemd/system/$unit.service"
      done
      ;;
    *) die "no such init system: $2" ;;
  esac
}

# The libraries of the programs in the system, except where they are the machine's.
libraries() {
  find "$root/opt" "$root/sbin" "$root/bin" "$root/lib/rc" -type f -perm -100 2>/dev/null | while read -r program; do
    LD_LIBRARY_PATH=$(echo "$openrc"/lib/*-linux-gnu*) ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true
  done | sort -u | while read -r library; do
    case $library in "$openrc"/*) continue ;; esac
    mkdir -p "$root$(dirname "$library")"
    [ -e "$root$library" ] || cp -L "$library" "$root$library"
  done
}

# As the installer says. The machine's own start scripts stay as they are.
enable() { DPKG_ROOT=$root update-rc.d reagent defaults >&2; }

start() {
  dir=$1 root=$1/root
  name=$(basename "$dir")
  case $2 in
    busybox) libraries; set -- /sbin/init ;;
    # Without the capability it stays when its services have ended.
    openrc) libraries; set -- --cap-add SYS_BOOT --tmpfs /run -- /sbin/openrc-init ;;
    sysv) enable; libraries; set -- --cap-add SYS_BOOT -- /sbin/init ;;
    systemd)
      if [ -d /sys/fs/cgroup/systemd ]; then
        cgroups='-v /sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd:rw'
        # Without these it would change how the machine's cgroup2 is mounted.
        words='systemd.legacy_systemd_cgroup_controller=1 systemd.unified_cgroup_hierarchy=0'
      else
        cgroups='--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw'
        words=
      fi
      # shellcheck disable=SC2086 # flags
      set -- --cap-add SYS_ADMIN --cap-add SYS_NICE --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        $cgroups --tmpfs /run --tmpfs /run/lock -v /usr:/usr:ro -e container=docker -- /lib/systemd/systemd $words
      ;;
    *) die "no such init system: $2" ;;
  esac
  flags=
  case " $* " in *' -- '*) while [ "$1" != -- ]; do flags="$flags $1"; shift; done; shift ;; esac
  echo "$name" >"$dir/name"
  guard inits.sh "$dir"
  tar -C "$root" --owner=0 --group=0 -c . | docker import --change 'LABEL reagent-test=init' - "$name:local" >/dev/null
  # shellcheck disable=SC2086 # flags
  docker run -d --name "$name" --hostname device --network host $flags "$name:local" "$@" >/dev/null ||
    die "the container $name does not start"
}

stop() {
  [ -f "$1/name" ] || return 0
  name=$(cat "$1/name")
  timeout 30 docker rm -f -v "$name" >/dev/null 2>&1 || true
  docker image rm -f "$name:local" >/dev/null 2>&1 || true
  rm -f "$1/name"
}

case ${1-} in
  install) install ;;
  root) root "${2:?a folder}" "${3:?busybox, openrc, sysv or systemd}" ;;
  start) start "${2:?a folder}" "${3:?busybox, openrc, sysv or systemd}" ;;
  stop) stop "${2:?a folder}" ;;
  *) die "usage: inits.sh install | root DIR KIND | start DIR KIND | stop DIR" ;;
esac
