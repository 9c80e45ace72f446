# What the scripts of this folder share. Read by them with `.`, in the project's folder.

root=$PWD
here=$root/tests/env
. "$here/lib.sh"
say() { echo "cross: $*" >&2; }

TABLE=cross/targets.txt
# shellcheck disable=SC2034 # for those who read this
VERSION=$(cat src/release/version.txt)

# The lines of `targets`.
lines() { tr '\n' ' ' <targets; }

# column N LINE: what the table says of a line of `targets`; nothing if it has no such row.
column() { awk -v n="$1" -v line="$2" '$1 == line { print $n }' "$TABLE"; }
triple_of() { column 2 "$1"; }
arch_of() { column 3 "$1"; }
file_of() { column 4 "$1"; }
budget_of() { column 5 "$1"; }
cpus_of() { column 6 "$1"; }
frp_of() { column 7 "$1"; }
zig_of() { awk -v line="$1" '$1 == line { for (n = 8; n <= NF; n++) printf "%s ", $n }' "$TABLE"; }

# Ends with a message if a line has no row.
known() {
  for line in "$@"; do
    [ -n "$(triple_of "$line")" ] ||
      die "there is no Rust target for the line '$line' of targets: $TABLE lacks it. Nothing was done"
  done
}

# Whether the agent can be built for a line: what cannot has no budget.
buildable() { [ "$(budget_of "$1")" != - ]; }
