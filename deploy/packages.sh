# What a machine needs beside the Rust toolchain, and how it gets it. For bash.
#
# Sourced by deploy/up and tests/run, which call `provide`. Promises: says what it will install
# before it does, shows the very command it runs, starts no system database, and ends the script
# when something is missing that it cannot install.

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
    local command=${steps[0]} step
    for step in "${steps[@]:1}"; do command+=" && $step"; done
    echo "$command"
}

# Runs a command line as root: as who we are, or through sudo.
as_root() {
    if ((EUID == 0)); then
        DEBIAN_FRONTEND=noninteractive bash -c "$1"
    else
        sudo DEBIAN_FRONTEND=noninteractive bash -c "$1"
    fi
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
    echo "This will install ${linker:+$linker }${linker:+${server:+and }}$server:"
    echo "    $command"
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        fail "neither root nor sudo: run the command above as root, then start again"
    fi
    as_root "$command"

    command -v cc >/dev/null || fail "there is still no C linker"
    major=$(postgres_major)
    ((major >= postgres_major_min)) ||
        fail "this system's packages have PostgreSQL $major, $postgres_major_min or newer is needed: see https://www.postgresql.org/download/linux/"
}
