/** Where things are in a data directory. See docs/formats/chunk-store.md. */

export const SHARD_COUNT = 256;

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

export class Layout {
  readonly root: string;
  readonly superblock: string;
  readonly scrub: string;
  readonly lock: string;
  readonly journal: string;
  readonly chunks: string;

  constructor(root: string) {
    this.root = root;
    this.superblock = `${root}/superblock`;
    this.scrub = `${root}/scrub`;
    this.lock = `${root}/disk.lock`;
    this.journal = `${root}/journal`;
    this.chunks = `${root}/chunks`;
  }

  /** The directory that the root is a name in. */
  get parent(): string {
    return this.root.replace(/\/+[^/]+\/*$/, '') || '/';
  }

  /** Subfolder of a chunk, by the low byte of its handle, so that no folder grows large. */
  shard(handle: number): string {
    return `${this.chunks}/${hex(handle % SHARD_COUNT, 2)}`;
  }

  allShards(): string[] {
    return Array.from({ length: SHARD_COUNT }, (_, shard) => this.shard(shard));
  }

  chunkFile(handle: number): string {
    return `${this.shard(handle)}/${hex(handle, 14)}.chunk`;
  }

  sidecar(handle: number): string {
    return `${this.shard(handle)}/${hex(handle, 14)}.sums`;
  }

  segment(number: number): string {
    return `${this.journal}/${hex(number, 14)}.log`;
  }
}

export type StoredName = {
  readonly kind: 'chunk' | 'sidecar' | 'temporary' | 'segment';
  readonly number: number;
};

const kinds = { chunk: 'chunk', sums: 'sidecar', log: 'segment' } as const;

/** What a file name in a shard or in the journal says; undefined for a stranger's. */
export function parseName(name: string): StoredName | undefined {
  if (name.endsWith('.new') || name.endsWith('.copying')) return { kind: 'temporary', number: 0 };
  const match = /^([0-9a-f]{14})\.(chunk|sums|log)$/.exec(name);
  if (match === null) return undefined;
  return { kind: kinds[match[2] as keyof typeof kinds], number: Number.parseInt(match[1] as string, 16) };
}
