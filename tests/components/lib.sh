# Shared by the scripts of tests/components; sourced, never run.
# Standard output belongs to the KEY=VALUE lines, everything else goes to
# standard error.
# shellcheck shell=bash disable=SC2034 # what is set here is used by the others
set -euo pipefail

components=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=versions.env
. "$components/versions.env"
cache=${BURSAR_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME or BURSAR_CACHE must be set}/.cache}/bursar}

say() { printf 'components: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# at_least VERSION MINIMUM: whether a dotted version is not older than another.
at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# apt_install PACKAGE...: false where the machine or the user may not.
apt_install() {
  command -v apt-get >/dev/null || return 1
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  say "installing $* with apt-get"
  {
    "${as_root[@]}" apt-get -qq update &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "$@"
  } >&2
}

# need COMMAND PACKAGE: installs a missing command or says how to get it.
need() {
  command -v "$1" >/dev/null && return
  apt_install "$2" || true
  command -v "$1" >/dev/null || die "$1 is missing: apt-get install $2, then run this again"
}

# Sets java to a command of a new enough Java, installing one if need be.
find_java() {
  local tried=0 candidate version
  while :; do
    for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
      [ -n "$candidate" ] && [ -x "$candidate" ] || continue
      version=$("$candidate" -XshowSettings:properties -version 2>&1 |
        sed -n 's/^ *java\.specification\.version = //p')
      if [ -n "$version" ] && at_least "$version" "$JAVA_MINIMUM"; then
        java=$candidate
        return
      fi
    done
    [ "$tried" = 0 ] || break
    tried=1
    apt_install openjdk-17-jre-headless || apt_install openjdk-21-jre-headless ||
      apt_install default-jre-headless || break
  done
  die "Java $JAVA_MINIMUM or newer is missing: apt-get install default-jre-headless, then run this again"
}

# Sets python to any Python 3 for the small helpers beside this file.
find_helper_python() {
  need python3 python3
  python=python3
}

# absolute DIR: the folder's one name, which command lines are compared with.
absolute() {
  case $1 in *[\"\\$'\n']*) die "a folder name with quotes, backslashes or line ends: $1" ;; esac
  realpath -m -- "$1"
}

# ---- One process per folder, known by DIR/pid and by its command line. ----

# has_argument PID WORD: whether that process runs with exactly this argument.
# A dead or unreaped process has no command line, so this is also "is alive".
has_argument() {
  grep -Fxzqs -- "$2" "/proc/$1/cmdline"
}

# running DIR WORD: prints the PID if DIR/pid names a live process with WORD.
running() {
  local pid
  [ -f "$1/pid" ] || return 1
  read -r pid <"$1/pid" || return 1
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  has_argument "$pid" "$2" || return 1
  printf '%s\n' "$pid"
}

# gone PID WORD SECONDS: waits until the process has ended.
gone() {
  local deadline=$((SECONDS + $3))
  while has_argument "$1" "$2"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

# end_process DIR WORD SIGNAL: ends exactly the process that DIR/pid names.
end_process() {
  local pid
  if ! pid=$(running "$1" "$2"); then
    [ ! -f "$1/pid" ] || say "$(basename "$0") in $1 is not running"
    rm -f -- "$1/pid"
    return 0
  fi
  kill -"$3" "$pid" 2>/dev/null || true
  if ! gone "$pid" "$2" 60; then
    say "process $pid ignored SIG$3 for 60 s and is killed"
    kill -KILL "$pid" 2>/dev/null || true
    gone "$pid" "$2" 30 || die "process $pid cannot be ended"
  fi
  rm -f -- "$1/pid"
}

# launch DIR LOG COMMAND...: starts a process that outlives this script and
# holds none of its descriptors. It names itself in DIR/pid before it becomes
# the command, so that no moment exists in which stop would not find it.
launch() {
  local dir=$1 log=$2 launcher
  shift 2
  rm -f -- "$dir/pid"
  # shellcheck disable=SC2016 # expanded by the inner shell, which names itself
  setsid bash -c 'printf "%s\n" "$$" >"$0.new" && mv -f -- "$0.new" "$0" && exec "$@"' \
    "$dir/pid" "$@" </dev/null >>"$log" 2>&1 9>&- &
  launcher=$!
  until [ -s "$dir/pid" ]; do
    kill -0 "$launcher" 2>/dev/null || die "$1 could not be started"
    sleep 0.01
  done
}

# started DIR WORD LOG PROBE PORT: waits until the process answers; if it does
# not, ends it and shows what it wrote.
started() {
  local pid
  read -r pid <"$1/pid"
  "$python" "$components/probe.py" "$4" "$5" "$pid" 120 >&2 && return
  end_process "$1" "$2" KILL
  say "from the end of $3:"
  tail -n 200 -- "$3" | grep -E 'ERROR|FATAL|Exception|panic' | tail -n 8 >&2 || tail -n 20 -- "$3" >&2
  die "$(basename "$0") in $1 did not start"
}

# ports DIR NAME...: one free loopback port for each name that DIR/ports does
# not hold yet. They lie below the range of outgoing connections, so that a
# stopped process finds its ports free again.
ports() {
  local dir=$1 name missing=() free
  shift
  touch -- "$dir/ports"
  for name in "$@"; do
    grep -q "^$name=" "$dir/ports" || missing+=("$name")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  read -r -a free < <("$python" "$components/probe.py" free "${#missing[@]}")
  [ "${#free[@]}" = "${#missing[@]}" ] || die "no free loopback port found"
  for name in "${!missing[@]}"; do
    printf '%s=%s\n' "${missing[$name]}" "${free[$name]}" >>"$dir/ports"
  done
}

port() { sed -n "s/^$2=//p" "$1/ports"; }

# take_folder ACTION DIR: sets `action` and `dir`, and keeps the folder from any other call until this one ends. Only a
# start makes a folder that is not there.
take_folder() {
  action=$1
  dir=$(absolute "$2")
  [ "$action" = start ] || [ -d "$dir" ] || die "there is no folder $dir"
  mkdir -p -- "$dir"
  need flock util-linux
  exec 9>"$dir/.lock"
  flock 9
}
