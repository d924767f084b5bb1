# server.sh - sourced by the demo's scripts: one ascribed, started and stopped by its pid.

# server_start BUILD STORE ADDRESS LOG: returns when it is ready, with ASCRIBE_SERVER and ASCRIBE_STORE set.
server_start() {
    "$1/ascribed" --store "$2" --create --listen "$3" --memory 4G 2>"$4" &
    server_pid=$!
    until grep -q '^ready listen=' "$4"; do
        kill -0 "$server_pid" 2>/dev/null || {
            cat "$4" >&2
            exit 1
        }
        sleep 0.1
    done
    ASCRIBE_SERVER=http://$(sed -n 's/^ready listen=//p' "$4")
    ASCRIBE_STORE=$2
    export ASCRIBE_SERVER ASCRIBE_STORE
    echo "ready at $ASCRIBE_SERVER"
}

server_stop() {
    kill -TERM "$server_pid" 2>/dev/null || return 0
    wait "$server_pid"
}
