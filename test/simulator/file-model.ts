/**
 * What a file that one worker writes may contain, as the contracts have it. Bytes that were written and
 * not yet acknowledged may be old or new; a flush makes them certain unless a host loses its memory, a
 * sync makes them certain for good.
 */

/** Bytes that may stand at `offset` in place of the current ones. */
interface Layer {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** A host lost its memory since this was overwritten. */
  readonly crashed: boolean;
}

/** What may be seen between the start of a read and its end. */
export interface Watch {
  readonly base: Uint8Array;
  readonly layers: Layer[];
  lowSize: number;
  highSize: number;
}

export class FileModel {
  #content = Buffer.alloc(0);
  /** What unacknowledged writes replaced. */
  #unflushed: Layer[] = [];
  /** What acknowledged writes replaced that may come back with a host crash. */
  #unsynced: Layer[] = [];
  /** What may be there: a write failed, or a host crashed before the sync. */
  #failed: Layer[] = [];
  #lost: Layer[] = [];
  #lowSize = 0;
  #highSize = 0;
  /** Something failed that would have made it longer: it is so only where what is behind that arrived. */
  #mayHaveFailedToGrow = false;
  /** Made of what was not on disk, by a snapshot or another client: a sync of this file need not reach that. */
  #inheritsUnsynced = false;
  readonly #watches = new Set<Watch>();

  /** As the writer sees it. */
  get size(): number {
    return this.#content.byteLength;
  }

  /** Whether its length is known: it is not after a failed flush. */
  get isSizeCertain(): boolean {
    return this.#lowSize === this.#highSize;
  }

  /** Bytes of which it is known that they are on the disks of all replicas; undefined where not everything is. */
  certain(offset: number, length: number): Buffer | undefined {
    const doubts = [this.#unflushed, this.#unsynced, this.#failed, this.#lost];
    if (this.#inheritsUnsynced || doubts.some((layers) => layers.length > 0)) return undefined;
    return Buffer.from(this.#content.subarray(offset, offset + length));
  }

  write(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.byteLength;
    this.#unflushed.push({ offset, bytes: this.#at(offset, end), crashed: false });
    if (end > this.size) this.#resize(end);
    this.#content.set(bytes, offset);
    this.#highSize = Math.max(this.#highSize, end);
    for (const watch of this.#watches) {
      watch.layers.push({ offset, bytes, crashed: false });
      watch.highSize = Math.max(watch.highSize, end);
    }
  }

  flushed(): void {
    for (const layer of this.#unflushed) {
      // Its acknowledgement may be older than the crash, and what it wrote be lost again.
      if (layer.crashed) continue;
      const end = layer.offset + layer.bytes.byteLength;
      // What the write has replaced for certain is what another host crash may bring back.
      this.#unsynced.push(
        ...cutOut(this.#failed, layer.offset, end),
        ...cutOut(this.#lost, layer.offset, end),
      );
    }
    for (const layer of this.#unflushed) (layer.crashed ? this.#lost : this.#unsynced).push(layer);
    this.#lowSize = this.#mayHaveFailedToGrow ? Math.max(this.#lowSize, endOf(this.#unflushed)) : this.size;
    if (this.#lowSize === this.size) {
      this.#highSize = this.size;
      this.#mayHaveFailedToGrow = false;
    }
    this.#unflushed = [];
  }

  flushFailed(): void {
    this.#mayHaveFailedToGrow ||= endOf(this.#unflushed) > this.#lowSize;
    this.#failed.push(...this.#unflushed.splice(0));
  }

  /** The writer was told that what it had written may be lost. */
  syncFailed(): void {
    this.#mayHaveFailedToGrow ||= endOf(this.#unflushed) > this.#lowSize;
    this.#failed.push(...this.#unflushed.splice(0), ...this.#unsynced.splice(0), ...this.#lost.splice(0));
  }

  /** Another client writes it from now on: its sync need not reach what the one before it wrote. */
  handOver(): void {
    this.#inheritsUnsynced ||= this.#unsynced.length + this.#lost.length > 0;
  }

  /** After {@link flushed}. */
  synced(): void {
    if (this.#inheritsUnsynced) return;
    this.#unsynced = [];
    this.#lost = [];
  }

  /** A truncation is asked for: from now on until {@link truncated} both may be seen. */
  truncating(size: number): void {
    const { byteLength } = this.#content;
    const zeros = { offset: size, bytes: new Uint8Array(Math.max(0, byteLength - size)), crashed: false };
    this.#failed.push(zeros);
    this.#lowSize = Math.min(this.#lowSize, size);
    this.#highSize = Math.max(this.#highSize, size);
    for (const watch of this.#watches) {
      watch.layers.push(zeros);
      watch.lowSize = Math.min(watch.lowSize, size);
      watch.highSize = Math.max(watch.highSize, size);
    }
  }

  truncated(size: number): void {
    for (const layers of [this.#unflushed, this.#unsynced, this.#failed, this.#lost]) {
      cutOut(layers, size, Number.MAX_SAFE_INTEGER);
    }
    this.#resize(size);
    this.#lowSize = this.#highSize = size;
    this.#mayHaveFailedToGrow = false;
  }

  /** A chunkserver's host lost what it had not flushed to its disk. */
  hostCrashed(): void {
    for (const watch of this.#watches) watch.layers.push(...this.#unsynced);
    this.#lost.push(...this.#unsynced.splice(0));
    this.#unflushed = this.#unflushed.map((layer) => ({ ...layer, crashed: true }));
  }

  /** A snapshot of it. What was not flushed to disk then never will be through this file. */
  clone(): FileModel {
    const copy = new FileModel();
    copy.#content = Buffer.from(this.#content);
    copy.#unsynced = [...this.#unsynced];
    copy.#failed = [...this.#failed, ...this.#unflushed];
    copy.#lost = [...this.#lost];
    copy.#inheritsUnsynced = this.#inheritsUnsynced || this.#unsynced.length + this.#lost.length > 0;
    copy.#lowSize = this.#lowSize;
    copy.#highSize = this.#highSize;
    copy.#mayHaveFailedToGrow = this.#mayHaveFailedToGrow || endOf(this.#unflushed) > this.#lowSize;
    return copy;
  }

  /** A read begins, by somebody else. */
  watch(): Watch {
    const layers = [...this.#unflushed, ...this.#failed, ...this.#lost];
    const watch = {
      base: Buffer.from(this.#content),
      layers,
      lowSize: this.#lowSize,
      highSize: this.#highSize,
    };
    this.#watches.add(watch);
    return watch;
  }

  /** The read is over. @returns what is wrong with what it gave, if anything is */
  check(watch: Watch, seen: Uint8Array): string | undefined {
    this.#watches.delete(watch);
    return sizeProblem(watch, seen.byteLength) ?? firstWrong(watch, seen);
  }

  /** As {@link check}, of its length alone. */
  checkSize(watch: Watch, size: number): string | undefined {
    this.#watches.delete(watch);
    return sizeProblem(watch, size);
  }

  forget(watch: Watch): void {
    this.#watches.delete(watch);
  }

  /**
   * The writer reads its own file: it sees its own writes, unless one has failed and the next flush is
   * going to say so.
   */
  checkOwn(seen: Uint8Array, writesMayFail: boolean): string | undefined {
    const mayBeShorter = this.#mayHaveFailedToGrow || (writesMayFail && this.#unflushed.length > 0);
    if (seen.byteLength > this.size || seen.byteLength < (mayBeShorter ? this.#lowSize : this.size))
      return `${seen.byteLength} bytes long, where ${this.size} were written`;
    const layers = [...this.#failed, ...this.#lost, ...(writesMayFail ? this.#unflushed : [])];
    return firstWrong({ base: this.#content, layers }, seen);
  }

  #at(from: number, to: number): Uint8Array {
    const bytes = new Uint8Array(to - from);
    if (from < this.size) bytes.set(this.#content.subarray(from, Math.min(to, this.size)));
    return bytes;
  }

  #resize(size: number): void {
    const next = Buffer.alloc(size);
    this.#content.copy(next, 0, 0, Math.min(size, this.size));
    this.#content = next;
  }
}

function endOf(layers: readonly Layer[]): number {
  return layers.reduce((end, { offset, bytes }) => Math.max(end, offset + bytes.byteLength), 0);
}

function sizeProblem({ lowSize, highSize }: Watch, size: number): string | undefined {
  if (size >= lowSize && size <= highSize) return undefined;
  return `${size} bytes long, where ${lowSize} to ${highSize} are possible`;
}

/** Takes a range out of the layers. @returns what was in it */
function cutOut(layers: Layer[], from: number, to: number): Layer[] {
  const taken: Layer[] = [];
  for (const layer of layers.splice(0)) {
    const end = layer.offset + layer.bytes.byteLength;
    const part = (low: number, high: number, into: Layer[]) => {
      if (low >= high) return;
      into.push({
        ...layer,
        offset: low,
        bytes: layer.bytes.subarray(low - layer.offset, high - layer.offset),
      });
    };
    part(layer.offset, Math.min(end, from), layers);
    part(Math.max(layer.offset, from), Math.min(end, to), taken);
    part(Math.max(layer.offset, to), end, layers);
  }
  return taken;
}

function firstWrong({ base, layers }: Pick<Watch, 'base' | 'layers'>, seen: Uint8Array): string | undefined {
  const common = Math.min(base.byteLength, seen.byteLength);
  if (
    Buffer.compare(base.subarray(0, common), seen.subarray(0, common)) === 0 &&
    seen.byteLength === common
  ) {
    return undefined;
  }
  for (let at = 0; at < seen.byteLength; at++) {
    const byte = seen[at];
    if (byte === (at < base.byteLength ? base[at] : 0)) continue;
    const allowed = layers.some(({ offset, bytes }) => bytes[at - offset] === byte);
    if (allowed) continue;
    const possible = layers
      .map(({ offset, bytes }) => bytes[at - offset])
      .filter((other) => other !== undefined);
    return `byte ${at} of ${seen.byteLength} is ${byte}, where ${[base[at] ?? 0, ...possible].join(' or ')} is possible`;
  }
  return undefined;
}
