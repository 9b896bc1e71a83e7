#!/usr/bin/env bash
# Runs the demo and checks every claim of the tutorial, chapter by chapter, as an operator would see it: what curl gets, what the
# sidecar and the gateway log, what arrives at the site. Exit 0 only if all hold.
#
#   ./check.sh
#
# Cleans up after itself. Environment: COMPOSE (default: docker-compose, else docker compose), SALLYPORT_IMAGE, CAPTURE_IMAGE and
# APPLICATION_IMAGE as in docker-compose.yml, BUILD=no to use images that are there, KEEP=yes to leave the demo running.
set -euo pipefail
cd "$(dirname "$0")"

readonly PROJECT=sallyport-check EXAMPLES=../../examples
# Seconds: for the parts to come up, for a log line or a change to arrive, for one call, for a part to end.
readonly START=60 ARRIVAL=5 CALL=15 STOP=8
readonly GATEWAY=10.1.4.12
# Each writes a line for each request that arrives.
readonly SITES=(example-com httpbin-org storage metadata)

if [ -z "${COMPOSE:-}" ]; then
  command -v docker-compose >/dev/null && COMPOSE=docker-compose || COMPOSE='docker compose'
fi
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
work=$(mktemp -d)
export CONFIG=$work/config
mkdir "$CONFIG" "$work/next"
chmod 755 "$work" "$CONFIG"

held=0
broken=0
changed=0
# A container, and how many lines of its log have been looked at, by service.
declare -A id seen

compose() {
  # shellcheck disable=SC2086 # may be two words
  $COMPOSE --project-name "$PROJECT" --file docker-compose.yml "$@" </dev/null
}

clean_up() {
  local status=$?
  if [ "${KEEP:-no}" != yes ]; then
    if ((status)); then compose logs --no-color --tail 20 || true; fi
    compose down --volumes --timeout 8 >/dev/null 2>&1 || true
    rm -rf "$work"
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

give_up() {
  echo "check: $*" >&2
  exit 1
}

# Access logs and the sites' reports go to standard output, everything else to standard error.
lines() { docker logs "${id[$1]}" 2>/dev/null; }
said() { docker logs "${id[$1]}" 2>&1 >/dev/null; }

# until_true SECONDS COMMAND…
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

start() {
  # The gateway's Service and the teams, without any rule: what the tutorial starts from.
  install -m 644 "$EXAMPLES"/tutorial/{00,01,10,20}-*.yaml "$CONFIG"
  local build=()
  if [ "${BUILD:-yes}" = no ]; then build=(--no-build); fi
  compose up --detach "${build[@]}" || give_up "the demo does not start"
  find_containers
  local service
  for service in team-x-sidecar team-y-sidecar gateway; do
    until_true "$START" configured "$service" || give_up "$service is not configured after $START s"
  done
}

find_containers() {
  local container service
  while read -r container service; do
    [ "${id[$service]:-}" = "$container" ] || seen[$service]=0
    id[$service]=$container
  done < <(docker ps --all --filter "label=com.docker.compose.project=$PROJECT" \
    --format '{{.ID}} {{.Label "com.docker.compose.service"}}')
}

configured() { said "$1" | grep -q 'configured and serving'; }

# in_force LINE: whether, from this line of its log on, the last thing control says is that all three run what there is.
in_force() { said control | tail -n "+$1" | tail -n 1 | grep -q 'every proxy runs what is in force .*proxies=3$'; }

# apply FILE…: as the tutorial does, by files below examples/; returns when every proxy runs them.
apply() {
  local before file
  before=$(said control | wc -l)
  for file in "$@"; do install -m 644 "$EXAMPLES/$file" "$work/next"; done
  changed=$(now)
  mv --target-directory "$CONFIG" "$work"/next/*
  took_effect "$before"
}

# withdraw NAME: a file that was applied.
withdraw() {
  local before
  before=$(said control | wc -l)
  changed=$(now)
  rm "$CONFIG/$1"
  took_effect "$before"
}

took_effect() {
  until_true "$ARRIVAL" in_force "$(($1 + 1))" || give_up "what was applied is not in force everywhere after $ARRIVAL s"
}

# Milliseconds since 1970; without an argument, now.
now() { date +%s%3N "$@"; }

# within MILLISECONDS TEXT: how long the last change took until control had every proxy's acknowledgement, as its log says.
within() {
  local at took
  at=$(said control | grep 'every proxy runs what is in force' | tail -n 1 | cut -d ' ' -f 1)
  took=$(($(now --date "$at") - changed))
  judge "$2 ($took ms)" "$( ((took <= $1)) || echo "expected $1 ms at most")"
}

# Has example.com run by somebody else: an owner of credentials among the sites'.
run_example_com_by() {
  EXAMPLE_COM_RUN_BY=$1 compose up --detach --no-build --no-deps example-com || give_up "example.com cannot be run by $1"
  find_containers
  until_true "$START" ready example-com || give_up "example.com, run by $1, is not ready after $START s"
}

ready() { said "$1" | grep -q '^ready'; }

chapter() { printf '\n%s\n' "$*"; }

# What a claim is about; `claim` judges it and forgets.
forget() { sidecar='' gateway='' arrives='' times=1; }
forget

# Calls as WHO with curl's arguments; prints the body and, last, the status, or `exit N`.
call() {
  local who=$1 code=0 out
  shift
  local curl=(curl -sS --max-time "$CALL" --write-out '\n%{http_code}')
  case $who in
    team-x | team-y) out=$(compose exec -T "$who" "${curl[@]}" "$@" 2>&1) || code=$? ;;
    uncaptured) out=$(compose exec -T --user 1337 team-x "${curl[@]}" "$@" 2>&1) || code=$? ;;
    # Somebody with these credentials, in team-x's network and past its sidecar.
    direct) out=$(docker run --rm --network "container:${id[team-x]}" --user 1337 --volumes-from "${id[certs]}:ro" \
      --entrypoint curl "${APPLICATION_IMAGE:-docker.io/curlimages/curl}" "${curl[@]:1}" "$@" 2>&1) || code=$? ;;
  esac
  printf '%s' "$out"
  if ((code)); then printf '\nexit %s' "$code"; fi
}

# new_lines SERVICE PATTERN HOW_MANY: what contradicts that so many lines came since the last claim, each matching the pattern; none,
# if the pattern is empty. Leaves the contradictions in `why`.
new_lines() {
  local service=$1 pattern=$2 expected=$3 deadline=$((SECONDS + ARRIVAL)) fresh line
  if [ -z "$pattern" ]; then expected=0; fi
  while mapfile -t fresh < <(lines "$service" | tail -n "+$((seen[$service] + 1))") && ((${#fresh[@]} < expected && SECONDS < deadline)); do
    sleep 0.1
  done
  seen[$service]=$((seen[$service] + ${#fresh[@]}))
  if ((${#fresh[@]} != expected)); then why+="$service wrote ${#fresh[@]} lines, expected $expected: ${fresh[*]}"$'\n'; fi
  for line in "${fresh[@]}"; do
    if [ -n "$pattern" ] && ! grep -Eq -- "$pattern" <<<"$line"; then why+="$service wrote $line, expected $pattern"$'\n'; fi
  done
}

# claim TEXT WHO OUTCOME CURL_ARGUMENTS…: OUTCOME is what the end of curl's output matches.
claim() {
  local text=$1 who=$2 outcome=$3 why='' out i site beside=team-x-sidecar
  shift 3
  if [ "$who" = team-y ]; then beside=team-y-sidecar; fi
  for ((i = 0; i < times; i++)); do
    out=$(call "$who" "$@")
    [[ $out =~ $outcome ]] || why+="got ${out@Q}, expected $outcome"$'\n'
  done
  new_lines "$beside" "$sidecar" "$times"
  new_lines gateway "$gateway" "$times"
  for site in "${SITES[@]}"; do
    if [ "$site" = "$arrives" ]; then new_lines "$site" . "$times"; else new_lines "$site" '' 0; fi
  done
  forget
  judge "$text" "$why"
}

# judge TEXT CONTRADICTIONS
judge() {
  if [ -n "$2" ]; then
    broken=$((broken + 1))
    printf ' ✘ %s\n   %s\n' "$1" "${2//$'\n'/$'\n'   }"
  else
    held=$((held + 1))
    printf ' ✔ %s\n' "$1"
  fi
}

# stops SERVICE SIGNAL: the first process of a container ends in order, and soon.
stops() {
  local status began=$SECONDS
  docker kill --signal "$2" "${id[$1]}" >/dev/null
  status=$(timeout 20 docker wait "${id[$1]}") || status='nothing'
  local why=''
  if [ "$status" != 0 ] || ((SECONDS - began > STOP)); then why="exit status $status after $((SECONDS - began)) s, expected 0"; fi
  judge "$1 ends in order on SIG$2" "$why"
}

# shellcheck source=claims.sh
. ./claims.sh

start
claims
if [ "${KEEP:-no}" != yes ]; then the_end; fi
printf '\n%d of %d claims hold\n' "$held" "$((held + broken))"
((broken == 0))
