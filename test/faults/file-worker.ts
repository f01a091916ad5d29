/**
 * `file-worker write|read PATH MIB SEED`: writes a file whose bytes follow from the seed, a megabyte at a time and
 * with fsync at the end, or reads one and compares. A program of its own, because whatever touches a
 * mount may hang in the kernel. Prints one line of JSON, and `progress N` for every megabyte.
 */
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const MIB = 1024 * 1024;

export interface FileReport {
  /** Bytes written or read. */
  readonly bytes: number;
  /** The longest single call. */
  readonly longestMs: number;
  readonly totalMs: number;
  /** Bytes that are not what was written. */
  readonly wrongBytes: number;
  readonly error?: string;
}

/** One megabyte, unlike every other. */
function contentOf(seed: number, index: number): Buffer {
  const content = Buffer.alloc(MIB);
  let state = (seed * 2654435761 + index * 40503 + 1) >>> 0;
  for (let at = 0; at < MIB; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    content.writeUInt32LE(state, at);
  }
  return content;
}

function run(mode: string, path: string, count: number, seed: number): FileReport {
  let [bytes, longestMs, wrongBytes] = [0, 0, 0];
  const startMs = performance.now();
  const timed = <T>(call: () => T): T => {
    const beganMs = performance.now();
    try {
      return call();
    } finally {
      longestMs = Math.max(longestMs, performance.now() - beganMs);
    }
  };
  const report = (error?: string): FileReport => ({
    bytes,
    longestMs: Math.round(longestMs),
    totalMs: Math.round(performance.now() - startMs),
    wrongBytes,
    ...(error === undefined ? {} : { error }),
  });
  try {
    const file = timed(() => openSync(path, mode === 'write' ? 'w' : 'r'));
    for (let index = 0; index < count; index++) {
      const content = contentOf(seed, index);
      if (mode === 'write') {
        bytes += timed(() => writeSync(file, content, 0, MIB, index * MIB));
      } else {
        const read = Buffer.alloc(MIB);
        bytes += timed(() => readSync(file, read, 0, MIB, index * MIB));
        if (!read.equals(content))
          for (let at = 0; at < MIB; at++) if (read[at] !== content[at]) wrongBytes++;
      }
      process.stdout.write(`progress ${index + 1}\n`);
    }
    if (mode === 'write') timed(() => fsyncSync(file));
    timed(() => closeSync(file));
    return report();
  } catch (thrown) {
    return report((thrown as { code?: string }).code ?? String(thrown));
  }
}

const [mode, path, count, seed] = process.argv.slice(2);
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.stdout.write(
    `${JSON.stringify(run(mode as string, path as string, Number(count), Number(seed)))}\n`,
  );
}
