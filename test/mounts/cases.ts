/**
 * What several mounts of one cluster promise each other (DESIGN: across mounts): each case works on the same
 * directory through two or more of them. Names that exist, data and attributes are compared after every
 * acknowledged change, so that a mount that believes old news is caught at once.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  appendFile,
  chmod,
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { runCommand } from '../real/processes.js';

/** Node has no name for it. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

export interface MountsCase {
  readonly name: string;
  /** @param mounts the same directory through each mount @param scale 1 for the quick suite */
  run(t: Test, mounts: readonly string[], scale: number): Promise<void>;
}

const digest = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

async function errorOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** Each pair of mounts, in both directions. */
function pairs(mounts: readonly string[]): [string, string][] {
  return mounts.flatMap((a) => mounts.flatMap((b): [string, string][] => (a === b ? [] : [[a, b]])));
}

const closeToOpen: MountsCase = {
  name: 'mounts: what one has closed, another that opens it reads',
  async run(t, mounts, scale) {
    let wrong = 0;
    for (let round = 0; round < 15 * scale; round++) {
      for (const [a, b] of pairs(mounts)) {
        const data = randomBytes(1 + ((round * 7919) % 200_000));
        await writeFile(join(a, 'file'), data);
        if (digest(await readFile(join(b, 'file'))) !== digest(data)) wrong++;
        if ((await stat(join(b, 'file'))).size !== data.length) wrong++;
      }
    }
    t.equal(wrong, 0);
  },
};

const dataAfterAttributes: MountsCase = {
  name: 'mounts: data that changes after an attribute did is seen, in files that are open and in those opened again',
  async run(t, mounts, scale) {
    let wrong = 0;
    for (let round = 0; round < 5 * scale; round++) {
      for (const [a, b] of pairs(mounts)) {
        await writeFile(join(b, 'file'), 'first');
        const file = await open(join(b, 'file'));
        const read = async (): Promise<string> => {
          const { buffer, bytesRead } = await file.read(Buffer.alloc(16), 0, 16, 0);
          return buffer.toString('latin1', 0, bytesRead);
        };
        try {
          if ((await read()) !== 'first') wrong++;
          await chmod(join(a, 'file'), 0o600 + (round % 8));
          await writeInPlace(join(a, 'file'), 'other');
          if ((await read()) !== 'other') wrong++;
          await chmod(join(a, 'file'), 0o640);
          // Another chunk of the same length.
          await writeFile(join(a, 'file'), 'third');
          if ((await read()) !== 'third') wrong++;
        } finally {
          await file.close();
        }
        await chmod(join(a, 'file'), 0o644);
        await writeFile(join(a, 'file'), 'fifth');
        if ((await readFile(join(b, 'file'))).toString() !== 'fifth') wrong++;
      }
    }
    t.equal(wrong, 0);
  },
};

async function writeInPlace(path: string, text: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(text, 0);
  } finally {
    await file.close();
  }
}

const attributes: MountsCase = {
  name: 'mounts: attributes, links and names are seen at once, also those that are not there',
  async run(t, mounts, scale) {
    const wrong: string[] = [];
    const expect = (what: string, seen: unknown, wanted: unknown) => {
      if (seen !== wanted) wrong.push(`${what}: ${String(seen)}, not ${String(wanted)}`);
    };
    for (let round = 0; round < 10 * scale; round++) {
      for (const [a, b] of pairs(mounts)) {
        expect('absent', await errorOf(stat(join(b, 'new'))), 'ENOENT');
        await writeFile(join(a, 'new'), 'x');
        expect('there', (await stat(join(b, 'new'))).nlink, 1);
        await chmod(join(a, 'new'), 0o600 + (round % 8));
        expect('mode', (await stat(join(b, 'new'))).mode & 0o777, 0o600 + (round % 8));
        await link(join(a, 'new'), join(a, 'other'));
        expect('links', (await stat(join(b, 'new'))).nlink, 2);
        await unlink(join(b, 'new'));
        expect('unlinked', await errorOf(stat(join(a, 'new'))), 'ENOENT');
        expect('links after', (await stat(join(a, 'other'))).nlink, 1);
        await mkdir(join(a, 'd1'));
        await rename(join(a, 'other'), join(a, 'd1', 'moved'));
        expect('moved', (await stat(join(b, 'd1', 'moved'))).size, 1);
        await rename(join(a, 'd1'), join(a, 'd2'));
        expect('old directory', await errorOf(stat(join(b, 'd1', 'moved'))), 'ENOENT');
        expect('new directory', (await stat(join(b, 'd2', 'moved'))).size, 1);
        await rm(join(b, 'd2'), { recursive: true });
        expect('removed', await errorOf(stat(join(a, 'd2'))), 'ENOENT');
      }
    }
    t.same(wrong, []);
  },
};

const accessTimes: MountsCase = {
  name: 'mounts: times that one sets are not undone by what another had read before',
  async run(t, mounts) {
    for (const [a, b] of pairs(mounts)) {
      const [here, there] = [join(a, 'times'), join(b, 'times')];
      await writeFile(here, 'x');
      await readFile(there);
      await utimes(here, 1_000, 2_000);
      for (const path of [here, there]) {
        const { atimeMs, mtimeMs } = await stat(path);
        t.strictSame([atimeMs, mtimeMs], [1_000_000, 2_000_000]);
      }
    }
  },
};

const listing: MountsCase = {
  name: 'mounts: a listing has what every mount has made and removed',
  async run(t, mounts, scale) {
    const names = new Set<string>();
    let wrong = 0;
    for (let round = 0; round < 12 * scale; round++) {
      const changes = mounts.flatMap((mount, at) =>
        Array.from({ length: 10 }, async (_, i) => {
          const name = `n${at}-${(round * 10 + i) % 35}`;
          if (names.delete(name)) await unlink(join(mount, name));
          else {
            names.add(name);
            await writeFile(join(mount, name), '');
          }
        }),
      );
      await Promise.all(changes);
      const wanted = [...names].sort().join();
      // The second time from what the kernel has kept.
      for (const mount of [...mounts, ...mounts])
        if ((await readdir(mount)).sort().join() !== wanted) wrong++;
    }
    t.equal(wrong, 0);
  },
};

const races: MountsCase = {
  name: 'mounts: of those who create one name exclusively, or move one name, one wins',
  async run(t, mounts, scale) {
    const created: number[] = [];
    const moved: number[] = [];
    for (let round = 0; round < 25 * scale; round++) {
      const name = `excl-${round}`;
      const creating = await Promise.all(
        mounts.flatMap((mount) =>
          [0, 1].map(() => errorOf(writeFile(join(mount, name), mount, { flag: 'wx' }))),
        ),
      );
      created.push(creating.filter((error) => error === 'none').length);
      t.ok(
        creating.every((error) => error === 'none' || error === 'EEXIST'),
        String(creating),
      );
      const moving = await Promise.all(
        mounts.map((mount, at) => errorOf(rename(join(mount, name), join(mount, `${name}-${at}`)))),
      );
      moved.push(moving.filter((error) => error === 'none').length);
      t.ok(
        moving.every((error) => error === 'none' || error === 'ENOENT'),
        String(moving),
      );
      const seen = await Promise.all(mounts.map(async (mount) => (await readdir(mount)).sort().join()));
      t.equal(new Set(seen).size, 1, 'all see the same');
    }
    t.ok(
      created.every((count) => count === 1),
      String(created),
    );
    t.ok(
      moved.every((count) => count === 1),
      String(moved),
    );
  },
};

const unlinkOpen: MountsCase = {
  name: 'mounts: what is open here is read on after it was unlinked or replaced there',
  async run(t, mounts) {
    for (const [a, b] of pairs(mounts)) {
      const data = randomBytes(300_000);
      await writeFile(join(a, 'kept'), data);
      const file = await open(join(b, 'kept'), 'r');
      try {
        await unlink(join(a, 'kept'));
        t.equal(await errorOf(stat(join(b, 'kept'))), 'ENOENT');
        t.equal(digest(await file.readFile()), digest(data));
        t.equal((await file.stat()).nlink, 0);
      } finally {
        await file.close();
      }
      await writeFile(join(a, 'kept'), 'old');
      const before = await open(join(b, 'kept'), 'r');
      try {
        await writeFile(join(a, 'next'), 'new');
        await rename(join(a, 'next'), join(a, 'kept'));
        t.equal((await readFile(join(b, 'kept'))).toString(), 'new');
        t.equal((await before.readFile()).toString(), 'old');
      } finally {
        await before.close();
      }
    }
  },
};

const unnamed: MountsCase = {
  name: 'mounts: a file made without a name appears elsewhere with its link, whole, and is itself from then on',
  async run(t, mounts) {
    for (const [a, b] of pairs(mounts)) {
      const data = randomBytes(2_000_000);
      const file = await open(a, constants.O_RDWR | O_TMPFILE, 0o640);
      try {
        t.equal(await errorOf(stat(join(b, 'linked'))), 'ENOENT');
        await file.writeFile(data);
        t.strictSame(await readdir(b), [], 'nobody sees it');
        // link(2) does not follow the descriptor to the file, linkat(2) with AT_SYMLINK_FOLLOW does: as ln -L.
        await runCommand(['ln', '-L', `/proc/${process.pid}/fd/${file.fd}`, join(a, 'linked')]);
        t.equal(digest(await readFile(join(b, 'linked'))), digest(data), 'whole, before it is closed');
        const { nlink, mode } = await stat(join(b, 'linked'));
        t.strictSame([nlink, mode & 0o777], [1, 0o640]);
        await appendFile(join(b, 'linked'), 'more');
        t.equal((await file.stat()).size, data.length + 4);
        await unlink(join(b, 'linked'));
        t.equal((await file.stat()).nlink, 0);
      } finally {
        await file.close();
      }
    }
  },
};

const truncation: MountsCase = {
  name: 'mounts: a truncation, and what is written after it, is seen by those who have it open',
  async run(t, mounts, scale) {
    for (let round = 0; round < 4 * scale; round++) {
      for (const [a, b] of pairs(mounts)) {
        const first = randomBytes(150_000);
        await writeFile(join(a, 'cut'), first);
        const reader = await open(join(b, 'cut'), 'r');
        const writer = await open(join(a, 'cut'), 'r+');
        try {
          t.equal(digest(await readAll(reader)), digest(first));
          await writer.truncate(1_000);
          t.equal((await reader.stat()).size, 1_000);
          t.equal(digest(await readAll(reader)), digest(first.subarray(0, 1_000)));
          const second = randomBytes(90_000);
          await writer.write(second, 0, second.length, 5_000);
          await writer.sync();
          const wanted = Buffer.concat([first.subarray(0, 1_000), Buffer.alloc(4_000), second]);
          t.equal(digest(await readAll(reader)), digest(wanted));
        } finally {
          await reader.close();
          await writer.close();
        }
      }
    }
  },
};

async function readAll(file: FileHandle): Promise<Buffer> {
  const { size } = await file.stat();
  const data = Buffer.alloc(size + 1);
  let at = 0;
  for (;;) {
    const { bytesRead } = await file.read(data, at, data.length - at, at);
    if (bytesRead === 0) return data.subarray(0, at);
    at += bytesRead;
  }
}

const neighbours: MountsCase = {
  name: 'mounts: neighbours write parts of the same blocks, and none is lost',
  async run(t, mounts, scale) {
    const PART = 1_777;
    const count = 60 * scale;
    await writeFile(join(mounts[0] as string, 'shared'), '');
    const files = await Promise.all(mounts.map((mount) => open(join(mount, 'shared'), 'r+')));
    const parts = Array.from({ length: count }, () => randomBytes(PART));
    try {
      await Promise.all(
        files.map(async (file, at) => {
          for (let part = at; part < count; part += files.length) {
            await file.write(parts[part] as Buffer, 0, PART, part * PART);
            if (part % 10 === at) await file.sync();
          }
          await file.sync();
        }),
      );
    } finally {
      await Promise.all(files.map((file) => file.close()));
    }
    const wanted = digest(Buffer.concat(parts));
    for (const mount of mounts) t.equal(digest(await readFile(join(mount, 'shared'))), wanted);
  },
};

const appends: MountsCase = {
  name: 'mounts: lines that all append to one file are whole, once, and seen as soon as they are written',
  async run(t, mounts, scale) {
    const each = 100 * scale;
    await writeFile(join(mounts[0] as string, 'log'), '');
    const line = (writer: number, at: number) => `${writer}:${at}:${'x'.repeat((at * 37) % 900)}\n`;
    await Promise.all(
      [...mounts, ...mounts].map(async (mount, writer) => {
        const file = await open(join(mount, 'log'), 'a');
        try {
          for (let at = 0; at < each; at++) await file.write(line(writer, at));
        } finally {
          await file.close();
        }
      }),
    );
    const wanted = new Set(
      [...mounts, ...mounts].flatMap((_, writer) =>
        Array.from({ length: each }, (_, at) => line(writer, at)),
      ),
    );
    for (const mount of mounts) {
      const lines = (await readFile(join(mount, 'log'), 'latin1')).split(/(?<=\n)/);
      t.equal(lines.length, wanted.size, 'none is missing, none is twice');
      t.ok(
        lines.every((one) => wanted.has(one)),
        'each is whole',
      );
    }
    let wrong = 0;
    let size = 0;
    for (let at = 0; at < 10 * scale; at++) {
      for (const [a, b] of pairs(mounts)) {
        await appendFile(join(a, 'grows'), 'y'.repeat(1 + at));
        size += 1 + at;
        if ((await stat(join(b, 'grows'))).size !== size) wrong++;
      }
    }
    const file = await open(join(mounts[0] as string, 'grows'), 'a');
    for (let at = 0; at < 20; at++) {
      await file.write('z');
      size++;
      if ((await stat(join(mounts[1] as string, 'grows'))).size !== size) wrong++;
    }
    await file.close();
    t.equal(wrong, 0, 'a write with O_APPEND is seen when it returns');
  },
};

const largeAppends: MountsCase = {
  name: 'mounts: appends of 1 MiB less 4 KiB are whole, also over the ends of chunks',
  async run(t, mounts, scale) {
    const blockBytes = 1_048_576 - 4_096;
    const each = 3 * scale;
    await writeFile(join(mounts[0] as string, 'blocks'), '');
    await Promise.all(
      [...mounts, ...mounts].map(async (mount, writer) => {
        const file = await open(join(mount, 'blocks'), 'a');
        try {
          for (let at = 0; at < each; at++) {
            const { bytesWritten } = await file.write(Buffer.alloc(blockBytes, 1 + writer * each + at));
            t.equal(bytesWritten, blockBytes, 'at once');
          }
        } finally {
          await file.close();
        }
      }),
    );
    const count = 2 * mounts.length * each;
    for (const mount of mounts) {
      const content = await readFile(join(mount, 'blocks'));
      t.equal(content.byteLength, count * blockBytes);
      const seen = new Set<number>();
      for (let at = 0; at < content.byteLength; at += blockBytes) {
        const first = content[at] as number;
        seen.add(first);
        t.ok(content.subarray(at, at + blockBytes).equals(Buffer.alloc(blockBytes, first)), 'whole');
      }
      t.equal(seen.size, count, 'none is missing, none is twice');
    }
  },
};

const counters: MountsCase = {
  name: 'mounts: counters under flock and fcntl locks miss no step',
  async run(t, mounts, scale) {
    const steps = 20 * scale;
    const program = `
import fcntl, os, sys
how, path, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
lock = os.open(path + '.lock', os.O_RDWR | os.O_CREAT, 0o600)
for _ in range(steps):
    (fcntl.flock if how == 'flock' else fcntl.lockf)(lock, fcntl.LOCK_EX)
    with open(path) as file: count = int(file.read())
    with open(path, 'w') as file: file.write(str(count + 1))
    (fcntl.flock if how == 'flock' else fcntl.lockf)(lock, fcntl.LOCK_UN)
`;
    for (const how of ['flock', 'fcntl']) {
      await writeFile(join(mounts[0] as string, how), '0');
      const workers = [...mounts, ...mounts].map((mount) =>
        runCommand(['python3', '-c', program, how, join(mount, how), String(steps)], { timeoutMs: 120_000 }),
      );
      for (const { status, stderr } of await Promise.all(workers)) t.equal(status, 0, stderr);
      t.equal(
        (await readFile(join(mounts[1] as string, how))).toString(),
        String(workers.length * steps),
        how,
      );
    }
  },
};

const underLock: MountsCase = {
  name: 'mounts: what was written under a lock is read by who has it next, while the file is open',
  async run(t, mounts, scale) {
    const program = `
import fcntl, os, sys
how, steps, paths = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
lock = fcntl.flock if how == 'flock' else fcntl.lockf
files = [os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in paths]
for step in range(1, steps):
    file = files[step % len(files)]
    lock(file, fcntl.LOCK_EX)
    seen = os.pread(file, 100, 0).decode()
    if step > 1 and seen != str(step - 1): sys.exit(f'step {step} reads {seen!r}')
    os.pwrite(file, str(step).encode(), 0)
    lock(file, fcntl.LOCK_UN)
`;
    for (const how of ['flock', 'fcntl']) {
      const paths = mounts.map((mount) => join(mount, `under-${how}`));
      const { status, stderr } = await runCommand(
        ['python3', '-c', program, how, String(30 * scale), ...paths],
        { timeoutMs: 120_000 },
      );
      t.equal(status, 0, `${how}: ${stderr}`);
    }
  },
};

const unreplaced: MountsCase = {
  name: 'mounts: of those who rename to one name and may not replace, one wins and nothing is lost',
  async run(t, mounts, scale) {
    const rounds = 15 * scale;
    const program = `
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
who, rounds, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
won = 0
for at in range(rounds):
    name = os.path.join(directory, f'{who}-{at}')
    with open(name, 'w') as file: file.write(who)
    if libc.renameat2(-100, name.encode(), -100, os.path.join(directory, f'to-{at}').encode(), 1) == 0: won += 1
    elif ctypes.get_errno() != errno.EEXIST: sys.exit(os.strerror(ctypes.get_errno()))
print(won)
`;
    const workers = [...mounts, ...mounts].map((mount, who) =>
      runCommand(['python3', '-c', program, String(who), String(rounds), mount], { timeoutMs: 120_000 }),
    );
    let won = 0;
    for (const { status, stdout, stderr } of await Promise.all(workers)) {
      t.equal(status, 0, stderr);
      won += Number(stdout);
    }
    t.equal(won, rounds, 'one of each name');
    const left = (await readdir(mounts[0] as string)).length;
    t.equal(left, workers.length * rounds, 'who lost has his file still');
  },
};

const following: MountsCase = {
  name: 'mounts: tail -f on one follows a writer on another',
  async run(t, mounts) {
    const [a, b] = mounts as [string, string];
    await writeFile(join(a, 'followed'), '');
    const tail = runCommand(['/bin/bash', '-c', 'timeout 20 tail -s 0.1 -n +1 -f followed | head -n 30'], {
      cwd: b,
      timeoutMs: 30_000,
    });
    for (let at = 0; at < 30; at++) {
      await appendFile(join(a, 'followed'), `line ${at}\n`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const wanted = Array.from({ length: 30 }, (_, at) => `line ${at}\n`).join('');
    t.equal((await tail).stdout, wanted);
  },
};

export const cases: readonly MountsCase[] = [
  ...[
    closeToOpen,
    dataAfterAttributes,
    attributes,
    accessTimes,
    listing,
    races,
    unlinkOpen,
    unnamed,
    truncation,
    neighbours,
    appends,
    largeAppends,
    counters,
    underLock,
    unreplaced,
    following,
  ],
];

/** Runs every case in a directory of its own. */
export async function runCases(t: Test, mounts: readonly string[], scale: number): Promise<void> {
  for (const [at, { name, run }] of cases.entries()) {
    await t.test(name, async (t) => {
      await mkdir(join(mounts[0] as string, `case-${at}`));
      await run(
        t,
        mounts.map((mount) => join(mount, `case-${at}`)),
        scale,
      );
    });
  }
}
