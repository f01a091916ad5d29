/** What a data directory belongs to, and whether its log is a master's or a shadow's. */
import type { Disk, Random } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import type { Member } from '../protocol/messages/index.js';

const FORMAT = 'gfs-master';
const FORMAT_VERSION = 1;
const CLUSTER_ID_DIGITS = 32;
export const MEMBER_ID_DIGITS = 16;
const MAX_BYTES = 64 * 1024;

export interface Superblock {
  readonly clusterId: string;
  readonly chunkBytes: number;
  /** This directory's own, among the copies of the log. */
  readonly id: string;
  /** Of a master: the term that it serves in. Of a shadow: the newest that it has promised to follow. */
  term: number;
  role: 'master' | 'shadow';
  /** A shadow that was made the master: `gfs shadow` starts it as that. */
  promoted: boolean;
  /** Of a shadow: to whom it has promised `term`, where it was asked. */
  promisedTo?: Member | undefined;
  /** Of a shadow: its log is being thrown away for a newer one, and what there is of it is nothing. */
  resyncing?: boolean | undefined;
  /** Of a master: who serves now, in a later term. It never serves again. */
  replacedBy?: Member | undefined;
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
  const superblock = await readSuperblock(disk, directory);
  if (superblock !== undefined) {
    if (superblock.chunkBytes === chunkBytes) return superblock;
    const message = `${path}: the cluster has chunks of ${superblock.chunkBytes} bytes, the configuration says ${chunkBytes}`;
    throw new DataDirectoryError(message);
  }
  if (names.includes('log'))
    throw new DataDirectoryError(`${path} is missing, but there is an operation log`);
  const clusterId = random.hex(CLUSTER_ID_DIGITS);
  return makeSuperblock(disk, random, directory, { clusterId, chunkBytes, role: 'master' });
}

/** The first of a directory. */
export async function makeSuperblock(
  disk: Disk,
  random: Random,
  directory: string,
  identity: Pick<Superblock, 'clusterId' | 'chunkBytes' | 'role'> & { readonly id?: string },
): Promise<Superblock> {
  const superblock = { id: random.hex(MEMBER_ID_DIGITS), ...identity, term: 1, promoted: false };
  await saveSuperblock(disk, directory, superblock);
  // The directory itself may be new: it must not be gone after a power failure, and a new cluster in its place.
  await disk.syncDirectory(parentOf(directory));
  return superblock;
}

/** Undefined when there is none. @throws DataDirectoryError */
export async function readSuperblock(disk: Disk, directory: string): Promise<Superblock | undefined> {
  const path = `${directory}/superblock.json`;
  if (!(await disk.list(directory)).includes('superblock.json')) return undefined;
  return parse(await readWhole(disk, path), path);
}

/** The superblock of a running process: one change at a time, each durable before anybody sees it. */
export class SuperblockKeeper {
  readonly current: Superblock;
  readonly #disk: Disk;
  readonly #directory: string;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  #standsFor = 0;

  constructor(disk: Disk, directory: string, superblock: Superblock) {
    this.#disk = disk;
    this.#directory = directory;
    this.current = superblock;
  }

  /**
   * @param change what becomes of it, by what it is when its turn comes; undefined: nothing
   * @returns whether it was changed
   * @throws NOT_READY: somebody else keeps it now
   */
  update(change: (now: Superblock) => Partial<Superblock> | undefined): Promise<boolean> {
    if (this.#isClosed) return Promise.reject(new GfsError('NOT_READY', 'this shadow becomes the master'));
    const updating = this.#last.then(async () => {
      const changes = change(this.current);
      if (changes === undefined) return false;
      await saveSuperblock(this.#disk, this.#directory, { ...this.current, ...changes });
      Object.assign(this.current, changes);
      return true;
    });
    this.#last = updating.catch(() => undefined);
    return updating;
  }

  /** The term that others are being asked for on behalf of this one, which so promises it to nobody else; 0: none. */
  get standsFor(): number {
    return this.#standsFor;
  }

  /** @returns whether it may ask for the term: nothing as new has been promised */
  async stand(term: number): Promise<boolean> {
    await this.update((now) => {
      if (term > now.term) this.#standsFor = term;
      return undefined;
    });
    return this.#standsFor === term;
  }

  /** It was won, or given up. */
  sitDown(): void {
    this.#standsFor = 0;
  }

  /** Nothing is changed any more by this one: another begins with what the file says then. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#last;
  }
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

/** Replaces it, durably. */
export async function saveSuperblock(disk: Disk, directory: string, superblock: Superblock): Promise<void> {
  const path = `${directory}/superblock.json`;
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
  const { clusterId, chunkBytes, term, role = 'master', promoted = false, promisedTo, replacedBy } = raw;
  // The first masters had none, and there was one in a cluster.
  const id = raw.id ?? String(clusterId).slice(0, MEMBER_ID_DIGITS);
  if (
    typeof clusterId !== 'string' ||
    clusterId.length !== CLUSTER_ID_DIGITS ||
    !isCount(chunkBytes) ||
    !isCount(term) ||
    !isShortText(id) ||
    (role !== 'master' && role !== 'shadow') ||
    typeof promoted !== 'boolean' ||
    !isMember(promisedTo) ||
    !isMember(replacedBy)
  ) {
    throw new DataDirectoryError(`${path} is damaged`);
  }
  const resyncing = raw.resyncing === true;
  return { clusterId, chunkBytes, id, term, role, promoted, promisedTo, resyncing, replacedBy };
}

function isShortText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= 64;
}

function isMember(value: unknown): value is Member | undefined {
  if (value === undefined) return true;
  const { id, host, port } = (value ?? {}) as Record<string, unknown>;
  return isShortText(id) && typeof host === 'string' && typeof port === 'number';
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/** The directory that a path is in. */
export function parentOf(directory: string): string {
  const at = directory.replace(/\/+$/, '').lastIndexOf('/');
  return at < 0 ? '.' : directory.slice(0, at) || '/';
}
