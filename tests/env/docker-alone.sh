#!/bin/sh
# For a PATH, linked there as `docker`: the docker command as it is without its compose plugin, wherever that may be. The real
# one is in a later folder of PATH.
[ "${1-}" != compose ] || { echo "docker: 'compose' is not a docker command." >&2; exit 1; }
PATH=${PATH#*:} exec docker "$@"
