# A file past 1 TiB, and 100,000 entries in one directory while others come and go.
set -e
cd "$MNT"
truncate -s 3T big && printf 'at two TiB' | dd of=big bs=1 seek=2199023255552 conv=notrunc status=none && sync big
test "$(dd if=big bs=1 skip=2199023255552 count=10 status=none)" = 'at two TiB'
test "$(stat -c %s big)" = 3298534883328
test "$(dd if=big bs=1M skip=1048576 count=1 status=none | tr -d '\0' | wc -c)" = 0
rm big
python3 - <<'PYTHON'
import os, threading
os.mkdir('many')
entries, threads = 100_000, 16
def make(part):
    for number in range(part, entries, threads):
        os.close(os.open(f'many/{number:06d}', os.O_CREAT | os.O_WRONLY, 0o644))
workers = [threading.Thread(target=make, args=(part,)) for part in range(threads)]
[worker.start() for worker in workers]; [worker.join() for worker in workers]
assert sorted(os.listdir('many')) == [f'{number:06d}' for number in range(entries)]
seen = set()
with os.scandir('many') as listing:
    for count, entry in enumerate(listing):
        assert entry.name not in seen, entry.name
        seen.add(entry.name)
        if count % 20 == 0 and int(entry.name) < 50_000: os.unlink(entry.path)
        if count % 50 == 0: os.close(os.open(f'many/new-{count}', os.O_CREAT | os.O_WRONLY))
missing = [number for number in range(50_000, entries) if f'{number:06d}' not in seen]
assert not missing, missing[:10]
PYTHON
rm -r many
