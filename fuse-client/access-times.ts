/**
 * When files were last read: the kernel leaves atime to the file system. By relatime's rule, as local disks
 * have it: only where the last read would else be older than the last change, or than a day. The master
 * hears of it a moment later, of many files at once; this mount shows it at once.
 */
import { LRUCache } from 'lru-cache';
import type { GfsClient } from '../client/index.js';
import type { Environment, Timer, WallTime } from '../environment/ports/index.js';
import { MAX_ACCESSES } from '../protocol/limits.js';
import { type Attributes, NoteAccess } from '../protocol/messages/index.js';
import { isLater } from '../protocol/times.js';

const TELL_DELAY_MS = 1_000;
const DAY_SEC = 24 * 3600;
/** Reads that are shown here before the attributes from the master say so. */
const MAX_REMEMBERED = 65_536;

export type AccessTimePolicy = 'relatime' | 'strictatime' | 'noatime';

interface Access {
  readonly time: WallTime;
  /**
   * The times that were there before: what the master had until it was told, and what our copy says for longer.
   * Anything else was set. Undefined where the master has told none yet, empty where it knows of this one.
   */
  before: readonly WallTime[] | undefined;
}

export class AccessTimes {
  readonly #environment: Environment;
  readonly #client: GfsClient;
  readonly #policy: AccessTimePolicy;
  readonly #shown = new LRUCache<number, Access>({ max: MAX_REMEMBERED });
  readonly #pending = new Map<number, WallTime>();
  /** What the master is being told of them. */
  readonly #underWay = new Map<number, Promise<void>>();
  #timer: Timer | undefined;

  constructor(environment: Environment, client: GfsClient, policy: AccessTimePolicy) {
    this.#environment = environment;
    this.#client = client;
    this.#policy = policy;
    client.metadata.listen({
      // Another mount may have set them. Where it changed something else the next read counts again.
      onBroken: ({ attributes }) => {
        for (const id of attributes) void this.forget(id);
        return undefined;
      },
      onLost: () => undefined,
    });
  }

  /** It is being read. @returns whether its atime is another one now */
  note(id: number): boolean {
    if (this.#policy === 'noatime') return false;
    const time = this.#client.master.time.now();
    const known = this.#client.metadata.known(id);
    if (this.#policy === 'relatime' && !this.#isDue(id, known, time)) return false;
    this.#shown.set(id, { time, before: this.#before(id, known) });
    this.#pending.set(id, time);
    this.#timer ??= this.#environment.timers.after(TELL_DELAY_MS, () => {
      this.#timer = undefined;
      void this.tell();
    });
    if (this.#pending.size >= MAX_ACCESSES) void this.tell();
    return true;
  }

  #before(id: number, known: Attributes | undefined): Access['before'] {
    if (this.#pending.has(id)) return this.#shown.get(id)?.before;
    return known === undefined ? undefined : [accessTimeOf(known), accessTimeOf(this.correct(known))];
  }

  /** Without attributes at hand the master decides; it is asked once, and then again only after a change. */
  #isDue(id: number, known: Attributes | undefined, now: WallTime): boolean {
    if (known === undefined) return !this.#shown.has(id);
    const { atimeSec, atimeNsec, mtimeSec, mtimeNsec, ctimeSec, ctimeNsec } = this.correct(known);
    return (
      !isLater(atimeSec, atimeNsec, mtimeSec, mtimeNsec) ||
      !isLater(atimeSec, atimeNsec, ctimeSec, ctimeNsec) ||
      now.sec - atimeSec >= DAY_SEC
    );
  }

  /**
   * Its times are set: what was read before does not count.
   * @returns what has to be waited for before they are, so that the master does not hear of a read after that
   */
  forget(id: number): Promise<void> | undefined {
    this.#shown.delete(id);
    this.#pending.delete(id);
    return this.#underWay.get(id);
  }

  /** The attributes with what was read here and the master need not have told yet. */
  correct(attributes: Attributes): Attributes {
    const access = this.#shown.size === 0 ? undefined : this.#shown.get(attributes.id);
    if (access === undefined) return attributes;
    const { time } = access;
    if (!isLater(time.sec, time.nsec, attributes.atimeSec, attributes.atimeNsec)) return attributes;
    access.before ??= [accessTimeOf(attributes)];
    if (access.before.every((one) => isOther(one, attributes.atimeSec, attributes.atimeNsec))) {
      // Neither what was there before nor a later read: it was set, from another mount.
      if (access.before.length > 0) void this.forget(attributes.id);
      return attributes;
    }
    return { ...attributes, atimeSec: time.sec, atimeNsec: time.nsec };
  }

  /** Tells the master what it has not heard of. A failure loses times of access, nothing else. */
  async tell(): Promise<void> {
    const told = [...this.#pending].slice(0, MAX_ACCESSES);
    if (told.length === 0) return;
    for (const [id] of told) this.#pending.delete(id);
    const telling = this.#tell(told);
    for (const [id] of told) this.#underWay.set(id, telling);
    await telling;
    for (const [id, time] of told) {
      if (this.#underWay.get(id) === telling) this.#underWay.delete(id);
      const shown = this.#shown.get(id);
      if (shown?.time !== time) continue;
      if (this.#client.metadata.known(id) === undefined) this.#shown.set(id, { time, before: [] });
    }
  }

  async #tell(told: readonly (readonly [id: number, time: WallTime])[]): Promise<void> {
    const items = told.map(([id, { sec, nsec }]) => ({ id, sec, nsec }));
    try {
      await this.#client.master.mutate(NoteAccess, { items });
    } catch (err) {
      this.#environment.logger.warn({ err, files: items.length }, 'times of access are lost');
    }
  }

  /** Before the end. */
  async settle(): Promise<void> {
    this.#timer?.cancel();
    while (this.#pending.size > 0) await this.tell();
  }
}

function accessTimeOf({ atimeSec, atimeNsec }: Attributes): WallTime {
  return { sec: atimeSec, nsec: atimeNsec };
}

function isOther(time: WallTime, sec: number, nsec: number): boolean {
  return time.sec !== sec || time.nsec !== nsec;
}
