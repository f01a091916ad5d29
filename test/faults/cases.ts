/** Each fault of the table in docs/performance.md that is one of a chunkserver, the master or a disk. */
import { spawn } from 'node:child_process';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../real/cluster.js';
import { runCommand } from '../real/processes.js';
import { Broken, mustSucceed, startFile, verifyFile, writeFile } from './files.js';
import { HostCluster, type HostClusterOptions } from './hosts.js';

/** What a case measured, to stand beside the aim. */
export interface Measured {
  readonly told: string;
  /** Undefined where there is no figure to aim for. */
  readonly isWithinAim?: boolean;
}

export interface Sizes {
  /** Of the large file. */
  readonly fileMib: number;
  /** Of the healing. */
  readonly chunks: number;
}

export interface FaultCase {
  readonly name: string;
  readonly aim: string;
  /** @throws Broken */
  run(sizes: Sizes): Promise<Measured>;
}

/** Servers that are gone are replaced soon, so that the campaign does not wait for a minute each time. */
const SET = ['replication.wait=2s'];

async function onCluster(
  options: Partial<HostClusterOptions>,
  run: (cluster: HostCluster) => Promise<Measured>,
): Promise<Measured> {
  const cluster = await HostCluster.start({ servers: 4, mounts: 1, set: SET, ...options });
  try {
    return await run(cluster);
  } catch (thrown) {
    process.stdout.write(cluster.tails());
    throw thrown;
  } finally {
    await cluster.remove();
  }
}

function stall(longestMs: number, aimMs: number): Measured {
  return { told: `longest stall ${(longestMs / 1000).toFixed(2)} s`, isWithinAim: longestMs <= aimMs };
}

/** Something happens in the middle of a large write; nothing is lost, and the writer waits no longer than the aim. */
function duringWrite(
  name: string,
  aim: string,
  aimMs: number,
  happen: (cluster: HostCluster) => Promise<void>,
): FaultCase {
  return {
    name,
    aim,
    run: ({ fileMib }) =>
      onCluster({}, async (cluster) => {
        const path = join(cluster.mountPoint(), 'file');
        const job = startFile('write', path, fileMib, 1, 300_000);
        await job.reached(Math.ceil(fileMib / 4));
        await happen(cluster);
        const { longestMs } = mustSucceed('the writer', await job.done);
        await cluster.startMount(1).catch(() => undefined);
        await verifyFile(path, fileMib, 1);
        return stall(longestMs, aimMs);
      }),
  };
}

const killed = duringWrite(
  'a chunkserver is killed during a large write',
  'no error, stall ≤ 0.5 s',
  500,
  async ({ chunkservers }) => chunkservers[0]?.kill(),
);

const hung = duringWrite(
  'a chunkserver hangs (SIGSTOP) during a large write',
  'no error, stall ≤ 3 s',
  3_000,
  async ({ chunkservers }) => chunkservers[0]?.pause(),
);

const unplugged = duringWrite(
  "a chunkserver's link goes down during a large write",
  'no error, stall ≤ 3 s',
  3_000,
  (cluster) => cluster.cutLink(cluster.hostOfServer(0)),
);

const slow = duringWrite(
  "a chunkserver's link falls to 80 Mbit/s (tbf) during a large write",
  'no error',
  Number.POSITIVE_INFINITY,
  (cluster) => cluster.slowLink(cluster.hostOfServer(0), '80mbit'),
);

const OUTAGE_MS = 2_500;

/** Something without which nothing is changed is away for a while: changes wait, and go on. */
function awayForAWhile(
  name: string,
  leave: (cluster: HostCluster) => Promise<() => Promise<unknown>>,
  options: Partial<HostClusterOptions> = {},
): FaultCase {
  return {
    name,
    aim: 'nothing acknowledged lost, stall ≤ outage + 2 s',
    run: () =>
      onCluster(options, async (cluster) => {
        const directory = cluster.mountPoint();
        const made = startCreating(directory, 12_000);
        await delay(3_000);
        const beganMs = performance.now();
        const comeBack = await leave(cluster);
        await delay(OUTAGE_MS);
        await comeBack();
        const outageMs = performance.now() - beganMs;
        const { names, longestMs, error } = await made;
        if (error !== undefined) throw new Broken(`creating files: ${error}`);
        const found = new Set((await listed(directory)).split('\n'));
        const lost = names.filter((name) => !found.has(name));
        if (lost.length > 0)
          throw new Broken(`${lost.length} of ${names.length} acknowledged files are gone`);
        const told = `${names.length} files, outage ${(outageMs / 1000).toFixed(1)} s`;
        const { told: wait, isWithinAim } = stall(longestMs, outageMs + 2_000);
        return { told: `${told}, ${wait}`, ...(isWithinAim === undefined ? {} : { isWithinAim }) };
      }),
  };
}

/** Small files, one after another, each flushed; a program of its own. */
async function startCreating(
  directory: string,
  durationMs: number,
): Promise<{ names: string[]; longestMs: number; error?: string }> {
  const program = `
    import os, sys, time, json
    end = time.monotonic() + ${durationMs / 1000}
    names, longest, error, i = [], 0.0, None, 0
    while time.monotonic() < end:
        i += 1
        began = time.monotonic()
        try:
            fd = os.open('file-%d' % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            os.write(fd, b'content %d' % i)
            os.fsync(fd)
            os.close(fd)
        except OSError as e:
            error = str(e)
            break
        longest = max(longest, time.monotonic() - began)
        names.append('file-%d' % i)
    print(json.dumps({'names': names, 'longestMs': longest * 1000, **({'error': error} if error else {})}))
  `.replaceAll('\n    ', '\n');
  const { stdout, stderr, status } = await runCommand(['python3', '-c', program.trimStart()], {
    cwd: directory,
    timeoutMs: durationMs + 60_000,
  });
  if (status !== 0) throw new Broken(`creating files: ${stderr || 'hung'}`);
  return JSON.parse(stdout) as { names: string[]; longestMs: number; error?: string };
}

async function listed(directory: string): Promise<string> {
  const { stdout, status } = await runCommand(['ls', '-1'], { cwd: directory, timeoutMs: 30_000 });
  if (status !== 0) throw new Broken('the directory cannot be listed');
  return stdout;
}

const masterKilled = awayForAWhile('the master is killed, and is back', async (cluster) => {
  await cluster.master.kill();
  return async () => cluster.startMaster();
});

const masterHung = awayForAWhile('the master hangs (SIGSTOP), and goes on', async ({ master }) => {
  master.pause();
  return async () => master.resume();
});

const shadowKilled = awayForAWhile(
  'the shadow is killed, and is back in step',
  async (cluster) => {
    await cluster.shadow?.kill();
    return () => cluster.startShadow();
  },
  { shadow: true },
);

const healing: FaultCase = {
  name: 'healing: a chunkserver with many chunks is lost',
  aim: '≥ 252 chunks/s',
  run: ({ chunks }) =>
    onCluster({ set: ['replication.wait=100ms'] }, async (cluster) => {
      const line = `seq ${chunks} | xargs -P 8 -n 100 sh -c 'for i; do echo content $i > small-$i; done' sh`;
      const { status, stderr } = await runCommand(['/bin/bash', '-c', line], {
        cwd: cluster.mountPoint(),
        timeoutMs: 300_000,
      });
      if (status !== 0) throw new Broken(`making ${chunks} files: ${stderr || 'hung'}`);
      await cluster.healed(60_000);
      await cluster.chunkservers[0]?.kill();
      await eventually(async () => (await cluster.status()).chunksBelowGoal > 0 || 'not noticed', 30_000);
      const missing = (await cluster.status()).chunksBelowGoal;
      const tookMs = await cluster.healed(300_000);
      const rate = missing / (tookMs / 1000);
      const told = `${missing} chunks in ${(tookMs / 1000).toFixed(1)} s, ${rate.toFixed(0)}/s`;
      return { told, isWithinAim: rate >= 252 };
    }),
};

// Damage.

const DAMAGE_MIB = 8;

async function chunkFilesOf(cluster: HostCluster, index: number): Promise<string[]> {
  const root = join(cluster.dataOf(index), 'chunks');
  const names = await readdir(root, { recursive: true });
  return names.filter((name) => name.endsWith('.chunk')).map((name) => join(root, name));
}

async function flipByte(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, position);
    byte[0] = (byte[0] as number) ^ 0x10;
    await file.write(byte, 0, 1, position);
  } finally {
    await file.close();
  }
}

const DAMAGED_AT = 300_000;

async function damage(cluster: HostCluster, servers: readonly number[]): Promise<Map<string, number>> {
  const damaged = new Map<string, number>();
  for (const index of servers) {
    for (const path of await chunkFilesOf(cluster, index)) {
      const content = await readFile(path);
      if (content.byteLength <= DAMAGED_AT) continue;
      await flipByte(path, DAMAGED_AT);
      damaged.set(path, (content[DAMAGED_AT] as number) ^ 0x10);
    }
  }
  if (damaged.size === 0) throw new Error('no chunk file was found to be damaged');
  return damaged;
}

/** Whether the damaged byte is still there. */
async function isDamaged(path: string, bad: number): Promise<boolean> {
  const content = await readFile(path).catch(() => undefined);
  return content?.[DAMAGED_AT] === bad;
}

const oneDamaged: FaultCase = {
  name: 'one replica of each chunk is damaged on its disk',
  aim: 'never read; healed < 10 s after it was met',
  run: () =>
    onCluster({ servers: 3, mounts: 2 }, async (cluster) => {
      mustSucceed('the writer', await writeFile(join(cluster.mountPoint(0), 'file'), DAMAGE_MIB, 2));
      const damaged = await damage(cluster, [0]);
      const beganMs = performance.now();
      // By readers that prefer any of the servers: the damaged one is met or not, so all is scrubbed too.
      await verifyFile(join(cluster.mountPoint(1), 'file'), DAMAGE_MIB, 2);
      await cluster.gfs(['scrub', '--all', '--now', '--wait']);
      await eventually(async () => {
        const states = await Promise.all([...damaged].map(([path, bad]) => isDamaged(path, bad)));
        const left = states.filter((state) => state).length;
        return left === 0 || `${left} of ${damaged.size} are damaged still`;
      }, 60_000);
      const tookMs = performance.now() - beganMs;
      await cluster.healed(30_000);
      await verifyFile(join(cluster.mountPoint(1), 'file'), DAMAGE_MIB, 2);
      return { told: `healed after ${(tookMs / 1000).toFixed(1)} s`, isWithinAim: tookMs < 10_000 };
    }),
};

/** Flips a byte of some chunk file each moment, of each chunk at one server alone: its other replicas stay good. */
function startFlipping(cluster: HostCluster): () => Promise<number> {
  const victims = new Map<string, number>();
  const random = (bound: number) => Math.floor(Math.random() * bound);
  let stopped = false;
  let flipped = 0;
  const flipOne = async (): Promise<void> => {
    const server = random(cluster.options.servers);
    const paths = await chunkFilesOf(cluster, server);
    const path = paths[random(paths.length)];
    if (path === undefined) return;
    const victim = victims.get(basename(path)) ?? server;
    victims.set(basename(path), victim);
    const { size } = await stat(path);
    if (victim !== server || size === 0) return;
    await flipByte(path, random(size));
    flipped++;
  };
  const flipping = (async () => {
    while (!stopped) {
      // A chunk may go while it is looked at.
      await flipOne().catch(() => undefined);
      await delay(FLIP_PAUSE_MS);
    }
  })();
  return async () => {
    stopped = true;
    await flipping;
    return flipped;
  };
}

const FLIP_PAUSE_MS = 50;
const FLIP_FILES = 4;

const flippedMeanwhile: FaultCase = {
  name: 'bytes of chunk files are flipped while writers run',
  aim: 'no error, never read, all healed',
  run: ({ fileMib }) =>
    onCluster({ mounts: 2 }, async (cluster) => {
      const mib = Math.max(8, Math.ceil(fileMib / FLIP_FILES));
      const at = (mount: number, seed: number) => join(cluster.mountPoint(mount), `file-${seed}`);
      const stop = startFlipping(cluster);
      // Each is read elsewhere while the next is written.
      for (let seed = 20; seed < 20 + FLIP_FILES; seed++) {
        const writer = startFile('write', at(0, seed), mib, seed, 300_000);
        if (seed > 20) await verifyFile(at(1, seed - 1), mib, seed - 1);
        mustSucceed('a writer', await writer.done);
      }
      const flipped = await stop();
      if (flipped === 0) throw new Error('nothing was flipped');
      const beganMs = performance.now();
      await eventually(async () => {
        const { status, stdout } = await cluster.gfs(['scrub', '--all', '--now', '--wait']);
        return status === 0 || stdout;
      }, 180_000);
      await cluster.healed(30_000);
      const tookS = (performance.now() - beganMs) / 1000;
      await cluster.startMount(1).catch(() => undefined);
      for (let seed = 20; seed < 20 + FLIP_FILES; seed++) await verifyFile(at(1, seed), mib, seed);
      return { told: `${flipped} flipped; scrubbed until nothing was found in ${tookS.toFixed(1)} s` };
    }),
};

const allDamaged: FaultCase = {
  name: 'all replicas of a chunk are damaged',
  aim: 'EIO at once, the chunk named in the log',
  run: () =>
    onCluster({ servers: 3, mounts: 2 }, async (cluster) => {
      mustSucceed('the writer', await writeFile(join(cluster.mountPoint(0), 'file'), 4, 3));
      await damage(cluster, [0, 1, 2]);
      const report = await startFile('read', join(cluster.mountPoint(1), 'file'), 4, 3, 120_000).done;
      if (report.error === 'HUNG') throw new Broken('the reader hangs');
      if (report.error !== 'EIO') throw new Broken(`the reader was told ${report.error ?? 'nothing'}`);
      if (report.wrongBytes > 0) throw new Broken('damaged bytes were read');
      const isNamed = /"handle":\d+[^\n]*every replica|every replica[^\n]*"handle":\d+/.test(
        cluster.master.log,
      );
      const told = `EIO after ${(report.longestMs / 1000).toFixed(2)} s, ${isNamed ? 'named' : 'not named'} in the master's log`;
      return { told, isWithinAim: report.longestMs < 1_000 && isNamed };
    }),
};

// Full disks and hostile programs.

const DISK_MIB = 192;

const full: FaultCase = {
  name: 'the disks of all chunkservers are full (loop mounts)',
  aim: 'ENOSPC, what was there stays, room again after a deletion',
  run: () =>
    onCluster({ servers: 3, diskMib: DISK_MIB, set: [...SET, 'master.retention=1s'] }, async (cluster) => {
      const at = (name: string) => join(cluster.mountPoint(), name);
      mustSucceed('the first file', await writeFile(at('kept'), 32, 4));
      const report = await writeFile(at('large'), 2 * DISK_MIB, 5);
      if (report.error !== 'ENOSPC') throw new Broken(`the writer was told ${report.error ?? 'nothing'}`);
      await verifyFile(at('kept'), 32, 4);
      const { status } = await runCommand(['rm', at('large')], { timeoutMs: 60_000 });
      if (status !== 0) throw new Broken('nothing can be deleted on a full disk');
      const beganMs = performance.now();
      await eventually(async () => {
        const again = await writeFile(at('again'), 16, 6);
        return again.error === undefined || `${again.error}`;
      }, 120_000);
      const tookMs = performance.now() - beganMs;
      await verifyFile(at('again'), 16, 6);
      return { told: `ENOSPC; room again ${(tookMs / 1000).toFixed(1)} s after rm` };
    }),
};

const stressed: FaultCase = {
  name: 'stress-ng --fsize on the mount',
  aim: 'passes',
  run: () =>
    onCluster({}, async (cluster) => {
      const words = ['stress-ng', '--fsize', '2', '--timeout', '10', '--temp-path', cluster.mountPoint()];
      const { status, stderr, stdout } = await runCommand(words, { timeoutMs: 120_000 });
      if (status === null) throw new Broken('stress-ng hangs');
      if (status !== 0) throw new Broken(`stress-ng: ${stderr || stdout}`);
      await listed(cluster.mountPoint());
      return { told: 'passed, the mount answers', isWithinAim: true };
    }),
};

const mountKilled: FaultCase = {
  name: 'a mount is killed while it writes',
  aim: 'what it fsynced is there for others',
  run: () =>
    onCluster({ mounts: 2 }, async (cluster) => {
      mustSucceed('the writer', await writeFile(join(cluster.mountPoint(0), 'synced'), 32, 7));
      const job = startFile('write', join(cluster.mountPoint(0), 'lost'), 512, 8, 60_000);
      await job.reached(8);
      await cluster.mounts[0]?.kill();
      await runCommand(['umount', '--lazy', cluster.mountPoint(0)], { timeoutMs: 10_000 });
      await job.done;
      const { longestMs } = await verifyFile(join(cluster.mountPoint(1), 'synced'), 32, 7);
      return { told: `read elsewhere, longest wait ${(longestMs / 1000).toFixed(2)} s` };
    }),
};

const mountHung: FaultCase = {
  name: 'a mount hangs (SIGSTOP) while it writes and holds a lock, and goes on',
  aim: 'others wait ≤ 3 s, then have its lock; when it is back it is right',
  run: ({ fileMib }) =>
    onCluster({ mounts: 2 }, async (cluster) => {
      const [first, second] = [cluster.mountPoint(0), cluster.mountPoint(1)];
      mustSucceed('the writer', await writeFile(join(first, 'news'), 1, 11));
      await verifyFile(join(first, 'news'), 1, 11);
      const lock = (...words: string[]) =>
        runCommand(['flock', ...words, 'lock', 'true'], { cwd: second, timeoutMs: 60_000 });
      const holder = spawn('flock', ['lock', 'sleep', '600'], { cwd: first, stdio: 'ignore' });
      try {
        await eventually(async () => (await lock('--nonblock')).status === 1 || 'not held yet', 10_000);
        const job = startFile('write', join(first, 'under way'), fileMib, 12, 300_000);
        await job.reached(Math.ceil(fileMib / 4));
        cluster.mounts[0]?.pause();
        const beganMs = performance.now();
        const [change, lockMs] = await Promise.all([
          writeFile(join(second, 'news'), 1, 13),
          lock().then(({ status }) => (status === 0 ? performance.now() - beganMs : Number.NaN)),
        ]);
        mustSucceed('another writer', change);
        if (Number.isNaN(lockMs)) throw new Broken('nobody gets the lock of a mount that hangs');
        cluster.mounts[0]?.resume();
        await verifyFile(join(first, 'news'), 1, 13);
        const { error } = await job.done;
        if (error === undefined) await verifyFile(join(second, 'under way'), fileMib, 12);
        else if (error !== 'EIO') throw new Broken(`its writer was told ${error}`);
        mustSucceed('its next writer', await writeFile(join(first, 'next'), 8, 14));
        await verifyFile(join(second, 'next'), 8, 14);
        const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
        const told = `a change waits ${seconds(change.longestMs)}, the lock ${seconds(lockMs)}; its writer ${error ?? 'loses nothing'}`;
        return { told, isWithinAim: Math.max(change.longestMs, lockMs) <= 3_000 };
      } finally {
        cluster.mounts[0]?.resume();
        holder.kill('SIGKILL');
      }
    }),
};

const everythingKilled: FaultCase = {
  name: 'everything is killed, and started again',
  aim: 'just starts; everything fsynced is there',
  run: () =>
    onCluster({}, async (cluster) => {
      mustSucceed('the writer', await writeFile(join(cluster.mountPoint(), 'file'), 64, 9));
      const job = startFile('write', join(cluster.mountPoint(), 'under way'), 512, 10, 60_000);
      await job.reached(8);
      await Promise.all(
        [cluster.master, ...cluster.chunkservers, ...cluster.mounts].map((each) => each.kill()),
      );
      await runCommand(['umount', '--lazy', cluster.mountPoint()], { timeoutMs: 10_000 });
      await job.done;
      const beganMs = performance.now();
      cluster.startMaster();
      for (let index = 0; index < cluster.options.servers; index++) cluster.startServer(index);
      await cluster.ready(cluster.options.servers);
      await cluster.startMount(0);
      await verifyFile(join(cluster.mountPoint(), 'file'), 64, 9);
      return { told: `back and read ${((performance.now() - beganMs) / 1000).toFixed(1)} s after the start` };
    }),
};

export const cases: readonly FaultCase[] = [
  killed,
  hung,
  unplugged,
  slow,
  masterKilled,
  masterHung,
  shadowKilled,
  healing,
  oneDamaged,
  allDamaged,
  flippedMeanwhile,
  full,
  stressed,
  mountKilled,
  mountHung,
  everythingKilled,
];
