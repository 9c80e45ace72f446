#!/bin/sh
# The manager script that images of the field have (network-system-update.md E.8), as far as an agent can tell: which binary
# it takes, how it links and when it starts. It is not this project's to change. A line on standard input is a cycle, where
# theirs sleeps; `done` says that it is over. AGENT_DIR is /opt/reagent on a device.
dir=$AGENT_DIR
A=$dir/Reagent-active
L=$dir/Reagent-latest
P=$dir/Reagent-previous
n=999

target() { readlink "$1"; }

while read -r _; do
  newest=$(ls -t "$dir" | grep reagent- | head -n 1)
  if [ "$(target "$L")" != "$dir/$newest" ]; then
    chmod 755 "$dir/$newest"
    ln -sf "$dir/$newest" "$L"
  fi
  [ -L "$A" ] || ln -s "$(target "$L")" "$A"
  [ -L "$P" ] || ln -s "$(target "$A")" "$P"
  # Before anything is started that could have the text among its own words.
  processes=$(ps aux)
  case $processes in
    *"$A"*)
      if [ "$(target "$L")" != "$(target "$A")" ] && [ "$(target "$L")" != "$(target "$P")" ]; then
        ln -sf "$(target "$A")" "$P"
        ln -sf "$(target "$L")" "$A"
        "$A" --version
        systemctl restart reagent
        n=0
      fi
      ;;
    *)
      if [ "$(target "$L")" = "$(target "$A")" ] && [ "$(target "$L")" != "$(target "$P")" ] && [ $n -lt 4 ]; then
        ln -sf "$(target "$P")" "$A"
        systemctl --version rolled-back
      fi
      "$A" --version
      systemctl start reagent
      ;;
  esac
  n=$((n + 1))
  echo done
done
