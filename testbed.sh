#!/usr/bin/env bash
# The one entry to the testbed: sets up what is missing, then hands over to the command line
# (topologies/cli).  Writes only inside this checkout, except for Debian packages.
set -Eeuo pipefail
shopt -s inherit_errexit

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)
venv=$root/.venv
log=$venv/setup.log
policy=/usr/sbin/policy-rc.d
policy_mark='# made by testbed.sh for one apt-get install; safe to delete'

packages_run=(openvswitch-switch nftables mininet iperf3 vdeplug vde-wirefilter iproute2 ethtool net-tools
    tcpdump iputils-ping mount python3-venv)
packages_test=(chromium redis-server)
packages_vm=(qemu-system-x86 mmdebstrap e2fsprogs openssh-client)
interval_s=3 # how often a long step says that it is alive

fail() {
    printf 'testbed.sh: %s\n' "$*" >&2
    exit 1
}

usage_before_setup() {
    cat <<'TEXT'
Holon: a testbed of network slices with digital twins and O-RAN style xApps.
It is not set up yet. As root:
  ./testbed.sh demo           set up, run the crossroads scenario, print the table of slices
  ./testbed.sh setup          only set up: Debian packages and Python packages in .venv
  ./testbed.sh setup --all    the same with everything that `test` and `train` need (then offline)
  ./testbed.sh doctor         what this machine can do
Every command has --help once the testbed is set up.
TEXT
}

# -- what there is ------------------------------------------------------------------------------

missing_packages() { # NAME... -> those that dpkg does not list as installed
    local listed name
    listed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for name in "$@"; do
        [[ $'\n'$listed$'\n' == *$'\n'"$name installed"$'\n'* ]] || echo "$name"
    done
}

find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer; install it (Debian 12 has it as python3), then try again"
}

python_version() { # of interpreter $1, major.minor
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

stamp_of() { # PART -> hash of all that decides what is installed for it
    local requirements=$root/requirements
    {
        python_version "$venv/bin/python"
        cat "$requirements/build.txt" "$requirements/constraints.txt" "$requirements/$1.in"
    } | sha256sum | cut -d' ' -f1
}

is_ready() { # PART
    [[ -x $venv/bin/python && -f $venv/setup-$1.stamp ]] &&
        [[ $(<"$venv/setup-$1.stamp") == "$(stamp_of "$1")" ]]
}

all_ready() { # PART...
    local part
    [[ -z $(missing_packages "${packages[@]}") ]] || return 1
    for part in "$@"; do
        is_ready "$part" || return 1
    done
}

# -- long steps, with signs of life --------------------------------------------------------------

step_pid=''
step() { # TEXT COMMAND...: output to the log, progress to stderr, the log's tail on failure
    local text=$1 started=$SECONDS next=$((SECONDS + interval_s)) status=0
    shift
    printf '%s ...\n' "$text" >&2
    printf '== %s: %s\n' "$text" "$*" >>"$log"
    "$@" >>"$log" 2>&1 &
    step_pid=$!
    while kill -0 "$step_pid" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS >= next)); then
            printf '  ... %s s\n' "$((SECONDS - started))" >&2
            next=$((SECONDS + (SECONDS - started < 15 ? interval_s : 10)))
        fi
    done
    wait "$step_pid" || status=$?
    step_pid=''
    if ((status != 0)); then
        tail -n 12 "$log" | sed 's/^/  | /' >&2
        fail "$text failed (whole log: $log); $next_step"
    fi
}

interrupted() {
    # Packages are never stopped half way; pip may be.
    trap '' INT TERM HUP
    if [[ -n $step_pid ]]; then
        if [[ ${step_may_stop:-} ]]; then
            kill -- -"$step_pid" 2>/dev/null || true # setsid made it lead a group
        else
            echo 'finishing the package installation first ...' >&2
        fi
        wait "$step_pid" 2>/dev/null || true
    fi
    fail 'interrupted; run the same command again to go on with the setup'
}

# -- Debian packages -------------------------------------------------------------------------------

# Installing openvswitch-switch starts its service.  Nobody asked for that, so while apt runs
# a policy-rc.d (Debian's own way of saying "start nothing") stands in, unless the machine has one.
put_policy() {
    remove_policy
    [[ -e $policy ]] && return
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy"
    chmod 755 "$policy"
}

remove_policy() {
    if [[ -f $policy ]] && grep -qsxF "$policy_mark" "$policy"; then rm -f "$policy"; fi
}

system_switch_runs() { # the machine's own Open vSwitch, not a testbed's private one
    local pid
    pid=$(cat /run/openvswitch/ovs-vswitchd.pid 2>/dev/null) && [[ -d /proc/$pid ]]
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "${packages[@]}")
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || fail "needs root to install ${missing[*]}; run: sudo $0 ${arguments[*]}"
    command -v apt-get >/dev/null ||
        fail "needs apt-get (Debian 12 or newer, Ubuntu 24.04 or newer) to install: ${missing[*]}"
    local ran_before=no
    system_switch_runs && ran_before=yes
    local next_step='check the network and the package sources, then run the same command again'
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120)
    put_policy
    step 'reading package lists' "${apt[@]}" update
    step "installing ${missing[*]}" "${apt[@]}" install --no-install-recommends --no-upgrade \
        --no-remove "${missing[@]}"
    remove_policy
    # A machine whose own policy-rc.d allows services may have started it all the same.
    if [[ $ran_before == no ]] && system_switch_runs; then
        step 'stopping the Open vSwitch service that the package started' \
            service openvswitch-switch stop
    fi
}

# -- Python packages ---------------------------------------------------------------------------------

pip_install() { # ARGUMENT...; replaces its (sub)shell and leads a group: one signal ends all
    local options=(--disable-pip-version-check --no-input)
    # pip's cache lies outside the checkout: only when the user chose one.
    [[ ${PIP_CACHE_DIR:-} ]] || options+=(--no-cache-dir)
    exec setsid "$venv/bin/python" -m pip "${options[@]}" install "$@"
}

create_environment() {
    local python=$1
    if [[ -e $venv/pyvenv.cfg && $(python_version "$venv/bin/python") != "$(python_version "$python")" ]]
    then
        find "$venv" -mindepth 1 -maxdepth 1 ! -name setup.log -exec rm -rf -- {} +
    fi
    [[ -x $venv/bin/pip ]] || step 'creating .venv' setsid "$python" -m venv "$venv"
    # The rooms of this checkout and the xApps' SDK, wherever the checkout is moved to.
    printf '../../../..\n../../../../xapps/sdk\n' \
        >"$(echo "$venv"/lib/python*/site-packages)/holon.pth"
}

install_ryu() {
    "$venv/bin/python" -c '
import sys
from importlib.metadata import PackageNotFoundError, version
try:
    sys.exit(version("ryu") != "4.34")
except PackageNotFoundError:
    sys.exit(1)' && return
    # Its setup.py needs setuptools older than the locked one, and no build isolation.
    step 'installing what builds Ryu' pip_install -r "$root/requirements/build.txt"
    step 'installing Ryu' pip_install --no-build-isolation --no-deps ryu==4.34
}

install_python_packages() { # PART...
    local python part
    local next_step='check the network or pip.conf, then run the same command again'
    local step_may_stop=yes
    python=$(find_python)
    create_environment "$python"
    install_ryu
    for part in "$@"; do
        is_ready "$part" && continue
        step "installing Python packages ($part)" pip_install --no-build-isolation \
            -c "$root/requirements/constraints.txt" -r "$root/requirements/$part.in"
        stamp_of "$part" >"$venv/setup-$part.stamp"
    done
}

# -- together -------------------------------------------------------------------------------------

set_up() { # PART...
    all_ready "$@" && return
    [[ -w $root ]] || fail "cannot write to $root; run as root: sudo $0 ${arguments[*]}"
    exec {lock}<"$root"
    if ! flock --nonblock "$lock"; then
        echo 'waiting for another setup of this checkout to finish ...' >&2
        flock "$lock"
    fi
    trap interrupted INT TERM HUP
    trap remove_policy EXIT
    mkdir -p "$venv"
    install_packages
    install_python_packages "$@"
    trap - INT TERM HUP EXIT
    exec {lock}<&-
}

arguments=("$@")
packages=("${packages_run[@]}")
parts=(run)
case "${1:-} ${2:-}" in
    'test --help' | 'train --help') ;;
    test\ * | 'setup --all')
        packages+=("${packages_test[@]}")
        parts+=(test train)
        ;;
    train\ *) parts+=(train) ;;
    'vm --help' | 'vm ' | 'vm ssh' | 'vm down') ;;
    vm\ *)
        packages+=("${packages_vm[@]}")
        parts+=(test)
        export HOLON_PACKAGES_RUN="${packages_run[*]}" # what the machine gets, too
        ;;
    ' ' | '--help '* | '-h '*)
        if ! all_ready "${parts[@]}"; then
            usage_before_setup
            exit 0
        fi
        ;;
esac
set_up "${parts[@]}"
exec "$venv/bin/python" -P -m topologies.cli "$@"
