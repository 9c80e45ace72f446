#!/bin/sh
# Images for tests and for the demonstration, made of Debian's static busybox: no image comes from the internet.
#
#   images.sh base                      makes busybox:local, for `FROM busybox:local`
#   images.sh push REFERENCE KIND [VERSION]
#                                       makes an image of a kind and pushes it as REFERENCE
#                                       (<registry>/apps/<stage>_<arch>_<app key>_<name>:<version>); none stays locally
#   images.sh demo REGISTRY             pushes the demo app 501 in versions 1.0.0 and 2.0.0 for this machine
#
# Kinds: demo      a line per second ("demo VERSION line N"); HTTP on 8080: / says "demo VERSION", /env the environment
#        exits     writes a line and ends at once with code 3
#        brief     writes a line and ends after one second with code 3
#        fails     writes a line and ends after two seconds with code 3
#        sick      runs and writes nothing; its HEALTHCHECK says every second that it is not well
#        well      the same, and it is well
#        stubborn  ignores SIGTERM
#        silent    runs and writes nothing
#        chatty    writes a hundred lines a second
#        flood     writes as fast as it can
#        big       as demo, with 64 MB that do not compress: a pull that takes a while
#        bulky     as demo, with 4 MB that do not compress: a pull that can be held in the middle
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
label=reagent-test

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Makes the file system of every image as $work/root.tar, the same bytes each time.
root() {
  [ -x /bin/busybox ] || need busybox-static
  dir=$work/root
  mkdir -p "$dir/bin" "$dir/tmp" "$dir/etc" "$dir/www"
  cp /bin/busybox "$dir/bin/busybox"
  for applet in sh ls sleep echo cat ps nc httpd env date head tail grep sed tee touch rm mkdir kill stty id wget yes dd; do
    ln -s busybox "$dir/bin/$applet"
  done
  cat >"$dir/bin/app-demo" <<'END'
#!/bin/sh
trap 'echo "demo $VERSION ends"; exit 0' TERM INT
echo "demo $VERSION" >/www/index.html
env >/www/env
httpd -p 8080 -h /www
n=0
while :; do
  n=$((n + 1))
  echo "demo $VERSION line $n"
  sleep 1 &
  wait $!
done
END
  printf '#!/bin/sh\necho "ends at once"\nexit 3\n' >"$dir/bin/app-exits"
  printf '#!/bin/sh\necho "ends soon"\nsleep 1\nexit 3\n' >"$dir/bin/app-brief"
  printf '#!/bin/sh\necho "about to fail"\nsleep 2\nexit 3\n' >"$dir/bin/app-fails"
  printf '#!/bin/sh\ntrap "" TERM INT\necho "ignores SIGTERM"\nwhile :; do sleep 1; done\n' >"$dir/bin/app-stubborn"
  printf '#!/bin/sh\ntrap "exit 0" TERM INT\nsleep 1000000 &\nwait $!\n' >"$dir/bin/app-silent"
  printf '#!/bin/sh\nexec yes "a flood of lines, each of them as long as this one is, and none that anybody reads"\n' >"$dir/bin/app-flood"
  cat >"$dir/bin/app-chatty" <<'END'
#!/bin/sh
trap 'exit 0' TERM INT
n=0
while :; do
  for _ in 0 1 2 3 4 5 6 7 8 9; do
    n=$((n + 1))
    echo "chatty $VERSION line $n, as long as a line of a log that says what has happened to whom usually is"
  done
  sleep 0.1
done
END
  chmod +x "$dir"/bin/app-*
  case $1 in
    big) head -c 64000000 /dev/urandom >"$dir/etc/ballast" ;;
    bulky) head -c 4000000 /dev/urandom >"$dir/etc/ballast" ;;
  esac
  tar -C "$dir" --sort=name --mtime=@0 --owner=0 --group=0 -cf "$work/root.tar" .
}

base() {
  docker image inspect busybox:local >/dev/null 2>&1 && return
  root base
  docker import --change "LABEL $label=base" --change 'CMD ["/bin/sh"]' "$work/root.tar" busybox:local >/dev/null
  say "made busybox:local"
}

push() {
  reference=$1 kind=$2 version=${3:-${1##*:}}
  case $kind in
    demo | exits | brief | fails | stubborn | silent | chatty | flood) program=$kind ;;
    big | bulky) program=demo ;;
    sick | well) program=silent ;;
    *) die "no such kind of image: $kind" ;;
  esac
  root "$kind"
  set --
  case $kind in
    sick) set -- --change 'HEALTHCHECK --interval=1s --retries=1 CMD exit 1' ;;
    well) set -- --change 'HEALTHCHECK --interval=1s --retries=1 CMD exit 0' ;;
  esac
  docker import --change "LABEL $label=$kind" --change "ENV VERSION=$version" --change "ENV PATH=/bin" \
    --change 'EXPOSE 8080' "$@" --change "CMD [\"/bin/app-$program\"]" "$work/root.tar" "$reference" >/dev/null
  status=0
  docker push -q "$reference" >/dev/null || status=$?
  docker image rm "$reference" >/dev/null
  rm -rf "$work/root" "$work/root.tar"
  [ $status = 0 ] || die "cannot push $reference"
}

demo() {
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; armv7*) arch=armv7 ;; *) arch=$(uname -m) ;; esac
  for version in 1.0.0 2.0.0; do
    push "$1/apps/prod_${arch}_501_demo:$version" demo
    say "pushed $1/apps/prod_${arch}_501_demo:$version"
  done
}

case ${1-} in
  base) base ;;
  push) push "${2:?a reference}" "${3:?a kind}" ${4+"$4"} ;;
  demo) demo "${2:?a registry}" ;;
  *) die "usage: images.sh base | push REFERENCE KIND [VERSION] | demo REGISTRY" ;;
esac
