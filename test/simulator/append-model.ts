/** A file that all workers append to: what was acknowledged is there, whole, once, where it was said to be. */
import type { FakeRandom } from '../fakes/index.js';

const MAGIC = Buffer.from('<record>');
const HEAD_BYTES = MAGIC.byteLength + 8;

interface Acknowledged {
  readonly id: number;
  readonly offset: number;
  readonly record: Uint8Array;
  synced: boolean;
}

export class AppendModel {
  #nextId = 1;
  readonly #acknowledged: Acknowledged[] = [];
  /** A host crash takes what was not flushed, in whatever pieces. */
  #mayBeTorn = false;

  get count(): number {
    return this.#acknowledged.length;
  }

  /** A record that nobody else has: magic, id, length, bytes that follow from the id. */
  make(random: FakeRandom, maxBytes: number): { readonly id: number; readonly record: Buffer } {
    const id = this.#nextId++;
    const record = Buffer.alloc(HEAD_BYTES + random.below(maxBytes - HEAD_BYTES));
    MAGIC.copy(record);
    record.writeUInt32LE(id, MAGIC.byteLength);
    record.writeUInt32LE(record.byteLength, MAGIC.byteLength + 4);
    for (let at = HEAD_BYTES; at < record.byteLength; at++) record[at] = (id * 31 + at * 7) & 0xff;
    return { id, record };
  }

  acknowledged(id: number, offset: number, record: Uint8Array): void {
    this.#acknowledged.push({ id, offset, record, synced: false });
  }

  synced(ids: ReadonlySet<number>): void {
    for (const entry of this.#acknowledged) if (ids.has(entry.id)) entry.synced = true;
  }

  /** What was not flushed to disk may be gone: it is not asked for any more. */
  hostCrashed(): void {
    this.#mayBeTorn = true;
    for (const entry of this.#acknowledged.splice(0)) if (entry.synced) this.#acknowledged.push(entry);
  }

  /** What a read that begins now has to show, unless a host crash takes it away meanwhile. */
  expected(): readonly Acknowledged[] {
    return [...this.#acknowledged];
  }

  /** @returns what is wrong with what was read, if anything is */
  check(expected: readonly Acknowledged[], seen: Uint8Array): string | undefined {
    const bytes = Buffer.from(seen.buffer, seen.byteOffset, seen.byteLength);
    const counts = new Map<number, number>();
    for (let at = bytes.indexOf(MAGIC); at >= 0; at = bytes.indexOf(MAGIC, at + 1)) {
      if (at + HEAD_BYTES > bytes.byteLength) break;
      const id = bytes.readUInt32LE(at + MAGIC.byteLength);
      counts.set(id, (counts.get(id) ?? 0) + 1);
      const torn = this.#mayBeTorn ? undefined : tornAt(bytes, at, id);
      if (torn !== undefined) return `record ${id} at ${at} is torn at ${torn} of ${bytes.byteLength} bytes`;
    }
    const still = new Set(this.#acknowledged);
    for (const entry of expected) {
      if (!still.has(entry)) continue;
      const { id, offset, record } = entry;
      const there = bytes.subarray(offset, offset + record.byteLength);
      if (Buffer.compare(there, record) !== 0) {
        return `record ${id}, ${record.byteLength} bytes, is not at ${offset} of ${bytes.byteLength} bytes`;
      }
      if ((counts.get(id) ?? 0) > 1) return `record ${id} is there ${counts.get(id)} times`;
    }
    return undefined;
  }
}

/** The first byte of a record that is not its own, acknowledged or not. */
function tornAt(bytes: Buffer, at: number, id: number): number | undefined {
  const length = bytes.readUInt32LE(at + MAGIC.byteLength + 4);
  for (let i = HEAD_BYTES; i < length; i++) if (bytes[at + i] !== ((id * 31 + i * 7) & 0xff)) return at + i;
  return undefined;
}
