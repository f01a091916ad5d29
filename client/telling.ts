/** What the master is told of one file that is written here: how long it is, and when it was last written to. */
import type { Environment, Timer } from '../environment/ports/index.js';
import {
  type AttributeChanges,
  type Attributes,
  ExtendFile,
  SetAttributes,
} from '../protocol/messages/index.js';
import { isLater } from '../protocol/times.js';
import type { DataVersions } from './data-versions.js';
import type { FileLength } from './file-length.js';
import type { Locations } from './locations.js';
import type { CallContext } from './retry.js';
import type { MasterSession } from './session.js';

/** The master hears of appended bytes within this time, however many appends there were. */
const EXTEND_DELAY_MS = 20;

/** What there is to tell of. */
export interface ToldFile {
  readonly id: number;
  readonly length: FileLength;
  /** The length without the appends that are on their way. */
  readonly arrivedBytes: number;
  /** Appends that were acknowledged are on their way. */
  readonly isAhead: boolean;
  /** Data that was written, and is counted in its length, is on its way. */
  readonly isArriving: boolean;
}

export interface TellingParts {
  readonly environment: Environment;
  readonly session: MasterSession;
  readonly locations: Locations;
  readonly dataVersions: DataVersions;
}

type Written = { readonly size: number; readonly mtimeSec: number; readonly mtimeNsec: number };

export class Telling {
  readonly #file: ToldFile;
  readonly #parts: TellingParts;
  /** As the master told when the file was opened, or after the last change from here. */
  dataVersion: number;
  /** The length that the master has, as far as we know: others may have made it longer since. */
  #toldBytes: number;
  /** Written to since the master last heard of it. */
  #changed = false;
  /** Some of what the master last heard of was still on its way: who looked before it arrived has something else. */
  #toldAhead = false;
  /** How often it was changed from here. */
  #changes = 0;
  /** When it was last written to from here, by the master's clock. */
  #writtenAt = { sec: 0, nsec: 0 };
  /** And somebody was shown that time, which the master has not heard of. */
  #timeIsShown = false;
  #timer: Timer | undefined;
  /** The master will ask for the length before it tells it to anybody. */
  #mayDefer = false;
  /** And nobody else can append: appends are acknowledged before they are sent. */
  #isAlone = false;
  /** Counts what takes {@link #mayDefer} back, so that an answer is known to be older. */
  #revocations = 0;
  /** Operations on the whole file (truncation, telling the master its length), one after another. */
  #lane: Promise<unknown> = Promise.resolve();

  constructor(file: ToldFile, size: number, dataVersion: number, parts: TellingParts) {
    this.#file = file;
    this.#toldBytes = size;
    this.dataVersion = dataVersion;
    this.#parts = parts;
  }

  /** There is something that the master has not heard of, or that others have not heard of since it arrived. */
  get isDue(): boolean {
    return this.#changed || this.wasToldAhead;
  }

  /** The master heard of data before it arrived, and may have told others. */
  get wasToldAhead(): boolean {
    return this.#toldAhead && !this.mayDefer;
  }

  /** Nobody else knows the file's state without our having been asked. */
  get mayDefer(): boolean {
    return this.#mayDefer && this.#isTrusted;
  }

  /** {@link mayDefer}, and nobody else can append. */
  get isAlone(): boolean {
    return this.#isAlone && this.#isTrusted;
  }

  get #isTrusted(): boolean {
    const { session, environment } = this.#parts;
    return session.trustedUntilMs > environment.clock.monotonicMs();
  }

  /** It is longer than the master knows. */
  get hasGrown(): boolean {
    return this.#file.length.bytes > this.#toldBytes;
  }

  /** Somebody was shown a time that the master has not heard of. */
  get timeIsShown(): boolean {
    return this.#timeIsShown;
  }

  noteTime(): void {
    this.#writtenAt = this.#parts.session.time.now();
  }

  noteChange(): void {
    this.#changed = true;
    this.#changes++;
  }

  /** What the master told, with what was changed from here and it does not know; that is shown to somebody. */
  show(attributes: Attributes): Attributes {
    const size = this.#file.length.bytes;
    if (!this.#changed) return size === attributes.size ? attributes : { ...attributes, size };
    const { sec, nsec } = this.#writtenAt;
    this.#timeIsShown = true;
    return {
      ...attributes,
      size,
      ...{ mtimeSec: sec, mtimeNsec: nsec },
      ...(isLater(sec, nsec, attributes.ctimeSec, attributes.ctimeNsec)
        ? { ctimeSec: sec, ctimeNsec: nsec }
        : {}),
    };
  }

  /** What was written has arrived. Where nobody could have looked without our hearing of it, nobody has missed it. */
  noteArrived(): void {
    if (this.mayDefer && !this.#file.isArriving) this.#toldAhead = false;
  }

  /** The next append is sent before it is acknowledged. */
  noteOthers(): void {
    this.#isAlone = false;
    this.#revocations++;
  }

  /** The next change is told before it is acknowledged. */
  deferNothing(): void {
    this.#mayDefer = false;
    this.noteOthers();
  }

  /** Within {@link EXTEND_DELAY_MS}, unless it is told before. */
  soon(): void {
    const { timers, logger } = this.#parts.environment;
    this.#timer ??= timers.after(EXTEND_DELAY_MS, () => {
      this.#timer = undefined;
      this.now({}).catch((error) => {
        logger.warn({ err: error, id: this.#file.id }, 'the master has not heard of an append yet');
      });
    });
  }

  /** Has the master know what there is. @param defer what follows may be told later, if the master allows it */
  now(context: CallContext, defer = false): Promise<void> {
    return this.inLane(async () => {
      if (this.isDue) await this.#extend(context, defer);
    });
  }

  /** {@link now}, for one who is in the lane. */
  async nowInLane(context: CallContext): Promise<void> {
    if (this.isDue) await this.#extend(context, false);
  }

  async #extend(context: CallContext, defer: boolean): Promise<void> {
    const revocations = this.#revocations;
    await this.#tell(async (written) => {
      const { attributes, deferred, alone } = await this.#parts.session.mutate(
        ExtendFile,
        { id: this.#file.id, ...written, ...(defer ? { defer } : {}) },
        context,
      );
      if (defer) {
        const isStanding = this.#revocations === revocations;
        this.#mayDefer = isStanding && deferred === true;
        this.#isAlone = isStanding && alone === true;
      }
      return attributes;
    });
  }

  /** In the lane: other attributes, not the length, together with what there is to tell. */
  async withAttributes(changes: AttributeChanges, context: CallContext): Promise<Attributes> {
    const { session } = this.#parts;
    const { id } = this.#file;
    if (!this.isDue) return (await session.mutate(SetAttributes, { id, changes }, context)).attributes;
    return this.#tell(
      async (written) => (await session.mutate(SetAttributes, { id, changes, written }, context)).attributes,
    );
  }

  /** @param tell has the master know the length, and resolves to the attributes after it */
  async #tell(tell: (written: Written) => Promise<Attributes>): Promise<Attributes> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { length } = this.#file;
    const changes = this.#changes;
    const isAhead = this.#file.isArriving;
    // Only its data is new, to those who saw the time that was told with it: they have to see another.
    if (!this.#changed) this.noteTime();
    const { sec, nsec } = this.#writtenAt;
    const size = length.tell(this.#file.arrivedBytes);
    const attributes = await tell({ size, mtimeSec: sec, mtimeNsec: nsec }).catch((error) => {
      length.notTold();
      throw error;
    });
    this.#noteTold(attributes);
    length.told(attributes, this.#file.isAhead);
    this.#toldAhead = isAhead;
    // A write that came meanwhile has to be told too.
    if (this.#changes === changes) {
      this.#changed = false;
      this.#timeIsShown = false;
    }
    return length.bytes > attributes.size ? { ...attributes, size: length.bytes } : attributes;
  }

  /** The master has changed length or chunks for us: what was known before is old, and nothing is left to tell. */
  noteReplaced(attributes: Attributes): void {
    this.#noteTold(attributes);
    this.noteChange();
    this.#file.length.replaced(attributes);
    this.#changed = false;
    this.#toldAhead = this.#file.isArriving;
  }

  #noteTold(attributes: Attributes): void {
    const { size, dataVersion = 0 } = attributes;
    const { dataVersions, locations, session } = this.#parts;
    session.time.met(attributes);
    const { id } = this.#file;
    this.#toldBytes = size;
    // Others changed it as well: a location that came with a lease was not promised.
    if (session.caches && dataVersion > this.dataVersion + 1) locations.noteChangedElsewhere(id);
    this.dataVersion = dataVersion;
    dataVersions.noteOwnChange(id, dataVersion);
  }

  inLane<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#lane.then(work);
    this.#lane = done.catch(() => undefined);
    return done;
  }
}
