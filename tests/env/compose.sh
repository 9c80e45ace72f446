#!/bin/sh
# Compose in the versions that devices have, below .real/ (or $REAL_DIR): nothing of the machine changes, no root is needed.
#
#   compose.sh v2     prints the path of an executable `docker-compose` of version 2. Its folder is called `cli-plugins`: with
#                     DOCKER_CONFIG=<the folder above it> `docker compose` finds it
#   compose.sh v1     prints the path of an executable `docker-compose` of version 1.29; alone in its folder, for a PATH
#
# Installed once (some seconds); after that nothing is asked of the network. Both work without an engine: `config`, `version`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

# Debian's mirror as this machine knows it.
mirror() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -n -e 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' -e 's/^deb[[:space:]]\{1,\}\(\[[^]]*][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\2/p' |
    grep -m 1 '/debian/\{0,1\}$'
}

# apt DIR ARGUMENT...: apt-get that knows one suite (DIR/sources), and what this machine has installed.
apt() {
  dir=$1
  shift
  apt-get -q -o Dir::Etc::SourceList="$dir/sources" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$dir/lists" \
    -o Dir::Cache="$dir/cache" -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 "$@" >&2
}

# prepare DIR SUITE INSTEAD: an empty DIR in which `apt` knows a suite. INSTEAD: what to do on other systems.
prepare() {
  address=$(command -v apt-get >/dev/null && command -v dpkg >/dev/null && mirror) ||
    die "this machine has no Debian package sources: $3"
  rm -rf "$1"
  mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/debs" "$1/root"
  # A mirror's address may hold a password.
  (umask 077 && echo "deb $address $2 main" >"$1/sources")
  apt "$1" update || die "the package lists of $2 could not be loaded; try again with: tests/env/compose.sh $version"
}

unpack() {
  for deb in "$1"/debs/*.deb "$1"/cache/archives/*.deb; do
    [ ! -f "$deb" ] || dpkg -x "$deb" "$1/root"
  done
}

# The machine's own plugin, if it is of version 2.
own_plugin() {
  for folder in "${DOCKER_CONFIG:-${HOME-}/.docker}" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
    plugin=$folder/cli-plugins/docker-compose
    case $([ ! -x "$plugin" ] || "$plugin" version --short 2>/dev/null) in
      2.* | v2.*) echo "$plugin"; return ;;
    esac
  done
  return 1
}

install_v2() {
  if plugin=$(own_plugin); then
    mkdir -p "$work/root"
    cp "$plugin" "$work/root/docker-compose"
  else
    say "installing compose of version 2 from Debian into $target"
    prepare "$work" trixie "install Docker's compose plugin of version 2, or put its file at $target"
    (cd "$work/debs" && apt "$work" download docker-compose) || die "apt-get could not download docker-compose of trixie"
    unpack "$work"
    mv "$work/root/usr/libexec/docker/cli-plugins/docker-compose" "$work/root/docker-compose"
  fi
  mkdir -p "$(dirname "$target")"
  mv "$work/root/docker-compose" "$target"
}

# 1.29 is in Python; its modules that this machine lacks are unpacked beside it.
install_v1() {
  say "installing compose 1.29 from Debian into $target"
  prepare "$work" bookworm "put an executable docker-compose of version 1.29 at $target"
  apt "$work" install --download-only -y --no-install-recommends docker-compose ||
    die "apt-get could not download docker-compose of bookworm. On another Debian: put a docker-compose 1.29 at $target"
  unpack "$work"
  rm -rf "$REAL_DIR/compose-v1"
  mkdir -p "$(dirname "$target")"
  mv "$work/root" "$REAL_DIR/compose-v1/root"
  cat >"$target" <<'END'
#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root
PYTHONPATH=$root/usr/lib/python3/dist-packages${PYTHONPATH:+:$PYTHONPATH} exec /usr/bin/python3 "$root/usr/bin/docker-compose" "$@"
END
  chmod +x "$target"
}

ensure() {
  version=$1 target=$2
  work=$REAL_DIR/compose-$version.new
  if [ ! -x "$target" ]; then
    mkdir -p "$REAL_DIR"
    # Another process may install at the same time: the first one does it, the others wait.
    (
      flock 9
      [ ! -x "$target" ] || exit 0
      "install_$version"
      rm -rf "$work"
      "$target" version >"$REAL_DIR/compose-$version.log" 2>&1 || {
        cat "$REAL_DIR/compose-$version.log" >&2
        rm -f "$target"
        die "compose does not run; try again with: tests/env/compose.sh $version"
      }
    ) 9>"$REAL_DIR/compose.lock"
  fi
  echo "$target"
}

case ${1-} in
  v2) ensure v2 "$REAL_DIR/compose-v2/cli-plugins/docker-compose" ;;
  v1) ensure v1 "$REAL_DIR/compose-v1/bin/docker-compose" ;;
  *) die "usage: compose.sh v1|v2" ;;
esac
