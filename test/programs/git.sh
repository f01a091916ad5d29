# A repository with history: cloned in, changed, packed, checked, cloned out.
set -e
git init -q --bare "$WORK/origin.git"
git init -q "$WORK/source" && cd "$WORK/source"
git config user.name somebody && git config user.email somebody@example.org
for round in 1 2 3 4 5 6; do
  find /usr/include -name '*.h' | LC_ALL=C sort | awk "NR % 6 == $round % 6" | head -150 | tar cf - -T - 2>/dev/null | tar xf -
  git add . && git commit -qm "round $round"
done
git push -q "$WORK/origin.git" HEAD:main
git clone -q -b main "$WORK/origin.git" "$MNT/clone" && cd "$MNT/clone"
git config user.name somebody && git config user.email somebody@example.org
test -z "$(git status --porcelain)"
first=$(git ls-files | head -1)
for n in $(seq 30); do echo "$n" >> "$first"; git commit -qam "change $n"; done
git checkout -q -b other HEAD~10 && echo other > file && git add file && git commit -qm other && git merge -q -m merge main
git gc -q --prune=now && git fsck --full --strict 2>&1 | { ! grep -v '^\(Checking\|notice\|dangling\)'; }
test -z "$(git status --porcelain)"
git clone -q "$MNT/clone" "$WORK/back" && git -C "$WORK/back" fsck --full
diff -r --exclude .git "$MNT/clone" "$WORK/back"
