/**
 * Has the kernel forget what is no longer true, and tells when it has. Writing such a notification blocks while
 * the kernel waits for an answer about the same directory (INVAL_ENTRY) or for the same pages (INVAL_INODE), and
 * that answer may wait for the very mutation whose author waits for us. So nobody waits for a notification
 * while such a request is under way: all names are declared old at once, which does not block (Linux 6.16), or
 * on older kernels the names are forgotten a moment later.
 */
import type { Timer, Timers } from '../../environment/ports/index.js';
import type { Stale } from '../handler.js';
import { invalidateEntryMessage, invalidateInodeMessage, type Notices } from './notices.js';
import type { Session } from './session.js';

/** How long a notification may take before it is asked what holds it up. */
const PATIENCE_MS = 10;
/** More nodes than this are told to forget once more only when the kernel has taken the first notifications. */
const MAX_NODES_AT_ONCE = 1_024;
/** A name that no directory needs to have. */
const NO_NAME = '\x01';
/** More names than this are forgotten by declaring all of them old. */
const MAX_SINGLE_NAMES = 64;

export class Invalidation {
  readonly #session: Session;
  readonly #notices: Notices;
  readonly #timers: Timers;

  constructor(session: Session, notices: Notices, timers: Timers) {
    this.#session = session;
    this.#notices = notices;
    this.#timers = timers;
  }

  /** Resolves when the kernel has forgotten it, or would do so only after requests that are under way. */
  async forget({ entries, attributes, data, allEntries, directories }: Stale): Promise<void> {
    const nodes = [...attributes, ...data];
    const waits: Promise<void>[] = [];
    // Attributes first: nothing holds these up.
    for (const inode of nodes) {
      this.#session.changedElsewhere(inode);
      waits.push(this.#notices.send(invalidateInodeMessage(inode, -1, 0)));
    }
    const isHeldUp = this.#session.waitsForNames;
    const free = directories.filter((directory) => !this.#session.waitsForNamesIn(directory));
    const expireAll =
      allEntries ||
      entries.length > MAX_SINGLE_NAMES ||
      (isHeldUp && entries.length > 0) ||
      free.length < directories.length;
    if (!(expireAll && this.#session.expireEntries())) {
      for (const { parent, name } of entries) {
        const sent = this.#notices.send(invalidateEntryMessage(parent, name));
        if (!isHeldUp) waits.push(sent);
      }
    }
    for (const inode of data) {
      const sent = this.#notices.send(invalidateInodeMessage(inode, 0, 0));
      if (!this.#session.isReading(inode)) waits.push(sent);
    }
    if (free.length > 0) {
      if (nodes.length > MAX_NODES_AT_ONCE) await this.#unlessHeldUp(Promise.all(waits.splice(0)), data);
      waits.push(...this.#forgetWhatIsTakenIn(free, nodes));
    }
    if (waits.length > 0) await this.#unlessHeldUp(Promise.all(waits), data);
  }

  /**
   * An answer that tells of a node for the first time may have left, and the kernel be about to take it in: what it is
   * told to forget of an inode that it does not have yet, it will believe afterwards. Until it has taken it in it holds
   * the directory, which a notification about any name waits for; then it has the inode, and can forget.
   */
  #forgetWhatIsTakenIn(directories: readonly number[], nodes: readonly number[]): Promise<void>[] {
    return [
      ...directories.map((parent) => this.#notices.send(invalidateEntryMessage(parent, NO_NAME))),
      ...nodes.map((inode) => this.#notices.send(invalidateInodeMessage(inode, -1, 0))),
    ];
  }

  async #unlessHeldUp(done: Promise<unknown>, data: readonly number[]): Promise<void> {
    let timer: Timer | undefined;
    const heldUp = new Promise<void>((resolve) => {
      timer = this.#timers.every(PATIENCE_MS, () => {
        if (!this.#session.waitsForNames && !data.some((inode) => this.#session.isReading(inode))) return;
        this.#session.expireEntries();
        resolve();
      });
    });
    await Promise.race([done, heldUp]);
    timer?.cancel();
  }
}
