# What a machine needs beside the Rust toolchain, and how it gets it. For bash.
#
# Sourced by deploy/up and tests/run, which call `provide`, and `provide_more` for what only some
# need. Promises: says what it will install before it does, shows the very command it runs,
# starts no system service, and ends the script when something is missing that it cannot install.

postgres_major_min=15

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The newest major version of an installed PostgreSQL server; 0 when there is none.
postgres_major() {
    local newest=0 folder major
    for folder in ${PATH//:/ } /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
        [[ -x $folder/initdb && -x $folder/postgres ]] || continue
        major=$("$folder/postgres" --version | sed -E 's/.*\) ([0-9]+).*/\1/')
        ((major > newest)) && newest=$major
    done
    echo "$newest"
}

# Steps as one command line.
joined() {
    local all
    printf -v all ' && %s' "$@"
    echo "${all# && }"
}

# The command that installs what `$1` (linker) and `$2` (server) name, on this system.
install_command() {
    local linker=$1 server=$2 packages=() steps=()
    if command -v apt-get >/dev/null; then
        # Without the setting, Debian's server package makes and starts a cluster of its own.
        steps+=("apt-get update")
        [[ -n $linker ]] && packages+=(gcc libc6-dev)
        [[ -n $server ]] && packages+=(postgresql-common)
        steps+=("apt-get install -y --no-install-recommends ${packages[*]}")
        if [[ -n $server ]]; then
            steps+=("sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf")
            steps+=("apt-get install -y --no-install-recommends \$(apt-cache depends postgresql | grep -oE 'postgresql-[0-9]+' | head -n 1)")
        fi
    elif command -v dnf >/dev/null; then
        [[ -n $linker ]] && packages+=(gcc)
        [[ -n $server ]] && packages+=(postgresql-server postgresql-contrib)
        steps+=("dnf install -y ${packages[*]}")
    else
        return 1
    fi
    joined "${steps[@]}"
}

# Runs a command line as root: as who we are, or through sudo.
as_root() {
    if ((EUID == 0)); then
        DEBIAN_FRONTEND=noninteractive bash -c "$1"
    else
        sudo DEBIAN_FRONTEND=noninteractive bash -c "$1"
    fi
}

# Says that it will install `$1` and runs the command `$2` for that.
install() {
    echo "This will install $1:"
    echo "    $2"
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        fail "neither root nor sudo: run the command above as root, then start again"
    fi
    as_root "$2"
}

# Sees to cargo, a C linker and a PostgreSQL server.
provide() {
    command -v cargo >/dev/null || fail "no Rust toolchain: install one from https://rustup.rs"
    local linker='' server='' major command
    command -v cc >/dev/null || linker='a C linker'
    major=$(postgres_major)
    ((major >= postgres_major_min)) || server="a PostgreSQL server"
    [[ -n $linker$server ]] || return 0

    ((major == 0)) || echo "PostgreSQL $major is installed, $postgres_major_min or newer is needed."
    command=$(install_command "$linker" "$server") ||
        fail "install ${linker:+$linker, }${server:+$server $postgres_major_min or newer}: this system has neither apt-get nor dnf"
    install "${linker:+$linker }${linker:+${server:+and }}$server" "$command"

    command -v cc >/dev/null || fail "there is still no C linker"
    major=$(postgres_major)
    ((major >= postgres_major_min)) ||
        fail "this system's packages have PostgreSQL $major, $postgres_major_min or newer is needed: see https://www.postgresql.org/download/linux/"
}

# Debian's Python comes without its venv.
has_python() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# It is where only root has it in PATH.
has_pgbouncer() { PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null; }

has_prometheus() { command -v prometheus && command -v promtool; } >/dev/null

has_wrk() { command -v wrk >/dev/null; }

has_valgrind() { command -v valgrind >/dev/null; }

has_strace() { command -v strace >/dev/null; }

has_slowhttptest() { command -v slowhttptest >/dev/null; }

has_tmux() { command -v tmux >/dev/null; }

has_iproute() { PATH=$PATH:/usr/sbin:/sbin command -v ip >/dev/null; }

# Where only root has it in PATH, too.
has_haproxy() { PATH=$PATH:/usr/sbin command -v haproxy >/dev/null; }

# Its engine, docker-compose as a program of its own, and what the tests' lines of a console call.
has_docker() {
    local program
    for program in dockerd docker docker-compose ip curl openssl; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" || return 1
    done
} >/dev/null

# Whatever its package calls it.
has_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null

# It is where only root has it in PATH.
has_debootstrap() { PATH=$PATH:/usr/sbin command -v debootstrap >/dev/null; }

# With ip(8), since what boots has a network of its own.
has_nspawn() { PATH=$PATH:/usr/sbin command -v systemd-nspawn && PATH=$PATH:/usr/sbin command -v ip; } >/dev/null

# Whether `$1` is one of what `provide_more` was asked for, and is not there.
lacks() { [[ " ${wanted[*]} " == *" $1 "* ]] && ! "has_$1"; }

# What `provide_more` does not find, in words.
missing_more() {
    local missing=''
    ! lacks python || missing+=', Python 3 with venv'
    ! lacks pgbouncer || missing+=', pgbouncer'
    ! lacks prometheus || missing+=', Prometheus with promtool'
    ! lacks wrk || missing+=', wrk'
    ! lacks valgrind || missing+=', valgrind'
    ! lacks strace || missing+=', strace'
    ! lacks slowhttptest || missing+=', slowhttptest'
    ! lacks tmux || missing+=', tmux'
    ! lacks iproute || missing+=', ip of iproute2'
    ! lacks haproxy || missing+=', HAProxy'
    ! lacks docker || missing+=', Docker Engine with docker-compose'
    ! lacks debootstrap || missing+=', debootstrap'
    ! lacks nspawn || missing+=', systemd-nspawn with iproute2'
    ! lacks chromium || missing+=', Chromium'
    echo "${missing#, }"
}

# The command that installs what is missing of `provide_more`, on this system.
install_more_command() {
    local packages=() options=() steps=() apt='apt-get install -y --no-install-recommends'
    if command -v apt-get >/dev/null; then
        steps=("apt-get update")
        ! lacks python || packages+=(python3-venv)
        # Debian's packages start services, now and with each boot; without its files it cannot.
        if lacks pgbouncer; then
            packages+=(pgbouncer)
            options+=(-o "DPkg::Options::=--path-exclude='*/pgbouncer.service'"
                -o "DPkg::Options::=--path-exclude='/etc/init.d/pgbouncer'")
        fi
        if lacks prometheus; then
            packages+=(prometheus)
            options+=(-o "DPkg::Options::=--path-exclude='*/prometheus.service'"
                -o "DPkg::Options::=--path-exclude='/etc/init.d/prometheus'")
        fi
        if lacks haproxy; then
            packages+=(haproxy)
            options+=(-o "DPkg::Options::=--path-exclude='*/haproxy.service'"
                -o "DPkg::Options::=--path-exclude='/etc/init.d/haproxy'")
        fi
        ! lacks iproute || packages+=(iproute2)
        ! lacks wrk || packages+=(wrk)
        ! lacks valgrind || packages+=(valgrind)
        ! lacks strace || packages+=(strace)
        ! lacks slowhttptest || packages+=(slowhttptest)
        ! lacks tmux || packages+=(tmux)
        if lacks docker; then
            # Docker's own packages are in the way of Debian's, and as good.
            PATH=$PATH:/usr/sbin command -v dockerd >/dev/null || packages+=(docker.io)
            packages+=(docker-compose iproute2 curl openssl)
            options+=(-o "DPkg::Options::=--path-exclude='*/docker.service'"
                -o "DPkg::Options::=--path-exclude='*/docker.socket'"
                -o "DPkg::Options::=--path-exclude='*/containerd.service'"
                -o "DPkg::Options::=--path-exclude='/etc/init.d/docker'")
        fi
        # It checks Debian's signature by the keyring, wherever it runs.
        ! lacks debootstrap || packages+=(debootstrap debian-archive-keyring)
        ! lacks nspawn || packages+=(systemd-container iproute2)
        ((${#packages[@]} == 0)) || steps+=("$apt ${options[*]:+${options[*]} }${packages[*]}")
        # Last and by itself: Ubuntu has it as a snap only.
        ! lacks chromium || steps+=("$apt chromium")
    elif command -v dnf >/dev/null; then
        ! lacks python || packages+=(python3)
        ! lacks pgbouncer || packages+=(pgbouncer)
        ! lacks prometheus || packages+=(golang-github-prometheus)
        ! lacks chromium || packages+=(chromium)
        ! lacks wrk || packages+=(wrk)
        ! lacks valgrind || packages+=(valgrind)
        ! lacks strace || packages+=(strace)
        ! lacks slowhttptest || packages+=(slowhttptest)
        ! lacks tmux || packages+=(tmux)
        ! lacks iproute || packages+=(iproute)
        ! lacks haproxy || packages+=(haproxy)
        ! lacks docker || packages+=(moby-engine docker-compose iproute curl openssl)
        ! lacks debootstrap || packages+=(debootstrap debian-keyring)
        ! lacks nspawn || packages+=(systemd-container iproute)
        steps=("dnf install -y --skip-unavailable ${packages[*]}")
    else
        return 1
    fi
    joined "${steps[@]}"
}

# Sees to what its arguments name: python (3, with venv), pgbouncer, prometheus, wrk, valgrind, strace,
# slowhttptest, tmux, iproute, haproxy, docker (its engine), debootstrap, nspawn, chromium (or Chrome).
provide_more() {
    local wanted=("$@") missing command
    missing=$(missing_more)
    [[ -n $missing ]] || return 0
    command=$(install_more_command) || fail "install $missing: this system has neither apt-get nor dnf"
    # What its packages do not have, it has told by then; the rest is there.
    install "$missing" "$command" || true
    missing=$(missing_more)
    [[ -z $missing ]] || fail "still missing: $missing. This system's packages lack it: install it by hand, then start again"
}

# A virtual environment in the folder `$1` with what the requirement files behind it name, kept from run
# to run. Its mark is written last: a run that was killed has left none, and the next one begins anew.
make_venv() {
    local folder=$1 lock
    shift
    mkdir -p "$folder" && exec {lock}>"$folder.lock" && flock "$lock" || return 1
    if ! "$folder/bin/python" --version >/dev/null 2>&1 || ! cat "$@" | cmp -s - "$folder/made-for"; then
        rm -f "$folder/made-for"
        python3 -m venv --clear "$folder" &&
            "$folder/bin/python" -m pip install --quiet --only-binary :all: "${@/#/--requirement=}" &&
            cat "$@" >"$folder/made-for" || return 1
    fi
    exec {lock}>&-
}
