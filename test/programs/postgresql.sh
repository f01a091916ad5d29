# PostgreSQL of Debian: initdb as an ordinary user, pgbench, kill -9 of everything in the middle, recovery.
set -e
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
id postgres > /dev/null
mkdir "$MNT/pg" "$WORK/socket" && chown postgres "$MNT/pg" "$WORK/socket"
as() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
cd "$MNT/pg"
as "$bin/initdb" -D "$MNT/pg/data" --data-checksums -A trust > "$WORK/initdb.log" 2>&1 || { cat "$WORK/initdb.log"; exit 1; }
export PGHOST=$WORK/socket
start() {
  as "$bin/pg_ctl" -D "$MNT/pg/data" -w -t 120 -l "$MNT/pg/log" -o "-c listen_addresses= -c unix_socket_directories=$WORK/socket -c shared_buffers=16MB" start > /dev/null ||
    { tail -30 "$MNT/pg/log"; exit 1; }
}
start
trap 'as "$bin/pg_ctl" -D "$MNT/pg/data" -m immediate stop > /dev/null 2>&1 || true' EXIT
as "$bin/createdb" bench && as "$bin/pgbench" -q -i -s 2 bench > /dev/null 2>&1
for round in 1 2; do
  as "$bin/pgbench" -n -c 4 -j 2 -T 30 bench > "$WORK/pgbench.log" 2>&1 &
  sleep 6
  postmaster=$(head -1 "$MNT/pg/data/postmaster.pid")
  children=$(pgrep -P "$postmaster" || true)
  kill -9 "$postmaster" $children
  wait || true
  for process in $postmaster $children; do
    while grep -q '^State:.[^Z]' "/proc/$process/status" 2>/dev/null; do sleep 0.1; done
  done
  # Where nobody waits for orphans, as in many a container, its number stays taken, and it would seem to live.
  if [ -e "/proc/$postmaster" ]; then rm -f "$MNT/pg/data/postmaster.pid" "$WORK"/socket/.s.*.lock; fi
  start
  sums=$(as "$bin/psql" -At -F ' ' bench -c "select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches), (select sum(tbalance) from pgbench_tellers), (select coalesce(sum(delta), 0) from pgbench_history)")
  set -- $sums
  test "$1" = "$2" && test "$2" = "$3" && test "$3" = "$4" || { echo "after the crash the sums differ: $sums"; exit 1; }
done
as "$bin/psql" -At bench -c 'select count(*) from pgbench_history' | { read -r count; test "$count" -gt 0; echo "$count transactions"; }
as "$bin/vacuumdb" -q --all
as "$bin/pg_ctl" -D "$MNT/pg/data" -w stop > /dev/null
as "$bin/pg_checksums" --check -D "$MNT/pg/data" | grep -q 'Bad checksums: *0'
