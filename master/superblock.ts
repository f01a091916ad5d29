/** What a data directory belongs to: made once, before the first segment of the operation log. */
import type { Disk, Random } from '../environment/ports/index.js';

const FORMAT = 'gfs-master';
const FORMAT_VERSION = 1;
const CLUSTER_ID_DIGITS = 32;
const MAX_BYTES = 64 * 1024;

export interface Superblock {
  readonly clusterId: string;
  readonly chunkBytes: number;
  /** The term that this data directory's master serves in. */
  readonly term: number;
}

/** The data directory cannot be used as it is; the message tells the user why. */
export class DataDirectoryError extends Error {
  override readonly name = 'DataDirectoryError';
}

/** Reads the superblock of a data directory, or makes one in an empty directory. @throws DataDirectoryError */
export async function openSuperblock(
  disk: Disk,
  random: Random,
  directory: string,
  chunkBytes: number,
): Promise<Superblock> {
  const path = `${directory}/superblock.json`;
  const names = await disk.list(directory);
  if (names.includes('superblock.json')) {
    const superblock = parse(await readWhole(disk, path), path);
    if (superblock.chunkBytes === chunkBytes) return superblock;
    const message = `${path}: the cluster has chunks of ${superblock.chunkBytes} bytes, the configuration says ${chunkBytes}`;
    throw new DataDirectoryError(message);
  }
  if (names.includes('log'))
    throw new DataDirectoryError(`${path} is missing, but there is an operation log`);
  const superblock = { clusterId: random.hex(CLUSTER_ID_DIGITS), chunkBytes, term: 1 };
  await write(disk, directory, path, superblock);
  // The directory itself may be new: it must not be gone after a power failure, and a new cluster in its place.
  await disk.syncDirectory(parentOf(directory));
  return superblock;
}

async function readWhole(disk: Disk, path: string): Promise<string> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = Buffer.alloc(Math.min(await file.sizeBytes(), MAX_BYTES));
    await file.read(bytes, 0);
    return bytes.toString('utf8');
  } finally {
    await file.close();
  }
}

async function write(disk: Disk, directory: string, path: string, superblock: Superblock): Promise<void> {
  const body = { format: FORMAT, version: FORMAT_VERSION, features: [], ...superblock };
  const file = await disk.open(`${path}.new`, 'create');
  try {
    await file.truncate(0);
    await file.write([Buffer.from(`${JSON.stringify(body, undefined, 2)}\n`)], 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(`${path}.new`, path);
  await disk.syncDirectory(directory);
}

function parse(text: string, path: string): Superblock {
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw new DataDirectoryError(`${path} is damaged: it is not JSON`, { cause });
  }
  if (raw.format !== FORMAT) throw new DataDirectoryError(`${path} is not of a master's data directory`);
  if (raw.version !== FORMAT_VERSION) {
    throw new DataDirectoryError(
      `${path} has format version ${raw.version}, this master reads ${FORMAT_VERSION}`,
    );
  }
  const features = raw.features;
  if (!Array.isArray(features) || features.length > 0) {
    throw new DataDirectoryError(
      `${path} uses features that this master does not know: ${JSON.stringify(features)}`,
    );
  }
  const { clusterId, chunkBytes, term } = raw;
  if (
    typeof clusterId !== 'string' ||
    clusterId.length !== CLUSTER_ID_DIGITS ||
    !isCount(chunkBytes) ||
    !isCount(term)
  ) {
    throw new DataDirectoryError(`${path} is damaged`);
  }
  return { clusterId, chunkBytes, term };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/** The directory that a path is in. */
export function parentOf(directory: string): string {
  const at = directory.replace(/\/+$/, '').lastIndexOf('/');
  return at < 0 ? '.' : directory.slice(0, at) || '/';
}
