/** The identity of a data directory. */
import type { Disk } from '../../environment/ports/index.js';
import { readWhole, replaceFile } from './files.js';
import type { Layout } from './layout.js';
import { sealed, unsealed } from './sealed-json.js';

export const STORE_FORMAT = 1;
const NAME = 'gfs chunkserver data';

export interface Superblock {
  readonly serverId: string;
  /** Empty until the server has joined a cluster. */
  readonly clusterId: string;
  /** 0 until then. */
  readonly chunkBytes: number;
  /** The newest term of a master that it has served: it serves none of an older one. */
  readonly term: number;
  /** Boot of the host under which the directory was last in use. */
  readonly bootId: number;
  /** Whether everything was flushed when it was last closed: then another boot has lost nothing. */
  readonly clean: boolean;
}

type Stored = Omit<Superblock, 'term'> & {
  readonly name: string;
  readonly format: number;
  /** Missing in old ones. */
  readonly term?: number;
};

/** @throws Error that names the file, when it is damaged or another version's */
export async function readSuperblock(disk: Disk, layout: Layout): Promise<Superblock | undefined> {
  const raw = await readWhole(disk, layout.superblock);
  if (raw === undefined) return undefined;
  const content = unsealed<Stored>(raw);
  if (content === undefined) throw new Error(`${layout.superblock}: damaged (checksum)`);
  const { name, format, serverId, clusterId, chunkBytes, term = 0, bootId, clean } = content;
  if (name !== NAME) throw new Error(`${layout.superblock}: not a chunkserver's`);
  if (format !== STORE_FORMAT) {
    throw new Error(`${layout.superblock}: format ${format}, this version reads ${STORE_FORMAT}`);
  }
  return { serverId, clusterId, chunkBytes, term, bootId, clean };
}

export async function writeSuperblock(disk: Disk, layout: Layout, superblock: Superblock): Promise<void> {
  const content = { name: NAME, format: STORE_FORMAT, ...superblock };
  await replaceFile(disk, layout.superblock, [sealed(content)]);
  await disk.syncDirectory(layout.root);
}
