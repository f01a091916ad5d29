/** flock(2) and fcntl(2) locks, between processes. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Case } from './suite.js';

const whole: Case = {
  name: 'locks: flock keeps others out, lets readers share, and ends with the process',
  needs: ['locks'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, '');
    const outcome = await python.run<boolean[]>(
      `
        def refused(how):
            fd = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(fd, how | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
        fd = os.open(path, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        result = [joined(child(lambda: refused(fcntl.LOCK_EX))), joined(child(lambda: refused(fcntl.LOCK_SH)))]
        fcntl.flock(fd, fcntl.LOCK_SH)
        result += [joined(child(lambda: refused(fcntl.LOCK_EX))), joined(child(lambda: not refused(fcntl.LOCK_SH)))]
        os.close(fd)
        result.append(joined(child(lambda: not refused(fcntl.LOCK_EX))))
        holder = child(lambda: fcntl.flock(os.open(path, os.O_RDWR), fcntl.LOCK_EX) is None)
        result += [joined(holder), joined(child(lambda: not refused(fcntl.LOCK_EX)))]
      `,
      { path },
    );
    t.strictSame(outcome, Array(7).fill(true));
  },
};

const ranges: Case = {
  name: 'locks: fcntl locks ranges, tells who holds one, splits and drops them at close',
  needs: ['locks'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x'.repeat(200));
    const outcome = await python.run<boolean[]>(
      `
        def refused(length, start, how=fcntl.LOCK_EX):
            other = os.open(path, os.O_RDWR)
            try:
                fcntl.lockf(other, how | fcntl.LOCK_NB, length, start)
                return False
            except BlockingIOError:
                return True
        def holder(start):
            other = os.open(path, os.O_RDWR)
            asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, start, 5, 0)
            kind, _, first, length, pid = struct.unpack('hhqqi4x', fcntl.fcntl(other, fcntl.F_GETLK, asked))
            return (first, length, pid) if kind != fcntl.F_UNLCK else None
        fd = os.open(path, os.O_RDWR)
        me = os.getpid()
        fcntl.lockf(fd, fcntl.LOCK_EX, 100, 0)
        result = [
            joined(child(lambda: refused(5, 0))),
            joined(child(lambda: refused(5, 0, fcntl.LOCK_SH))),
            joined(child(lambda: not refused(5, 100))),
            joined(child(lambda: holder(10) == (0, 100, me))),
            joined(child(lambda: holder(100) is None)),
        ]
        fcntl.lockf(fd, fcntl.LOCK_UN, 20, 40)
        result += [
            joined(child(lambda: not refused(20, 40))),
            joined(child(lambda: refused(1, 39))),
            joined(child(lambda: refused(1, 60))),
        ]
        os.close(os.open(path, os.O_RDONLY))
        result.append(joined(child(lambda: not refused(0, 0))))
        os.close(fd)
      `,
      { path },
    );
    t.strictSame(outcome, Array(9).fill(true));
  },
};

const waiting: Case = {
  name: 'locks: a wait ends when the lock is free',
  needs: ['locks'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x');
    const outcome = await python.run<boolean[]>(
      `
        def waits(lock):
            other = os.open(path, os.O_RDWR)
            os.write(sink, b'.')
            lock(other, fcntl.LOCK_EX)
            os.write(sink, b'locked')
            return True
        result = []
        for lock in (fcntl.flock, fcntl.lockf):
            source, sink = os.pipe()
            fd = os.open(path, os.O_RDWR)
            lock(fd, fcntl.LOCK_EX)
            waiter = child(lambda: waits(lock))
            os.read(source, 1)
            result.append(select.select([source], [], [], 0.3)[0] == [])
            lock(fd, fcntl.LOCK_UN)
            result += [os.read(source, 10) == b'locked', joined(waiter)]
            for one in (fd, source, sink): os.close(one)
      `,
      { path },
    );
    t.strictSame(outcome, Array(6).fill(true));
  },
};

const interrupting: Case = {
  name: 'locks: a signal ends a wait, and the lock is not taken later',
  needs: ['locks', 'interrupt'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x');
    const outcome = await python.run<boolean[]>(
      `
        class Alarm(Exception): pass
        def on_alarm(*_): raise Alarm()
        def interrupted(lock):
            signal.signal(signal.SIGALRM, on_alarm)
            other = os.open(path, os.O_RDWR)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                lock(other, fcntl.LOCK_EX)
                return False
            except Alarm:
                return True
        def free(lock):
            lock(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        result = []
        for lock in (fcntl.flock, fcntl.lockf):
            fd = os.open(path, os.O_RDWR)
            lock(fd, fcntl.LOCK_EX)
            result.append(joined(child(lambda: interrupted(lock))))
            lock(fd, fcntl.LOCK_UN)
            result.append(joined(child(lambda: free(lock))))
            os.close(fd)
      `,
      { path },
    );
    t.strictSame(outcome, Array(4).fill(true));
  },
};

const descriptions: Case = {
  name: 'locks: F_OFD_SETLK locks belong to the open file, within a process too, and end with it',
  needs: ['locks'],
  async run(t, directory, python) {
    const path = join(directory, 'file');
    await writeFile(path, 'x'.repeat(200));
    const outcome = await python.run<boolean[]>(
      `
        def lock(fd, start, length, how=fcntl.F_WRLCK):
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', how, 0, start, length, 0))
            return True
        def refused(fd, start, length, how=fcntl.F_WRLCK):
            try:
                lock(fd, start, length, how)
                lock(fd, start, length, fcntl.F_UNLCK)
                return False
            except BlockingIOError:
                return True
        def refusedAlone(start, length):
            other = os.open(path, os.O_RDWR)
            try:
                fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
                return False
            except BlockingIOError:
                return True
        def found(fd, start):
            asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, start, 5, 0)
            kind, _, first, length, _ = struct.unpack('hhqqi4x', fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
            return (first, length) if kind != fcntl.F_UNLCK else None
        one = os.open(path, os.O_RDWR)
        two = os.open(path, os.O_RDWR)
        lock(one, 0, 100)
        result = [refused(two, 50, 1), refused(two, 50, 1, fcntl.F_RDLCK), not refused(two, 100, 1)]
        result += [found(two, 10) == (0, 100), found(two, 100) is None, found(one, 10) is None]
        os.close(os.open(path, os.O_RDONLY))
        result += [refused(two, 0, 1), joined(child(lambda: refusedAlone(0, 1)))]
        copy = os.dup(one)
        result += [lock(copy, 100, 20), joined(child(lambda: lock(one, 120, 20))), refused(two, 139, 1)]
        os.close(one)
        result.append(refused(two, 0, 1))
        os.close(copy)
        for _ in range(200):
            # close(2) does not wait for the end of the open file.
            if not refused(two, 0, 0): break
            time.sleep(0.02)
        result += [not refused(two, 0, 0), joined(child(lambda: not refusedAlone(0, 0)))]
        os.close(two)
      `,
      { path },
    );
    t.strictSame(outcome, Array(14).fill(true));
  },
};

export const lockCases: readonly Case[] = [whole, ranges, descriptions, waiting, interrupting];
