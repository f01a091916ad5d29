/**
 * Raising a chunk to a new version on its replicas, and making them equal. INVARIANT: a version that is
 * logged with a lease was never sent to a server that is not one of the lease's; else that server could
 * come back with the right version and without the mutations.
 */
import type { Clock, Logger } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { PrepareVersion, RepairReplicas, RevokeLease } from '../protocol/messages/index.js';
import {
  type Answers,
  ASK_DEADLINE_MS,
  areEqual,
  askAll,
  bestSource,
  serversOf,
  termsFor,
} from './asking.js';
import type { Journal } from './journal.js';
import type { Leases } from './leases.js';
import type { ReplicaReports } from './replica-reports.js';
import type { Chunkserver, Replicas } from './replicas.js';
import type { SentVersions } from './sent-versions.js';
import type { ChunkState, LoggedState } from './state.js';

const MAX_ROUNDS = 5;
const REPAIR_DEADLINE_MS = 20_000;
/** A server that a client named twice within this time, for one chunk, is left out of its next lease. */
const STRIKE_MEMORY_MS = 30_000;
const MAX_STRIKES = 4096;
/** A chunkserver that was stopped together with the master is back by then, its journal replayed. */
const SETTLING_MS = 10_000;

export interface RaisedVersion {
  readonly handle: number;
  readonly version: number;
  readonly primary: Chunkserver;
  readonly members: readonly Chunkserver[];
  /** When the primary was told, by the monotonic clock. */
  readonly sentAtMs: number;
  /** To be called once, when the version is logged or was given up. */
  readonly done: (logged: boolean) => void;
}

interface Round {
  readonly version: number;
  readonly members: readonly Chunkserver[];
  readonly primary: Chunkserver;
  readonly sentAtMs: number;
  readonly answers: Answers;
}

export class Raiser {
  readonly #state: LoggedState;
  readonly #journal: Journal;
  readonly #replicas: Replicas;
  readonly #leases: Leases;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #durationMs: number;
  readonly #startedAtMs: number;
  readonly #sent: SentVersions;
  readonly #reports: ReplicaReports;
  /** `handle serverId` → when a client last named it. */
  readonly #strikes = new Map<string, number>();
  readonly #verifying = new Map<number, Promise<void>>();

  constructor(
    state: LoggedState,
    journal: Journal,
    replicas: Replicas,
    leases: Leases,
    sent: SentVersions,
    reports: ReplicaReports,
    environment: { readonly clock: Clock; readonly logger: Logger },
    leaseDurationMs: number,
  ) {
    this.#state = state;
    this.#journal = journal;
    this.#replicas = replicas;
    this.#leases = leases;
    this.#clock = environment.clock;
    this.#logger = environment.logger;
    this.#durationMs = leaseDurationMs;
    this.#startedAtMs = environment.clock.monotonicMs();
    this.#sent = sent;
    this.#reports = reports;
  }

  /**
   * Has every replica that can be reached take the next version, one of them as primary, and makes them
   * equal. Whatever lease there was is over with that.
   * @param failed servers that a client could not use under the version before
   * @throws CHUNK_UNAVAILABLE
   */
  async raise(
    chunk: ChunkState,
    truncateTo: number | undefined,
    failed: readonly string[],
  ): Promise<RaisedVersion> {
    this.awaitReplicas(chunk, this.#replicas.raisable(chunk).length);
    if (this.#sent.raising.has(chunk.handle))
      throw new GfsError('CHUNK_UNAVAILABLE', 'it is being raised already');
    this.#sent.raising.add(chunk.handle);
    try {
      const round = await this.#rounds(chunk, truncateTo, this.#struckOut(chunk.handle, failed));
      const { version, primary, members, sentAtMs } = round;
      const done = (logged: boolean): void => {
        this.#sent.raising.delete(chunk.handle);
        if (logged) this.#sent.noteKnown(chunk.handle);
        else this.#sent.noteOutside(chunk.handle, version);
      };
      return { handle: chunk.handle, version, primary, members, sentAtMs, done };
    } catch (error) {
      this.#sent.raising.delete(chunk.handle);
      throw error;
    }
  }

  /**
   * Compares the replicas of a chunk of which none is above suspicion, and makes them equal, so that it
   * can be read and copied. No lease comes of it.
   */
  verify(chunk: ChunkState): Promise<void> {
    const running = this.#verifying.get(chunk.handle);
    if (running !== undefined) return running;
    const verifying = this.#verify(chunk).finally(() => this.#verifying.delete(chunk.handle));
    this.#verifying.set(chunk.handle, verifying);
    return verifying;
  }

  async #verify(chunk: ChunkState): Promise<void> {
    // One that is out of reach needs no end of its own: with the new version nothing of it is acknowledged.
    if (this.#leases.mayBeHeld(chunk) && this.#leases.isHolderHere(chunk)) await this.#leases.end(chunk);
    const { handle, version, primary, members, done } = await this.raise(chunk, undefined, []);
    let logged = false;
    try {
      // It was made primary to repair the others: that is over before anyone hears of the version.
      await primary.peer.call(RevokeLease, { handle, version }, { deadlineMs: ASK_DEADLINE_MS });
      await this.#journal.commit({ type: 'versionRaised', handle, version, replicas: members.length });
      logged = true;
      this.#checkThere(handle);
      this.#replicas.noteLeaseless(handle, version);
      const length = this.#replicas.live(handle)[0]?.lengthBytes ?? 0;
      this.#replicas.noteEqual(
        members.filter(({ alive }) => alive),
        handle,
        version,
        length,
      );
    } finally {
      done(logged);
    }
    // A server may have come back, with the version before, while this one was on its way to the log.
    this.#reports.noteLogged(handle);
  }

  /**
   * For a while after a start a chunk waits for all of its replicas: one that a lease leaves out is stale
   * from then on, and its server may only be slower to come back.
   * @throws NOT_READY
   */
  awaitReplicas(chunk: ChunkState, found: number): void {
    if (found >= chunk.replicas || !this.#sent.isOfFormerLife(chunk.handle)) return;
    if (this.#clock.monotonicMs() - this.#startedAtMs > SETTLING_MS) return;
    throw new GfsError('NOT_READY', `chunk ${chunk.handle}: ${found} of ${chunk.replicas} replicas are back`);
  }

  /** The holder so far knows the chunk best; a suspect replica only when there is no other. */
  choosePrimary(members: readonly Chunkserver[], holder: string): Chunkserver {
    const byLeases = [...members].sort((a, b) => a.recentLeases - b.recentLeases);
    return (members.find(({ server }) => server.serverId === holder) ?? byLeases[0]) as Chunkserver;
  }

  /** Has the primary make the others equal to itself. @returns false when it could not */
  async repair(
    handle: number,
    version: number,
    primary: Chunkserver,
    members: readonly Chunkserver[],
  ): Promise<boolean> {
    try {
      const body = { handle, version, secondaries: serversOf(members, primary) };
      await primary.peer.call(RepairReplicas, body, { deadlineMs: REPAIR_DEADLINE_MS });
      return true;
    } catch (err) {
      this.#logger.warn(
        { handle, version, primary: primary.server.serverId, err },
        'could not make replicas equal',
      );
      return false;
    }
  }

  async #rounds(
    chunk: ChunkState,
    truncateTo: number | undefined,
    exclude: Set<Chunkserver>,
  ): Promise<Round> {
    let preferred: Chunkserver | undefined;
    let repairs = 0;
    for (let count = 0; count < MAX_ROUNDS; count++) {
      const round = await this.#ask(chunk, truncateTo, exclude, preferred);
      this.#checkThere(chunk.handle);
      const { acknowledged, failed } = round.answers;
      if (acknowledged.size === 0) {
        this.#sent.noteOutside(chunk.handle, round.version);
        throw new GfsError(
          'CHUNK_UNAVAILABLE',
          `chunk ${chunk.handle}: no replica took version ${round.version}`,
        );
      }
      const source = bestSource(acknowledged);
      this.#noteRaised(chunk.handle, round, source);
      const equal = areEqual(acknowledged.values());
      const usable = failed.size === 0 && !this.#sent.mayBeOutside(chunk.handle, round.version);
      if (usable && equal) return round;
      if (usable && isAsGood(acknowledged, round.primary, source)) {
        if (await this.repair(chunk.handle, round.version, round.primary, round.members)) {
          return round;
        }
        // The second time, those that stay different are left behind.
        if (++repairs > 1) excludeDifferent(acknowledged, round.primary, exclude);
      }
      preferred = equal ? round.primary : source;
      await this.#burn(chunk, round.version, acknowledged.size);
    }
    throw new GfsError('CHUNK_UNAVAILABLE', `chunk ${chunk.handle}: its replicas keep failing`);
  }

  async #ask(
    chunk: ChunkState,
    truncateTo: number | undefined,
    exclude: ReadonlySet<Chunkserver>,
    preferred: Chunkserver | undefined,
  ): Promise<Round> {
    const all = this.#replicas.raisable(chunk);
    const kept = all.filter(({ chunkserver }) => !exclude.has(chunkserver));
    const replicas = kept.length > 0 ? kept : all;
    if (replicas.length === 0)
      throw new GfsError('CHUNK_UNAVAILABLE', `chunk ${chunk.handle}: no replica is connected`);
    const members = replicas.map(({ chunkserver }) => chunkserver);
    const clean = replicas.filter(({ suspect }) => !suspect).map(({ chunkserver }) => chunkserver);
    const primary =
      preferred !== undefined && members.includes(preferred)
        ? preferred
        : this.choosePrimary(clean.length > 0 ? clean : members, chunk.holder);
    const version = chunk.version + 1;
    const sentAtMs = this.#clock.monotonicMs();
    const body = {
      handle: chunk.handle,
      version,
      create: false,
      ...(truncateTo === undefined ? {} : { truncateTo }),
    };
    const answers = await askAll(members, (chunkserver) =>
      chunkserver.peer.call(
        PrepareVersion,
        { ...body, ...termsFor(chunkserver, primary, members, this.#durationMs) },
        { deadlineMs: ASK_DEADLINE_MS },
      ),
    );
    return { version, members, primary, sentAtMs, answers };
  }

  /** What differs from the best is not read until it has been made equal, whatever becomes of this round. */
  #noteRaised(handle: number, { version, answers: { acknowledged } }: Round, source: Chunkserver): void {
    const best = acknowledged.get(source);
    for (const [chunkserver, { lengthBytes, digest, suspect }] of acknowledged) {
      const before = this.#replicas.find(chunkserver, handle)?.suspect ?? false;
      this.#replicas.put(
        chunkserver,
        handle,
        version,
        lengthBytes,
        before || suspect || digest !== best?.digest,
      );
    }
  }

  /** Its replicas are forgotten once it is gone: whoever noted one then would have it for ever. @throws NO_SUCH_CHUNK */
  #checkThere(handle: number): void {
    if (!this.#state.chunks.has(handle)) throw new GfsError('NO_SUCH_CHUNK', `chunk ${handle} is gone`);
  }

  /** Logs a version that will have no lease: the next one is above whatever anyone was sent. */
  async #burn(chunk: ChunkState, version: number, replicas: number): Promise<void> {
    await this.#journal.commit({ type: 'versionRaised', handle: chunk.handle, version, replicas });
    this.#checkThere(chunk.handle);
    this.#replicas.noteLeaseless(chunk.handle, version);
    this.#sent.noteKnown(chunk.handle);
  }

  /**
   * The servers to leave out: not those that a client names once (they may only have restarted, and
   * without them the chunk has a replica fewer), but those it names again.
   */
  #struckOut(handle: number, failed: readonly string[]): Set<Chunkserver> {
    const nowMs = this.#clock.monotonicMs();
    const out = new Set<Chunkserver>();
    for (const { chunkserver } of this.#replicas.live(handle)) {
      const { serverId } = chunkserver.server;
      if (!failed.includes(serverId)) continue;
      const before = this.#strikes.get(`${handle} ${serverId}`);
      if (before !== undefined && nowMs - before < STRIKE_MEMORY_MS) out.add(chunkserver);
      this.strike(handle, serverId);
    }
    return out;
  }

  /** Notes that a server failed a lease of the chunk: named again soon, it is left out of the next. */
  strike(handle: number, serverId: string): void {
    const key = `${handle} ${serverId}`;
    this.#strikes.delete(key);
    this.#strikes.set(key, this.#clock.monotonicMs());
    if (this.#strikes.size > MAX_STRIKES) this.#strikes.delete(this.#strikes.keys().next().value as string);
  }
}

/** Whether the others may be made equal to the primary: it has what the best of them has. */
function isAsGood(answers: Answers['acknowledged'], primary: Chunkserver, source: Chunkserver): boolean {
  const mine = answers.get(primary);
  const best = answers.get(source);
  return mine !== undefined && mine.digest === best?.digest && mine.lengthBytes === best.lengthBytes;
}

function excludeDifferent(
  answers: Answers['acknowledged'],
  primary: Chunkserver,
  exclude: Set<Chunkserver>,
): void {
  const digest = answers.get(primary)?.digest;
  for (const [chunkserver, answer] of answers) if (answer.digest !== digest) exclude.add(chunkserver);
}
