/** What the sidecars have besides their heads, checksums and results, in memory for the chunks in use. */
import type { Disk } from '../../environment/ports/index.js';
import { GfsError } from '../../protocol/errors.js';
import { KIB, MIB } from '../../protocol/limits.js';
import type { Chunk } from './chunk.js';
import { readSmall } from './files.js';
import type { Layout } from './layout.js';
import { decodeSidecarBody, decodeSidecarHead, SIDECAR_HEAD_BYTES } from './sidecar.js';
import { blockCount } from './state.js';

/** Memory for chunks that are not being changed. */
const MAX_BYTES = 32 * MIB;
/** What an entry costs beside its checksums, results among it. */
const ENTRY_BYTES = 512;
/** Room for the results of a few sessions, in the first read of a sidecar. */
const EXPECTED_RESULT_BYTES = 4 * KIB;

export class VectorCache {
  readonly #disk: Disk;
  readonly #layout: Layout;
  readonly #isDirty: (chunk: Chunk) => boolean;
  /** In order of use, the longest unused first. */
  readonly #loaded = new Map<number, { readonly chunk: Chunk; readonly sizeBytes: number }>();
  #bytes = 0;
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
    this.#bytes -= this.#loaded.get(handle)?.sizeBytes ?? 0;
    this.#loaded.delete(handle);
  }

  #use(chunk: Chunk): void {
    this.forget(chunk.handle);
    const sizeBytes = ENTRY_BYTES + 4 * blockCount(chunk.state.length);
    this.#loaded.set(chunk.handle, { chunk, sizeBytes });
    this.#bytes += sizeBytes;
  }

  async #read(chunk: Chunk): Promise<void> {
    const expectedBytes = SIDECAR_HEAD_BYTES + 4 * blockCount(chunk.state.length) + EXPECTED_RESULT_BYTES;
    const raw = await readSmall(this.#disk, this.#layout.sidecar(chunk.handle), expectedBytes);
    const head = raw === undefined ? undefined : decodeSidecarHead(raw);
    const body = head === undefined ? undefined : decodeSidecarBody(raw as Buffer);
    if (body === undefined) throw new GfsError('CHUNK_CORRUPT', `chunk ${chunk.handle}: damaged sidecar`);
    chunk.state.setBody(body);
  }

  #evict(): void {
    for (const [handle, { chunk }] of this.#loaded) {
      if (this.#bytes <= MAX_BYTES) return;
      // One that is dirty comes back in here when it has been checkpointed.
      this.forget(handle);
      if (!this.#isDirty(chunk)) chunk.state.unload();
    }
  }
}
