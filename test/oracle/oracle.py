"""Random operations on two directories side by side: a local one as the oracle, and one to be tested.

    oracle.py ORACLE_DIRECTORY TESTED_DIRECTORY --seed N --count C [--without NAME,...] [--second DIRECTORY]

With --second the tested directory is seen through two mounts: operations go through each in turn, what was written
is flushed, and what an operation has changed is looked at through the other one.

Each operation is done on both; what it returns or the errno it fails with, and the attributes of what it
touched, before and after, must be the same. The first difference is made small: operations are left out
of its history for as long as it stays. Exit code 1 tells of a difference. The same seed is the same history.
"""
import argparse, collections, ctypes, errno, fcntl, json, mmap, os, random, shutil, stat, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
libc.getdents64.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
AT_SYMLINK_NOFOLLOW = 0x100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
F_OFD_GETLK, F_OFD_SETLK = 36, 37
DIRECT_BYTES = 4096
OTHER = 12345
OTHER_GROUP = 23456
SLOTS = 4
MAX_OFFSET = 3_000_000
ACL_TAGS = (1, 2, 4, 16, 32)
ACLS = ['system.posix_acl_access', 'system.posix_acl_default']
KEYS = ['user.a', 'user.a', 'user.b', 'trusted.c', 'strange', 'system.unknown', *ACLS]


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Side:
    """One of the two directories, and what is open in it."""

    def __init__(self, root, second=None, is_second=False, patience=0):
        self.patience = patience
        self.roots = [os.fsencode(one) for one in (root, second) if one]
        # The tested side has two mounts.
        self.is_second = is_second
        self.turn = 0
        self.files = {}

    @property
    def root(self):
        return self.roots[self.turn % len(self.roots)]

    def path(self, name):
        return os.path.join(self.root, name.encode('latin1')) if name else self.root

    def fd(self, slot):
        if slot not in self.files:
            raise KeyError(slot)
        return self.files[slot]

    def put(self, slot, fd):
        if slot in self.files:
            os.close(self.files[slot])
        self.files[slot] = fd

    def close(self):
        for fd in self.files.values():
            os.close(fd)
        self.files.clear()


def content(length, salt):
    return random.Random(salt).randbytes(length)


# What can be done: a function of the side and the operation's arguments. What it returns is compared.
def op_open(side, slot, name, flags, mode):
    side.put(slot, os.open(side.path(name), flags, mode))


def op_tmpfile(side, slot, name, flags, mode):
    side.put(slot, os.open(side.path(name), os.O_TMPFILE | flags, mode))
    info = os.fstat(side.files[slot])
    return [oct(info.st_mode), info.st_nlink, info.st_uid, info.st_gid, info.st_size]


def op_link_open(side, slot, name):
    fd = side.fd(slot)
    # A name on the mount that it is open on.
    root = next(one for one in side.roots if os.stat(one).st_dev == os.fstat(fd).st_dev)
    path = os.path.join(root, name.encode('latin1'))
    check(libc.linkat(AT_FDCWD, b'/proc/self/fd/%d' % fd, AT_FDCWD, path, AT_SYMLINK_FOLLOW))


def op_close(side, slot):
    fd = side.fd(slot)
    del side.files[slot]
    os.close(fd)


def op_pread(side, slot, offset, length):
    return digest(os.pread(side.fd(slot), length, offset))


def op_pwrite(side, slot, offset, length, salt):
    return os.pwrite(side.fd(slot), content(length, salt), offset)


def op_write(side, slot, length, salt):
    return os.write(side.fd(slot), content(length, salt))


def op_read(side, slot, length):
    return digest(os.read(side.fd(slot), length))


def op_seek(side, slot, offset):
    if stat.S_ISDIR(os.fstat(side.fd(slot)).st_mode):
        return None
    return os.lseek(side.fd(slot), offset, os.SEEK_SET)


def op_direct(side, name, writes, offset, length, salt):
    """O_DIRECT, aligned as every local disk takes it."""
    if not stat.S_ISREG(os.lstat(side.path(name)).st_mode):
        return None
    fd = os.open(side.path(name), os.O_DIRECT | (os.O_RDWR if writes else os.O_RDONLY))
    try:
        with mmap.mmap(-1, length) as buffer:
            if not writes:
                count = os.preadv(fd, [buffer], offset)
                return digest(buffer[:count])
            buffer[:] = content(length, salt)
            return os.pwritev(fd, [buffer], offset)
    finally:
        os.close(fd)


def op_lseek_end(side, slot):
    # What the end of a directory is, each file system says in its own way.
    if stat.S_ISDIR(os.fstat(side.fd(slot)).st_mode):
        return None
    return os.lseek(side.fd(slot), 0, os.SEEK_END)


def op_read_all(side, name):
    # Never waits for the other end of a pipe.
    fd = os.open(side.path(name), os.O_RDONLY | os.O_NONBLOCK)
    with open(fd, 'rb') as file:
        return digest(file.read() or b'')


def op_fsync(side, slot):
    os.fsync(side.fd(slot))


def op_ftruncate(side, slot, size):
    os.ftruncate(side.fd(slot), size)


def op_truncate(side, name, size):
    os.truncate(side.path(name), size)


def op_fallocate(side, slot, mode, offset, length):
    check(libc.fallocate(side.fd(slot), mode, offset, length))


def op_copy_range(side, source, target, offset, to_offset, length):
    done = 0
    while done < length:
        count = os.copy_file_range(side.fd(source), side.fd(target), length - done, offset + done, to_offset + done)
        if count == 0:
            break
        done += count
    return done


def file_size(fd):
    """0 of a directory: how long one is, each file system says in its own way."""
    info = os.fstat(fd)
    return 0 if stat.S_ISDIR(info.st_mode) else info.st_size


def op_map(side, slot, offset, length, salt):
    """Stores into a shared map, within the file."""
    fd = side.fd(slot)
    size = file_size(fd)
    if size == 0:
        return None
    start = offset % size
    end = min(size, start + length)
    with mmap.mmap(fd, size) as view:
        view[start:end] = content(end - start, salt)
        view.flush()
    return end - start


def op_map_private(side, slot, offset, length, salt):
    """What is stored into a private map is in no file."""
    fd = side.fd(slot)
    size = file_size(fd)
    if size == 0:
        return None
    start = offset % size
    end = min(size, start + length)
    with mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view:
        view[start:end] = content(end - start, salt)
        return [digest(view[:]), digest(os.pread(fd, size, 0))]


def is_lockable(side, slot):
    """Of what is not a file a file system hears nothing: those are locks of each mount."""
    return not side.is_second or stat.S_ISREG(os.fstat(side.fd(slot)).st_mode)


def patiently(side, attempt):
    """
    The locks of an open file go with its last descriptor, but close(2) on a mount does not wait for that: FUSE
    tells it with RELEASE, a moment later. So who is refused on the mount tries again.
    """
    for _ in range(side.patience):
        try:
            if attempt() is not False:
                break
        except BlockingIOError:
            pass
        time.sleep(0.01)
    return attempt()


def op_flock(side, slot, how):
    if is_lockable(side, slot):
        patiently(side, lambda: fcntl.flock(side.fd(slot), how | fcntl.LOCK_NB))


def op_lock(side, slot, command, kind, start, length):
    if not is_lockable(side, slot):
        return None
    asked = struct.pack('hhqqi4x', kind, os.SEEK_SET, start, length, 0)

    def ask():
        told = fcntl.fcntl(side.fd(slot), command, asked)
        # Of several that are in the way any may be told.
        return struct.unpack('hhqqi4x', told)[0] == fcntl.F_UNLCK if command in (fcntl.F_GETLK, F_OFD_GETLK) else None

    return patiently(side, ask)


def op_data_is_there(side, slot):
    """SEEK_DATA and SEEK_HOLE agree with the content: what they call a hole is zeros."""
    fd = side.fd(slot)
    size, at, position = file_size(fd), 0, os.lseek(fd, 0, os.SEEK_CUR)
    try:
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = size
            if os.pread(fd, data - at, at).strip(b'\0'):
                return 'data in a hole'
            if data == size:
                break
            at = os.lseek(fd, data, os.SEEK_HOLE)
    finally:
        # Where it ended depends on how coarse holes are, also where the descriptor cannot be read.
        os.lseek(fd, position, os.SEEK_SET)
    return 'right'


def op_mkdir(side, name, mode):
    os.mkdir(side.path(name), mode)


def op_rmdir(side, name):
    os.rmdir(side.path(name))


def op_unlink(side, name):
    os.unlink(side.path(name))


def op_mknod(side, name, mode, device):
    os.mknod(side.path(name), mode, device)


def op_symlink(side, target, name):
    os.symlink(target, side.path(name))


def op_readlink(side, name):
    return os.readlink(side.path(name))


def op_link(side, name, new_name):
    os.link(side.path(name), side.path(new_name), follow_symlinks=False)


def op_rename(side, name, new_name, flags):
    check(libc.renameat2(AT_FDCWD, side.path(name), AT_FDCWD, side.path(new_name), flags))


def op_chmod(side, name, mode):
    os.chmod(side.path(name), mode)


def op_chown(side, name, uid, gid):
    # Of neither, by another than the owner: FUSE cannot tell it from what the kernel sends before a write.
    if uid == gid == -1 and os.geteuid() != 0:
        return
    os.chown(side.path(name), uid, gid, follow_symlinks=False)


def op_fchmod(side, slot, mode):
    os.chmod(side.fd(slot), mode)


def op_fchown(side, slot, uid, gid):
    if uid == gid == -1 and os.geteuid() != 0:
        return
    os.chown(side.fd(slot), uid, gid)


def op_futime(side, slot, atime, mtime):
    os.utime(side.fd(slot), ns=(atime, mtime))


def op_touch(side, name, atime_nsec, mtime_nsec):
    """UTIME_NOW, UTIME_OMIT, or a time."""
    times = struct.pack('qqqq', 5, atime_nsec, 7, mtime_nsec)
    check(libc.utimensat(AT_FDCWD, side.path(name), times, AT_SYMLINK_NOFOLLOW))


def op_utime(side, name, atime, mtime):
    os.utime(side.path(name), ns=(atime, mtime), follow_symlinks=False)


def op_list(side, name):
    return sorted(one.decode('latin1') for one in os.listdir(side.path(name)))


def op_list_changing(side, name, salt):
    """Reads a directory in small pieces while entries come and go: what is there all along is told, and once."""
    path, r = side.path(name), random.Random(salt)
    stable, fleeting = set(os.listdir(path)), []
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def come(number):
        os.close(os.open(b'fleeting %d' % number, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
        fleeting.append(b'fleeting %d' % number)

    try:
        for number in range(r.randrange(40)):
            come(number)
        read, seen = pieces(fd, r), collections.Counter()
        for number, piece in enumerate(read):
            seen.update(piece)
            come(100 + number)
            os.unlink(fleeting.pop(r.randrange(len(fleeting))), dir_fd=fd)
            if number == 200:
                return 'it has no end'
        os.lseek(fd, 0, os.SEEK_SET)
        again = collections.Counter(one for piece in pieces(fd, r) for one in piece)
        if again != collections.Counter([*stable, *fleeting, b'.', b'..']):
            return 'read again it is another'
        return sorted([one.decode('latin1'), seen[one]] for one in stable)
    finally:
        for one in fleeting:
            os.unlink(one, dir_fd=fd)
        os.close(fd)


def pieces(fd, r):
    """getdents64(2) with little room."""
    buffer = ctypes.create_string_buffer(4096)
    while True:
        count = check(libc.getdents64(fd, buffer, r.choice([320, 320, 640, 4096])))
        if count == 0:
            return
        names, at = [], 0
        while at < count:
            (bytes_of_one,) = struct.unpack_from('H', buffer, at + 16)
            names.append(buffer.raw[at + 19:at + bytes_of_one].split(b'\0', 1)[0])
            at += bytes_of_one
        yield names


def op_setxattr(side, name, key, length, flags):
    os.setxattr(side.path(name), key, content(length, length), flags, follow_symlinks=False)


def op_getxattr(side, name, key):
    return digest(os.getxattr(side.path(name), key, follow_symlinks=False))


def op_xattr_into(side, name, key, room):
    """ERANGE where there is too little room; 0 asks how much is needed."""
    return check(libc.lgetxattr(side.path(name), key.encode(), ctypes.create_string_buffer(room + 1), room))


def op_fsetxattr(side, slot, key, length, flags):
    os.setxattr(side.fd(slot), key, content(length, length), flags)


def op_removexattr(side, name, key):
    os.removexattr(side.path(name), key, follow_symlinks=False)


def op_listxattr(side, name):
    return sorted(os.listxattr(side.path(name), follow_symlinks=False))


def op_set_acl(side, name, key, permissions):
    value = struct.pack('<I', 2)
    for tag, bits in zip(ACL_TAGS, permissions):
        value += struct.pack('<HHI', tag, bits, OTHER if tag == 2 else 0xFFFFFFFF)
    os.setxattr(side.path(name), key, value)


def op_access(side, name, mode):
    return os.access(side.path(name), mode, effective_ids=True)


OPERATIONS = {name[3:]: function for name, function in list(globals().items()) if name.startswith('op_')}


def digest(data):
    return [len(data), hash_of(data)]


def hash_of(data):
    import zlib
    return zlib.crc32(data)


class Generator:
    """
    Histories by seed: operations with all their arguments, whatever comes of them. It remembers what would be there
    and open if each had gone well, so that most find something.
    """

    def __init__(self, seed, without, is_second):
        self.random = random.Random(seed)
        self.without = without
        self.is_second = is_second
        directories = ['', 'd0', 'd1', 'd0/e0', 'd0/e0/g']
        self.names = [f'{d}/{n}'.lstrip('/') for d in directories for n in ('f0', 'f1', 'f2', 'd0', 'd1', 'e0', 'g')]
        # Names are bytes; and there are too long ones.
        self.names += ['\xff \n\xc3', 'd0/\x01\\"*', 'd1/' + 255 * '\xe4', 'd0/' + 256 * 'l']
        self.directories = directories
        self.there, self.made, self.opened, self.last = [], [''], [], 'f0'

    def name(self):
        r = self.random
        return r.choice(self.there) if self.there and r.random() < 0.85 else r.choice(self.names)

    def new_name(self):
        r = self.random
        inside = [one for one in self.names if os.path.dirname(one) in self.made]
        return r.choice(inside) if r.random() < 0.8 else self.name()

    def place(self):
        return self.random.choice(self.directories) if self.random.random() < 0.15 else self.name()

    def directory(self):
        return self.random.choice(self.made if self.random.random() < 0.8 else self.directories)

    def expect(self, kind, arguments):
        if kind in ('open', 'tmpfile'):
            self.opened.append(arguments[0])
        if kind == 'close' and arguments[0] in self.opened:
            self.opened = [one for one in self.opened if one != arguments[0]]
        if kind in ('unlink', 'rmdir', 'rename') and arguments[0] in self.there:
            self.forget(arguments[0])
        if kind in ('mkdir', 'mknod', 'symlink', 'link', 'link_open', 'rename') or kind == 'open' and arguments[2] & os.O_CREAT:
            name = next(one for one in reversed(arguments) if isinstance(one, str))
            if name and os.path.dirname(name) in self.made and name not in self.there:
                self.there.append(name)
                if kind == 'mkdir' and name in self.directories:
                    self.made.append(name)

    def forget(self, name):
        for known in (self.there, self.made):
            known[:] = [one for one in known if one != name and not one.startswith(f'{name}/')]

    def offset(self):
        r = self.random
        chunk = 1 << 20
        return r.choice([0, r.randrange(5000), r.randrange(MAX_OFFSET), chunk, chunk - 1, 2 * chunk, chunk + r.randrange(100)])

    def length(self):
        r = self.random
        return r.choice([1, r.randrange(1, 5000), r.randrange(1, 200_000), 4096, 1 << 20, (1 << 20) + 5])

    def slot(self):
        r = self.random
        return r.choice(self.opened) if self.opened and r.random() < 0.9 else r.randrange(SLOTS)

    def mode(self):
        r = self.random
        return r.choice([0o644, 0o755, 0o700, 0o600, 0o777, 0o640, 0o000, 0o4755, 0o2755, 0o2640, 0o1777, 0o6711, r.randrange(0o10000)])

    def next(self):
        while True:
            r = self.random
            kind = r.choices([one for one, _ in WEIGHTS], [weight for _, weight in WEIGHTS])[0]
            arguments = getattr(self, 'make_' + kind)()
            as_other = r.random() < 0.2
            umask = r.choice([0o022, 0o022, 0o000, 0o077, 0o027])
            if kind not in self.without:
                self.expect(kind, arguments)
                return [kind, arguments, as_other, umask]

    def make_open(self):
        r = self.random
        flags = r.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
        for flag, share in ((os.O_CREAT, 0.6), (os.O_EXCL, 0.15), (os.O_TRUNC, 0.15), (os.O_APPEND, 0.15),
                            (os.O_NOFOLLOW, 0.1), (os.O_DIRECTORY, 0.05), (os.O_SYNC, 0.05)):
            if r.random() < share:
                flags |= flag
        # Never waits for the other end of a pipe. O_EXCL without O_CREAT is undefined.
        flags |= os.O_NONBLOCK
        if flags & os.O_DIRECTORY:
            flags &= ~os.O_CREAT
        if not flags & os.O_CREAT:
            flags &= ~os.O_EXCL
        name = self.new_name() if flags & os.O_CREAT and r.random() < 0.5 else self.place()
        # Often another descriptor of the same file.
        name = self.last = self.last if r.random() < 0.4 else name
        return [r.randrange(SLOTS), name, flags, self.mode()]

    def make_tmpfile(self):
        r = self.random
        flags = r.choice([os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR | os.O_EXCL, os.O_RDONLY])
        return [r.randrange(SLOTS), self.directory() if r.random() < 0.9 else self.place(), flags, self.mode()]

    def make_link_open(self): return [self.slot(), self.new_name()]
    def make_close(self): return [self.slot()]
    def make_pread(self): return [self.slot(), self.offset(), self.length()]
    def make_read(self): return [self.slot(), self.length()]
    def make_seek(self): return [self.slot(), self.offset()]

    def make_direct(self):
        r = self.random
        return [self.name(), r.random() < 0.6, r.randrange(600) * DIRECT_BYTES, r.choice([1, 3, 64, 300]) * DIRECT_BYTES, r.randrange(1 << 30)]

    def make_map_private(self): return self.make_map()
    def make_flock(self): return [self.slot(), self.random.choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN])]

    def make_lock(self):
        r = self.random
        # A process has none that its own would wait for: another mount takes it for another process.
        commands = [F_OFD_SETLK, F_OFD_SETLK, F_OFD_GETLK] + [fcntl.F_SETLK, fcntl.F_GETLK] * (not self.is_second)
        kind = r.choice([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK])
        return [self.slot(), r.choice(commands), kind, r.choice([0, 0, r.randrange(20)]), r.choice([0, 0, 1, r.randrange(20)])]

    def make_pwrite(self): return [self.slot(), self.offset(), self.length(), self.random.randrange(1 << 30)]
    def make_write(self): return [self.slot(), self.length(), self.random.randrange(1 << 30)]
    def make_lseek_end(self): return [self.slot()]
    def make_read_all(self): return [self.name()]
    def make_fsync(self): return [self.slot()]
    def make_ftruncate(self): return [self.slot(), self.offset()]
    def make_truncate(self): return [self.name(), self.offset()]
    def make_fallocate(self): return [self.slot(), self.random.choice([0, 1, 3, 3, 16, 17, 2]), self.offset(), self.length()]
    def make_copy_range(self): return [self.slot(), self.slot(), self.offset(), self.offset(), self.length() + self.offset()]
    def make_map(self): return [self.slot(), self.offset(), self.length(), self.random.randrange(1 << 30)]
    def make_data_is_there(self): return [self.slot()]
    def make_mkdir(self): return [self.new_name(), self.mode()]
    def make_rmdir(self): return [self.name()]
    def make_unlink(self): return [self.name()]

    def make_mknod(self):
        # A pipe is another one on each mount, as with NFS.
        kind = self.random.choice([stat.S_IFREG if self.is_second else stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR])
        return [self.new_name(), kind | self.mode() & 0o777, os.makedev(1, 3) if kind == stat.S_IFCHR else 0]

    def make_symlink(self): return [self.random.choice(['f0', 'd0/../f1', 'd0', 'nowhere', '.', 'x' * 300]), self.new_name()]
    def make_readlink(self): return [self.place()]
    def make_link(self): return [self.place(), self.new_name()]
    def make_rename(self): return [self.place(), self.random.choice([self.place, self.new_name])(), self.random.choice([0, 0, 0, 1, 2, 3])]
    def make_chmod(self): return [self.place(), self.mode()]

    def make_chown(self):
        r = self.random
        return [self.place(), r.choice([-1, 0, OTHER]), r.choice([-1, 0, OTHER, OTHER_GROUP])]

    def make_utime(self):
        r = self.random
        # ext4 has 34 bits of seconds.
        return [self.place(), *(r.choice([0, 1, r.randrange(-2**31, 2**33)]) * 10**9 + r.randrange(10**9) for _ in range(2))]

    def make_touch(self):
        r = self.random
        return [self.place(), *(r.choice([UTIME_NOW, UTIME_NOW, UTIME_OMIT, 9]) for _ in range(2))]

    def make_fchmod(self): return [self.slot(), self.mode()]
    def make_fchown(self): return [self.slot(), *self.make_chown()[1:]]
    def make_futime(self): return [self.slot(), *self.make_utime()[1:]]
    def make_fsetxattr(self): return [self.slot(), *self.make_setxattr()[1:]]
    def make_xattr_into(self): return [self.place(), self.key(), self.random.choice([0, 1, 9, 10, 11, 500])]
    def make_list_changing(self): return [self.directory(), self.random.randrange(1 << 30)]
    def make_list(self): return [self.directory()]
    def make_setxattr(self): return [self.place(), self.key(), self.random.choice([0, 1, 10, 200]), self.random.choice([0, 0, 1, 2])]
    def make_getxattr(self): return [self.place(), self.key()]
    def make_removexattr(self): return [self.place(), self.key()]
    def make_listxattr(self): return [self.place()]
    def key(self): return self.random.choice(KEYS)

    def make_set_acl(self):
        key = self.random.choice(ACLS)
        return [self.place(), key, [self.random.randrange(8) for _ in ACL_TAGS]]

    def make_access(self): return [self.place(), self.random.randrange(8)]


WEIGHTS = [
    ('open', 16), ('tmpfile', 3), ('link_open', 3), ('close', 4), ('pread', 6), ('pwrite', 8), ('write', 5), ('lseek_end', 2), ('read_all', 6),
    ('fsync', 2), ('ftruncate', 3), ('truncate', 2), ('fallocate', 4), ('copy_range', 4), ('map', 2),
    ('data_is_there', 2), ('mkdir', 7), ('rmdir', 3), ('unlink', 4), ('mknod', 3), ('symlink', 3), ('readlink', 1),
    ('link', 4), ('rename', 9), ('chmod', 4), ('chown', 4), ('utime', 3), ('list', 3), ('setxattr', 3),
    ('getxattr', 2), ('removexattr', 2), ('listxattr', 2), ('set_acl', 3), ('access', 3),
    ('read', 3), ('seek', 2), ('direct', 4), ('map_private', 1), ('flock', 3), ('lock', 5), ('touch', 2), ('fchmod', 2),
    ('fchown', 2), ('futime', 2), ('fsetxattr', 1), ('xattr_into', 1), ('list_changing', 0.7),
]
# Not atime: what is read from the page cache no FUSE file system hears of.
TIMES = ('st_mtime_ns', 'st_ctime_ns')
SET_TIMES = ('st_atime_ns', 'st_mtime_ns')


def touched(side, kind, arguments):
    """What the operation may change, by name: what it names, and the directories that those are in."""
    names = []
    for at, one in enumerate(arguments):
        if isinstance(one, str) and not (kind == 'symlink' and at == 0) and not (one.startswith(('user.', 'trusted.', 'system.', 'strange'))):
            names += [one, os.path.dirname(one)]
    return names


def attributes_of(side, name, fd=None):
    try:
        info = os.fstat(fd) if fd is not None else os.lstat(side.path(name))
    except OSError as error:
        return {'errno': errno.errorcode[error.errno]}
    out = {'mode': oct(info.st_mode), 'nlink': info.st_nlink, 'uid': info.st_uid, 'gid': info.st_gid}
    if not stat.S_ISDIR(info.st_mode):
        out['size'] = info.st_size
    if stat.S_ISCHR(info.st_mode):
        out['rdev'] = info.st_rdev
    # A write to a pipe does not come by its file system: FUSE never hears of it.
    if not stat.S_ISFIFO(info.st_mode):
        out['times'] = [getattr(info, time) for time in TIMES]
    out['atime'] = info.st_atime_ns
    out['inode'] = info.st_ino
    return out


def snapshot(side, kind, arguments):
    found = {name: attributes_of(side, name) for name in touched(side, kind, arguments)}
    for at, slot in enumerate(arguments):
        # What open(2) replaces in a slot may be gone, and its inode number be used again.
        if kind not in ('open', 'tmpfile') and isinstance(slot, int) and kind in SLOT_ARGUMENTS and at in SLOT_ARGUMENTS[kind] and slot in side.files:
            found[f'open file {slot}'] = attributes_of(side, '', side.files[slot])
    return found


SLOT_ARGUMENTS = {one: (0,) for one in ('open', 'tmpfile', 'link_open', 'close', 'pread', 'pwrite', 'write', 'lseek_end', 'fsync', 'ftruncate', 'fallocate', 'map', 'data_is_there',
                                        'read', 'seek', 'map_private', 'flock', 'lock', 'fchmod', 'fchown', 'futime', 'fsetxattr')}
SLOT_ARGUMENTS['copy_range'] = (0, 1)


WRITES = ('pwrite', 'write', 'ftruncate', 'fallocate', 'map')


def flush(side, kind, arguments):
    """What one mount has not flushed another need not see."""
    if len(side.roots) > 1 and kind in WRITES and arguments[0] in side.files:
        try:
            os.fsync(side.files[arguments[0]])
        except OSError:
            pass  # A pipe, or a directory.


def do(side, operation):
    """The outcome, in a form that both sides must share."""
    kind, arguments, as_other, umask = operation
    side.turn += 1
    before = snapshot(side, kind, arguments)
    os.umask(umask)
    if as_other:
        os.setgroups([OTHER_GROUP])
        os.setegid(OTHER)
        os.seteuid(OTHER)
    try:
        outcome = OPERATIONS[kind](side, *arguments)
        if isinstance(outcome, bytes):
            outcome = outcome.decode('latin1')
    except KeyError:
        return {'outcome': 'nothing open'}
    except OSError as error:
        outcome = errno.errorcode.get(error.errno, str(error.errno))
    finally:
        if as_other:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([0])
        os.umask(0o022)
    flush(side, kind, arguments)
    side.turn += 1
    after = snapshot(side, kind, arguments)
    return {'outcome': outcome, 'after': {
        name: compared(before.get(name, {}), now, kind == 'utime' and outcome is None and name == arguments[0])
        for name, now in after.items()
    }}


def compared(before, now, was_set):
    """Times are told as changed or not; those that were set, as they are."""
    now = dict(now)
    times, atime, inode = now.pop('times', None), now.pop('atime', None), now.pop('inode', None)
    if times is not None:
        now['same'] = before.get('inode') == inode
        if now['same']:
            now['changed'] = [was != is_now for was, is_now in zip(before['times'], times)]
        if was_set:
            # A path that leads through the link itself reads it when it is looked at.
            is_link = stat.S_ISLNK(int(now['mode'], 8))
            now['set'] = [None if is_link else atime, times[0]]
    return now


def difference(left, right, operations):
    """Runs a history on both from the start. @returns where and what, or None"""
    for side in (left, right):
        side.turn = 0
        empty(side.root)
    try:
        for index, operation in enumerate(operations):
            expected, got = do(left, operation), do(right, operation)
            if expected != got:
                return index, expected, got
        return None
    finally:
        left.close()
        right.close()


def empty(root):
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    os.chmod(root, 0o777)
    os.chown(root, 0, 0)
    for key in os.listxattr(root):
        os.removexattr(root, key)


def minimal(left, right, operations, until):
    """Leaves out what the difference does not need: halves first, then one by one."""
    step = max(1, len(operations) // 2)
    while step >= 1 and time.monotonic() < until:
        at, smaller = 0, False
        while at < len(operations) - 1 and time.monotonic() < until:
            candidate = operations[:at] + operations[min(at + step, len(operations) - 1):]
            found = difference(left, right, candidate)
            if found is not None:
                operations, smaller = candidate[: found[0] + 1], True
            else:
                at += step
        if step == 1 and not smaller:
            break
        step = max(1, step // 2) if step > 1 else 1
    return operations


def tree(side):
    """Everything at the end, content too."""
    out = {}
    for directory, names, files in os.walk(side.root):
        for name in names + files:
            path = os.path.join(directory, name)
            info = attributes_of(side, os.path.relpath(path, side.root).decode('latin1'))
            for key in ('times', 'atime', 'inode'):
                info.pop(key, None)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, 'rb') as file:
                    info['content'] = digest(file.read())
            out[os.path.relpath(path, side.root).decode('latin1')] = info
    return out


def kind_of(path):
    """The type of the file system that a path is on, as the kernel tells it."""
    path = os.path.realpath(path)
    best = ('', 'unknown')
    with open('/proc/self/mountinfo') as mounts:
        for line in mounts:
            before, after = line.rstrip('\n').split(' - ', 1)
            point = before.split(' ')[4].encode().decode('unicode_escape')
            inside = point == '/' or path == point or path.startswith(point + '/')
            if inside and len(point) >= len(best[0]):
                best = (point, after.split(' ')[0])
    return best[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('oracle')
    parser.add_argument('tested')
    parser.add_argument('--second', help='the tested directory through another mount')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--count', type=int, default=1000, help='operations of a history')
    parser.add_argument('--histories', type=int, default=1, help='how many, from consecutive seeds')
    parser.add_argument('--without', default='', help='operations to leave out')
    parser.add_argument('--seconds', type=float, default=1e9, help='begin no history after this time')
    parser.add_argument('--minimise', type=float, default=60, help='seconds for making a difference small')
    options = parser.parse_args()
    started = time.monotonic()
    without = [one for one in options.without.split(',') if one]
    if options.second:
        # Between two mounts that is EXDEV.
        without.append('copy_range')
    kinds = [kind_of(options.oracle), kind_of(options.tested)]
    if kinds[0] == kinds[1] or kinds[0].startswith('fuse'):
        sys.exit(f'{kinds[0]} beside {kinds[1]} says nothing: the oracle has to be on a local disk (TMPDIR)')
    note = '' if kinds[0] == 'ext4' else ', which is not the ext4 that it is meant for: what differs may be its own'
    print(f'{kinds[1]} beside {kinds[0]}{note}', flush=True)
    is_second = options.second is not None
    left, right = Side(options.oracle, None, is_second), Side(options.tested, options.second, is_second, patience=50)
    total = 0
    for seed in range(options.seed, options.seed + options.histories):
        if time.monotonic() - started > options.seconds:
            break
        generator = Generator(seed, without, is_second)
        operations = [generator.next() for _ in range(options.count)]
        found = difference(left, right, operations)
        if found is None:
            expected, got = tree(left), tree(right)
            if expected == got:
                total += len(operations)
                continue
            names = sorted(name for name in {*expected, *got} if expected.get(name) != got.get(name))
            print(f'seed {seed}: the trees differ in the end: {names}')
            for name in names[:3]:
                print(f'  {name}\n    oracle {expected.get(name)}\n    tested {got.get(name)}')
            sys.exit(1)
        print(f'seed {seed}: a difference at operation {found[0]}, made smaller:', flush=True)
        small = minimal(left, right, operations[: found[0] + 1], time.monotonic() + options.minimise)
        found = difference(left, right, small) or found
        for operation in small:
            print(f'  {json.dumps(operation)}')
        print(f'  oracle: {json.dumps(found[1])}\n  tested: {json.dumps(found[2])}')
        sys.exit(1)
    print(f'{total} operations, no difference')


main()
