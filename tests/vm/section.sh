# What every section of a test script begins with. A section runs in a shell of its own (-e, -x) and prints its
# findings as lines `NAME: VALUE`; the test reads them. A pod's last Pod object is in /tmp/NAME.json, everything
# else that peapod and the containers print in /tmp/NAME.log.

cgroups=/sys/fs/cgroup/peapod
started=

# The section's processes end with it; a failed one shows what its pods said.
trap 'code=$?; kill -9 $started 2>/dev/null || true; [ $code = 0 ] || cat /tmp/*.log; rm -f /tmp/*.log; exit $code' EXIT
trap 'exit 124' TERM

# fact NAME VALUE
fact() { printf '%s: %s\n' "$1" "$2"; }

# await COMMAND: repeats it until it succeeds, within half a minute.
await() { timeout 30 sh -c "until $1; do sleep 0.02; done"; }

# start NAME < MANIFEST: a pod in the background; its supervisor is $supervisor.
start() {
    cat > "/tmp/$1.yaml"
    peapod run "/tmp/$1.yaml" -o json > "/tmp/$1.json" 2> "/tmp/$1.log" &
    supervisor=$!
    started="$started $supervisor"
}

# await_line NAME TEXT: until the pod has said that.
await_line() { await "grep -qF '$2' /tmp/$1.log || { kill -0 $supervisor 2>/dev/null || exit 1; false; }"; }

# ended: the exit code of the pod in the background.
ended() {
    code=0
    wait "$supervisor" || code=$?
    fact 'exit code' $code
}

# pod NAME < MANIFEST: a pod from its start to its end.
pod() {
    start "$1"
    ended
}

# show NAME: the pod's last object on one line.
show() { fact pod "$(tr -d '\n' < "/tmp/$1.json")"; }

# ask NAME TEXT: the answer of the pod's echo server.
ask() {
    address=$(sed -n 's/.* address  *//p' "/tmp/$1.log")
    fact answer "$(echo "$2" | nc -w 20 "$address" 8080)"
}

# How often a rule masquerades: there is no nft here to show the rules.
masquerades() { awk '$1 == "nft_masq" { print $3 }' /proc/modules; }

# Fails when anything of any pod is left on this machine.
nothing_left() {
    left=$(
        ls -d $cgroups /sys/class/net/pea* /run/peapod/pods/* /run/peapod/net/leases/* /var/lib/peapod/pods/* 2>/dev/null
        ip route | grep pea
        grep /var/lib/peapod /proc/mounts
        masquerades | grep -v '^0$'
        pidof peapod
    ) || true
    fact left "$left"
    [ -z "$left" ]
}
