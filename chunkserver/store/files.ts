import type { Disk } from '../../environment/ports/index.js';

export function isMissing(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'ENOENT';
}

/** A whole file, or undefined when it is not there. */
export async function readWhole(disk: Disk, path: string): Promise<Buffer | undefined> {
  let file: Awaited<ReturnType<Disk['open']>>;
  try {
    file = await disk.open(path, 'read');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    const buffer = Buffer.alloc(await file.sizeBytes());
    const got = await file.read(buffer, 0);
    return buffer.subarray(0, got);
  } finally {
    await file.close();
  }
}

/**
 * A whole file that is expected to have at most `expectedBytes`, with as few calls as can be.
 * Undefined when it is not there.
 */
export async function readSmall(
  disk: Disk,
  path: string,
  expectedBytes: number,
): Promise<Buffer | undefined> {
  let file: Awaited<ReturnType<Disk['open']>>;
  try {
    file = await disk.open(path, 'read');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  const buffer = Buffer.allocUnsafe(expectedBytes + 1);
  let got: number;
  try {
    got = await file.read(buffer, 0);
  } finally {
    // Nobody has to wait for a file that was only read to be closed.
    file.close().catch(() => undefined);
  }
  return got <= expectedBytes ? buffer.subarray(0, got) : readWhole(disk, path);
}

/**
 * Replaces a file so that a crash leaves the old one or the new one. The rename itself survives the
 * host once its directory has been synced.
 */
export async function replaceFile(disk: Disk, path: string, buffers: readonly Uint8Array[]): Promise<void> {
  const temporary = `${path}.new`;
  const file = await disk.open(temporary, 'create');
  try {
    await file.truncate(0);
    await file.write(buffers, 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, path);
}

export async function removeIfThere(disk: Disk, path: string): Promise<void> {
  try {
    await disk.remove(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Runs `work` on every item, at most `limit` at a time. The first error wins, after those under way have ended. */
export async function forEachLimited<T>(
  items: Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failed = false;
  const worker = async (): Promise<void> => {
    for (let next = iterator.next(); !next.done && !failed; next = iterator.next()) {
      try {
        await work(next.value);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const settled = await Promise.allSettled(Array.from({ length: limit }, worker));
  for (const outcome of settled) if (outcome.status === 'rejected') throw outcome.reason;
}
