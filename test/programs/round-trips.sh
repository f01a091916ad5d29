# cp -a, tar and rsync, in and out: everything is as it was.
set -e
tree=$WORK/tree
mkdir "$tree" && cd "$tree"
find /usr/include /usr/share/doc -type f | LC_ALL=C sort | awk 'NR % 5 == 0' | head -1500 | tar cf - -T - 2>/dev/null | tar xf -
ln -s usr to-a-directory; ln -s nowhere dangling; mkfifo fifo; mkdir -m 1777 sticky; mkdir -m 2750 setgid
echo x > $'odd\nname'; echo y > 'a b'; chmod 6755 'a b'; ln 'a b' link; chown 1234:4321 'a b'
setfattr -n user.colour -v blue 'a b'; # Of a file: the ACL of a directory tar(1) loses on ext4 too.
echo z > acl; setfacl -m u:1234:rw,g:77:r acl
touch -d '1969-07-20 20:17:40.123456789 UTC' old; touch -d '2040-01-01 00:00:00.5 UTC' new
truncate -s 20M sparse; printf end | dd of=sparse bs=1 seek=15000000 conv=notrunc status=none
describe() {
  (cd "$1" && find . -printf '%P|%y|%m|%U|%G|%T@|%l|%n|%s\n' | sed 's/|\([^|]*\)|[0-9]*$/|\1|&/; /|d|/s/|[^|]*|[^|]*$//' | LC_ALL=C sort
    find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -n -p
    find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfattr -d -m user.
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}
describe "$tree" > "$WORK/expected"
check() { describe "$1" > "$WORK/found"; cmp "$WORK/expected" "$WORK/found" || { diff "$WORK/expected" "$WORK/found" | head -20; exit 1; }; }
cp -a "$tree" "$MNT/cp" && check "$MNT/cp"
cp -a "$MNT/cp" "$MNT/cp-within" && check "$MNT/cp-within"
cp -a "$MNT/cp-within" "$WORK/cp-out" && check "$WORK/cp-out"
mkdir "$MNT/tar" && tar --xattrs --acls -C "$tree" -cf - . | tar --xattrs --acls -C "$MNT/tar" -xpf - && check "$MNT/tar"
tar --xattrs --acls -C "$MNT/tar" -cf "$WORK/out.tar" . && tar --xattrs --acls -C "$tree" -df "$WORK/out.tar"
rsync -aHAXS "$tree/" "$MNT/rsync/" && check "$MNT/rsync"
test -z "$(rsync -aHAXSc --itemize-changes "$tree/" "$MNT/rsync/")"
rm -r "$MNT/cp" "$MNT/cp-within" "$MNT/tar" "$MNT/rsync"
