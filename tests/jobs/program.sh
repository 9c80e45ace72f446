#!/bin/sh
# A program of a test, linked as `docker` or `docker-compose` into a folder of its own: notes how it was called in `calls`,
# then does what the test laid down for one of its words, in a file such as `do-up`.
dir=${0%/*}
echo "${0##*/} $*" >>"$dir/calls"
for word in "$@"; do
  if [ -f "$dir/do-$word" ]; then . "$dir/do-$word"; fi
done
exit 0
