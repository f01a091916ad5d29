# Every journal mode; in those that promise it, a writer is killed in the middle and the database is whole after it.
set -e
cd "$MNT"
for mode in delete truncate persist wal memory off; do
  database=$mode.db
  sqlite3 "$database" "pragma journal_mode=$mode; create table t(a integer primary key, b blob, c);" > /dev/null
  {
    echo "pragma journal_mode=$mode; pragma cache_size=50;"
    for n in $(seq 400); do
      echo "begin; insert into t(b, c) select randomblob(900), $n from (values (1),(2),(3),(4),(5)); update t set b=randomblob(500) where a % 7 = $n % 7; commit;"
    done
  } > "$WORK/$mode.sql"
  if [ $mode = memory ] || [ $mode = off ]; then
    sqlite3 "$database" < "$WORK/$mode.sql" > /dev/null
  else
    for pause in 0.3 0.7 1.1; do
      sqlite3 "$database" < "$WORK/$mode.sql" > /dev/null &
      writer=$!
      sleep $pause
      kill -9 $writer 2>/dev/null || true
      wait $writer 2>/dev/null || true
      test "$(sqlite3 "$database" 'pragma integrity_check')" = ok || { echo "$mode: damaged after kill -9"; exit 1; }
      # A transaction is whole or not there.
      test "$(sqlite3 "$database" 'select count(*) % 5 from t')" = 0 || { echo "$mode: half a transaction"; exit 1; }
    done
  fi
  test "$(sqlite3 "$database" 'pragma integrity_check')" = ok
  sqlite3 "$database" 'vacuum; pragma integrity_check' | grep -qx ok
done
