/** What the kernel is shown of a node: as this mount knows it now, with how long that may be believed. */
import { ABSENT, type GfsClient } from '../client/index.js';
import type { Attributes } from '../protocol/messages/index.js';
import type { AccessTimes } from './access-times.js';
import { type AttributeReply, type ByteString, type Entry, NoSuchName } from './handler.js';
import type { InodeMap } from './inodes.js';
import type { KernelCopies } from './kernel-copies.js';

export class Entries {
  readonly #client: GfsClient;
  readonly #inodes: InodeMap;
  readonly #copies: KernelCopies;
  readonly #accessTimes: AccessTimes;

  constructor(client: GfsClient, inodes: InodeMap, copies: KernelCopies, accessTimes: AccessTimes) {
    this.#client = client;
    this.#inodes = inodes;
    this.#copies = copies;
    this.#accessTimes = accessTimes;
  }

  /** @param attributes undefined where there is no such name */
  lookedUp(directory: number, name: ByteString, attributes: Attributes | undefined): Entry | NoSuchName {
    if (attributes === undefined) return new NoSuchName(this.#copies.entryTtlMs(directory, name, ABSENT));
    return this.entry(directory, name, attributes);
  }

  entry(parent: number, name: ByteString, attributes: Attributes): Entry {
    const known = this.#client.metadata.known(attributes.id);
    const local = this.#client.withLocalChanges(known ?? attributes);
    return this.#copies.entry(parent, name, attributes.id, this.#shown(local));
  }

  /** Of a file that has no name. */
  nameless(attributes: Attributes): Entry {
    const shown = this.attributes(attributes);
    return {
      attributes: shown.attributes,
      entryTtlMs: 0,
      attributeTtlMs: this.#copies.attributeTtlMs(attributes.id),
    };
  }

  attributes(attributes: Attributes): AttributeReply {
    // Where something is promised, that is what holds: the answer may have been overtaken.
    const known = this.#client.metadata.known(attributes.id);
    return known === undefined
      ? { attributes: this.#shown(attributes), attributeTtlMs: this.#copies.attributeTtlMs(attributes.id) }
      : this.knownAttributes(known);
  }

  /** @param known what is promised */
  knownAttributes(known: Attributes): AttributeReply {
    const attributes = this.#shown(this.#client.withLocalChanges(known));
    return { attributes, attributeTtlMs: this.#copies.attributeTtlMs(known.id) };
  }

  #shown(attributes: Attributes): Attributes {
    const id = this.#inodes.toInode(attributes.id);
    const now = this.#accessTimes.correct(attributes);
    return id === now.id ? now : { ...now, id };
  }
}
