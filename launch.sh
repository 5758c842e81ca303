#!/usr/bin/env bash
# Set up the environment if it is not there yet, then `relight run "$@"`; without arguments, the example that ships.
#
#   ./launch.sh                                  the example
#   ./launch.sh configs/digits.yaml train.lr=0.1 what `relight run` takes
#   ./launch.sh --with EXTRAS COMMAND [ARGS]     another command, in an environment that has these optional groups
#
# RELIGHT_VENV names an existing virtual environment to use instead of .venv; what it has installed is kept.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
venv=${RELIGHT_VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv
stamp=$venv/relight-setup

say() { echo "launch.sh: $*" >&2; }
fail() { say "$@"; exit 78; }

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        # Asking for the version is not enough: a pyenv shim exists without a Python behind it.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer on PATH. Install one (Debian, Ubuntu: apt-get install python3 python3-venv)," \
        "or name an existing virtual environment in RELIGHT_VENV."
}

create_venv() {
    local python
    if [[ -n ${RELIGHT_VENV:-} ]]; then
        [[ -x $venv/bin/python ]] || fail "RELIGHT_VENV=$venv has no bin/python. Name an existing virtual environment," \
            "or unset RELIGHT_VENV to have one made in $root/.venv."
    elif ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        "$python" -m venv --clear "$venv"
    fi
}

# One line per set of optional groups that was installed from exactly these files at exactly this place.
fingerprint() { { echo "$root"; cat "$root/pyproject.toml" "$root/constraints.txt"; } | sha256sum | cut -c 1-64; }
is_ready() { [[ -x $venv/bin/python && -x $venv/bin/relight ]] && grep -qsxF "$(fingerprint) $1" "$stamp"; }

install() {
    local options=(--disable-pip-version-check) ready
    # In an environment that is not ours its owner chose the versions: pip adds what is missing and keeps the rest.
    [[ -n ${RELIGHT_VENV:-} ]] || options+=(--constraint "$root/constraints.txt")
    [[ -t 2 ]] || options+=(--quiet)
    create_venv
    say "installing into $venv (once; PyTorch is a large download, allow it some minutes)"
    # Silent about warnings: setuptools has some for its own developers only.
    PYTHONWARNINGS=ignore "$venv/bin/python" -m pip install "${options[@]}" --editable "${root}[$1]" >&2
    ready=$(grep -s "^$(fingerprint) " "$stamp" || true)
    printf '%s\n' "$ready" "$(fingerprint) $1" | sed '/^$/d' >"$stamp"
}

set_up() {
    is_ready "$1" && return
    mkdir -p "$root/.cache"
    # On a cluster several hosts may start this at once on one shared directory.
    (flock 9 && { is_ready "$1" || install "$1"; }) 9>"$root/.cache/setup.lock"
}

extras=examples
command=(relight run "$@")
if [[ ${1:-} == --with ]]; then
    [[ $# -ge 3 ]] || fail "--with needs the optional groups and a command: --with dev pytest"
    extras=$2
    command=("${@:3}")
elif [[ $# -eq 0 ]]; then
    command+=("$root/configs/digits.yaml")
fi
set_up "$extras"
export VIRTUAL_ENV=$venv PATH="$venv/bin:$PATH"
exec "${command[@]}"
