/** What the sidecars have besides their heads, checksums and results, in memory for the chunks in use. */
import type { Disk } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import type { Chunk } from './chunk.js';
import { readWhole } from './files.js';
import type { Layout } from './layout.js';
import { decodeSidecarBody, decodeSidecarHead } from './sidecar.js';

/** Kept for chunks that are not being changed; 4 KiB each for a full chunk. */
const MAX_VECTORS = 4096;

export class VectorCache {
  readonly #disk: Disk;
  readonly #layout: Layout;
  readonly #isDirty: (chunk: Chunk) => boolean;
  /** In order of use, the longest unused first. */
  readonly #loaded = new Map<number, Chunk>();
  readonly #loading = new Map<number, Promise<void>>();

  /** @param isDirty whether the chunk's state is newer than its sidecar: then it must stay */
  constructor(disk: Disk, layout: Layout, isDirty: (chunk: Chunk) => boolean) {
    this.#disk = disk;
    this.#layout = layout;
    this.#isDirty = isDirty;
  }

  /** @throws CHUNK_CORRUPT when the sidecar is damaged */
  async load(chunk: Chunk): Promise<void> {
    const { handle, state } = chunk;
    this.#use(chunk);
    if (state.checksums !== undefined) return;
    let loading = this.#loading.get(handle);
    if (loading === undefined) {
      loading = this.#read(chunk).finally(() => this.#loading.delete(handle));
      this.#loading.set(handle, loading);
    }
    await loading;
    this.#evict();
  }

  /** A chunk whose sidecar is up to date again. */
  settled(chunk: Chunk): void {
    this.#use(chunk);
    this.#evict();
  }

  forget(handle: number): void {
    this.#loaded.delete(handle);
  }

  #use(chunk: Chunk): void {
    this.#loaded.delete(chunk.handle);
    this.#loaded.set(chunk.handle, chunk);
  }

  async #read(chunk: Chunk): Promise<void> {
    const raw = await readWhole(this.#disk, this.#layout.sidecar(chunk.handle));
    const head = raw === undefined ? undefined : decodeSidecarHead(raw);
    const body = head === undefined ? undefined : decodeSidecarBody(raw as Buffer);
    if (body === undefined) throw new GfsError('CHUNK_CORRUPT', `chunk ${chunk.handle}: damaged sidecar`);
    chunk.state.setBody(body);
  }

  #evict(): void {
    let excess = this.#loaded.size - MAX_VECTORS;
    if (excess <= 0) return;
    for (const [handle, chunk] of this.#loaded) {
      if (excess-- <= 0) return;
      // One that is dirty comes back in here when it has been checkpointed.
      this.#loaded.delete(handle);
      if (!this.#isDirty(chunk)) chunk.state.unload();
    }
  }
}
