#!/bin/sh
# Puts the exporter on a node, or takes it off again; see usage below.
#
# Running it again changes nothing but what differs: new code, new flags. It needs
# no checkout on the node (`--to` brings what is needed) and no account anywhere.
set -eu

NAME=inferops-exporter
SERVICE=$NAME.service # as it lies here, whatever it is named there
PORT=21434
HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

usage() {
    cat <<'TEXT'
exporters/install.sh [install|remove] [options] [-- flags of the exporter]
  --to [USER@]HOST    do it on that machine, by ssh (root, or sudo without password)
  --way WAY           systemd, container or pipx (default: the first that is there)
  --listen HOST:PORT  default: the tailnet's address, else all addresses, port 21434
  --ollama-url URL    default: what ollama.service was told, else Ollama's default
  --name NAME         of another one beside it, for another Ollama of this machine
  --root DIR          systemd only: write below DIR and start nothing
TEXT
}

say() { printf '%s\n' "$NAME: $*"; }
fail() { say "$*" >&2; exit 1; }
there() { command -v "$1" >/dev/null 2>&1; }

# --- what is asked for ------------------------------------------------------------

action=install to='' way='' listen='' ollama_url='' root='' extra='' given=''

value() { [ $# -ge 2 ] || fail "$1: needs a value"; }

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            install | remove) action=$1 ;;
            --to) value "$@"; to=$2; shift ;;
            --way) value "$@"; way=$2; shift ;;
            --listen) value "$@"; listen=$2 given=yes; shift ;;
            --ollama-url) value "$@"; ollama_url=$2 given=yes; shift ;;
            --root) value "$@"; root=${2%/}; shift ;;
            --name) value "$@"; NAME=$2; shift ;;
            -h | --help) usage; exit 0 ;;
            --) shift; read_flags "$@"; return ;;
            *) usage >&2; fail "unknown argument '$1'" ;;
        esac
        shift
    done
}

read_flags() {
    for flag in "$@"; do
        plain "$flag"
        extra="$extra $flag" given=yes
    done
}

# Flags stand in a file that systemd splits at spaces: what would need quotes there
# is refused here, by name.
plain() {
    case $1 in
        *[!A-Za-z0-9_./:@,=+%\[\]-]*) fail "not a plain flag: '$1'" ;;
    esac
}

check() {
    case $NAME in
        '' | -* | *[!a-z0-9-]*) fail "--name: must be of a-z, 0-9 and -, got '$NAME'" ;;
    esac
    plain "$listen"
    plain "$ollama_url"
    case $way in
        '' | systemd | container | pipx) ;;
        *) fail "--way: must be systemd, container or pipx, got '$way'" ;;
    esac
    [ -z "$root" ] || [ "${way:-systemd}" = systemd ] || fail "--root: only with systemd"
    [ "$way" != pipx ] || [ "$SERVICE" = "$NAME.service" ] || fail "--name: not with pipx"
    HOME_DIR=/opt/$NAME
    UNIT=/etc/systemd/system/$NAME.service
    SETTINGS=/etc/default/$NAME
}

flags() {
    printf '%s' "--listen=$(address)"
    [ -z "$ollama_url" ] || printf ' %s' "--ollama-url=$ollama_url"
    printf '%s' "$extra"
}

address() {
    if [ -n "$listen" ]; then
        printf '%s' "$listen"
    elif there tailscale && ip=$(tailscale ip -4 2>/dev/null) && [ -n "$ip" ]; then
        printf '%s' "$ip:$PORT"
    else
        printf '%s' "0.0.0.0:$PORT"
    fi
}

# --- who may open the cards ---------------------------------------------------------

# Mode and group of each card's device; while there is none, as the driver will make
# them: often the first program that uses a card has that done.
card_devices() {
    parameters=$root/proc/driver/nvidia/params
    if [ -e "$root/dev/nvidiactl" ]; then
        stat -c '%a %g' "$root"/dev/nvidiactl "$root"/dev/nvidia[0-9]* 2>/dev/null || true
    elif [ -f "$parameters" ]; then
        mode=$(sed -n 's/^DeviceFileMode: //p' "$parameters")
        group=$(sed -n 's/^DeviceFileGID: //p' "$parameters")
        printf '%o %s\n' "${mode:-438}" "${group:-0}"
    fi
}

# Groups without which they stay closed, by number; none where everybody may open them.
card_groups() {
    card_devices | sort -u | while read -r mode group; do
        case $mode in
            *[67]) ;;
            *[67]?) [ "$group" = 0 ] && root_only || printf '%s\n' "$group" ;;
            *) root_only ;;
        esac
    done | sort -u
}

root_only() {
    say 'only root may open the cards here; see NVreg_DeviceFileMode and _GID of NVIDIA' >&2
}

# --- on another machine -----------------------------------------------------------

quoted() {
    for word in "$@"; do
        printf "'%s' " "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
    done
}

# The folder goes through ssh's stdin; nothing of it stays there but what was installed.
on_other_machine() {
    # shellcheck disable=SC2029 # the arguments are known here, and quoted for there
    tar -C "$HERE/.." -czf - --exclude='__pycache__' exporters |
        ssh "$to" "set -e
            dir=\$(mktemp -d)
            trap 'rm -rf \"\$dir\"' EXIT
            tar -xzf - -C \"\$dir\"
            as=; [ \"\$(id -u)\" = 0 ] || as='sudo -n'
            \$as sh \"\$dir/exporters/install.sh\" $(quoted "$@")"
}

without_to() {
    skip=''
    for word in "$@"; do
        shift
        if [ -n "$skip" ]; then
            skip=''
        elif [ "$word" = --to ]; then
            skip=yes
        else
            set -- "$@" "$word"
        fi
    done
    on_other_machine "$@"
}

# --- systemd ----------------------------------------------------------------------

changed=''

# Write stdin to a file unless it says that already.
put() {
    mkdir -p "$(dirname "$root$1")"
    cat >"$root$1.new"
    if cmp -s "$root$1.new" "$root$1"; then
        rm "$root$1.new"
    else
        chmod 0644 "$root$1.new"
        mv "$root$1.new" "$root$1"
        changed=yes
    fi
}

# One in somebody's home is of no use: the service cannot see homes.
python() {
    for each in python3.14 python3.13 python3.12 python3.11 python3; do
        "$each" - "$root" 2>/dev/null <<'PYTHON' || continue
import sys
home = sys.base_prefix.startswith(("/home/", "/root/", "/Users/"))
sys.exit(sys.version_info < (3, 11) or (home and not sys.argv[1]))
PYTHON
        command -v "$each"
        return
    done
    fail 'needs Python 3.11 or newer, not in a home (or Docker: --way container)'
}

put_environment() {
    venv=$root$HOME_DIR/venv
    if cmp -s "$HERE/requirements.lock" "$venv/requirements.lock" &&
        "$venv/bin/python" -c '' 2>/dev/null; then
        return
    fi
    say 'installing packages'
    interpreter=$(python)
    rm -rf "$venv"
    mkdir -p "$root$HOME_DIR"
    "$interpreter" -m venv "$venv" ||
        fail "$interpreter cannot make an environment (Debian, Ubuntu: apt install python3-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement "$HERE/requirements.lock"
    # Last: with it the environment counts as whole.
    cp "$HERE/requirements.lock" "$venv/requirements.lock"
    changed=yes
}

put_code() {
    app=$root$HOME_DIR/exporters
    rm -rf "$app.new"
    cp -R "$HERE" "$app.new"
    find "$app.new" -name __pycache__ -prune -exec rm -rf {} +
    if diff -qrx __pycache__ "$app.new" "$app" >/dev/null 2>&1; then
        rm -rf "$app.new"
        return
    fi
    rm -rf "$app"
    mv "$app.new" "$app"
    chmod -R u=rwX,go=rX "$app"
    changed=yes
}

# Ollama's own service may listen elsewhere; the exporter reads OLLAMA_HOST as it does.
ollama_host() {
    [ -z "$root" ] && there systemctl || return 0
    systemctl show --property=Environment --value ollama.service 2>/dev/null |
        tr ' ' '\n' | sed -n 's/^"\{0,1\}\(OLLAMA_HOST=[A-Za-z0-9_.:/[\]-]*\).*/\1/p'
}

put_settings() {
    if [ -z "$given" ] && [ -f "$root$SETTINGS" ]; then
        return # what was chosen before
    fi
    put "$SETTINGS" <<TEXT
# Flags of \`python -m exporters\`. Kept when the installer runs again without flags.
INFEROPS_EXPORTER_FLAGS="$(flags)"
$(ollama_host)
TEXT
}

# Names of these groups: systemd starts nothing with one that does not exist.
named_groups() {
    for group in $(card_groups); do
        if entry=$(getent group "$group"); then
            printf '%s ' "${entry%%:*}"
        else
            say "the cards here are of group $group, which has no name: give it one" >&2
        fi
    done
}

# The unit as it is for this machine.
unit() {
    groups=$(named_groups)
    sed -e "s/inferops-exporter/$NAME/g" \
        -e "${groups:+s/^#SupplementaryGroups=.*/SupplementaryGroups=${groups% }/}" \
        "$HERE/$SERVICE"
}

install_systemd() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail 'needs root: sudo, or --way pipx'
    umask 022
    put_environment
    put_code
    put_settings
    put "$UNIT" <<TEXT
$(unit)
TEXT
    if [ -n "$root" ]; then
        say "written below $root"
        return
    fi
    systemctl daemon-reload
    systemctl enable --quiet "$NAME"
    if [ -n "$changed" ]; then
        systemctl restart "$NAME"
    else
        systemctl start "$NAME"
        say 'nothing has changed'
    fi
    answers "$root$HOME_DIR/venv/bin/python" ||
        fail "it does not answer; see: journalctl -u $NAME"
}

remove_systemd() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail 'needs root'
    if [ -z "$root" ] && [ -f "$UNIT" ]; then
        systemctl disable --now --quiet "$NAME" || true
    fi
    rm -rf "$root$HOME_DIR" "$root$UNIT" "$root$SETTINGS"
    [ -n "$root" ] || systemctl daemon-reload
}

# Ask where it was told to listen, for as long as a start may take.
answers() {
    where=$(sed -n 's/.*--listen=\([^ "]*\).*/\1/p' "$SETTINGS")
    where=$(printf '%s' "$where" | sed 's/^0\.0\.0\.0:/127.0.0.1:/; s/^\[::\]:/[::1]:/')
    "$1" - "http://$where/healthz" <<'PYTHON'
import sys, time, urllib.request
end = time.monotonic() + 20
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=2)
        sys.exit(0)
    except OSError:
        if time.monotonic() > end:
            sys.exit(1)
        time.sleep(0.2)
PYTHON
}

# --- container --------------------------------------------------------------------

install_container() {
    there docker || fail 'needs docker'
    docker build --quiet --tag "$NAME" "$HERE" >/dev/null
    docker rm --force "$NAME" >/dev/null 2>&1 || true
    set -- --detach --name "$NAME" --restart unless-stopped --read-only \
        --cap-drop ALL --security-opt no-new-privileges --memory 256m --pids-limit 128
    if [ "$(uname)" = Linux ]; then
        set -- "$@" --network host # Ollama listens on loopback
    else
        [ -n "$ollama_url" ] || ollama_url=http://host.docker.internal:11434
        set -- "$@" --publish "${listen:-0.0.0.0:$PORT}:$PORT"
        listen=0.0.0.0:$PORT
    fi
    if docker info --format '{{json .Runtimes}}' | grep -q nvidia; then
        set -- "$@" --gpus all --env NVIDIA_DRIVER_CAPABILITIES=utility
        for group in $(card_groups); do
            set -- "$@" --group-add "$group"
        done
    fi
    # shellcheck disable=SC2046 # flags were checked: they hold no space to keep
    docker run "$@" "$NAME" $(flags) >/dev/null
}

remove_container() {
    there docker || return 0
    docker rm --force "$NAME" >/dev/null 2>&1 || true
    docker image rm "$NAME" >/dev/null 2>&1 || true
}

# --- pipx -------------------------------------------------------------------------

install_pipx() {
    there pipx || fail 'needs pipx (https://pipx.pypa.io)'
    copy=$(mktemp -d) # building writes beside the sources
    trap 'rm -rf "$copy"' EXIT
    cp -R "$HERE" "$copy/exporters"
    pipx install --force "$copy/exporters"
    say "start it with: $NAME $(flags)"
}

remove_pipx() {
    there pipx || return 0
    pipx uninstall "$NAME" >/dev/null 2>&1 || true
}

# --- which ------------------------------------------------------------------------

choose() {
    if [ -n "$root" ] || { [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]; }; then
        echo systemd
    elif there docker && docker info >/dev/null 2>&1; then
        echo container
    elif there pipx; then
        echo pipx
    else
        fail 'needs systemd and root, or docker, or pipx'
    fi
}

main() {
    read_arguments "$@"
    check
    if [ -n "$to" ]; then
        without_to "$@"
        return
    fi
    if [ "$action" = remove ] && [ -z "$way" ]; then
        [ -n "$root" ] || { remove_container && remove_pipx; }
        if [ -n "$root" ] || [ -f "$UNIT" ]; then remove_systemd; fi
    else
        [ -n "$way" ] || way=$(choose)
        "${action}_$way"
    fi
    if [ "$action" = remove ]; then
        say 'removed'
    elif [ -z "$root" ] && [ "$way" != pipx ]; then
        say "serves Prometheus at $(address); add this machine to prometheus/targets/nodes.yml"
    fi
}

main "$@"
