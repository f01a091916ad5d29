/** Asking several chunkservers for the same thing, in parallel. */
import { type GfsError, toGfsError } from '../protocol/errors.js';
import type { Server } from '../protocol/messages/index.js';
import type { Chunkserver } from './replicas.js';

/**
 * Generous: a server that is left out of a version is stale. One that is dead or hangs is disconnected
 * long before, which ends the call.
 */
export const ASK_DEADLINE_MS = 10_000;

/** What a replica says of itself once it has been raised, made or copied. */
export interface ReplicaAnswer {
  readonly lengthBytes: number;
  readonly digest: number;
  readonly appliedSerial: number;
  readonly suspect: boolean;
}

export interface Answers<Answer = ReplicaAnswer> {
  readonly acknowledged: ReadonlyMap<Chunkserver, Answer>;
  readonly failed: ReadonlyMap<Chunkserver, GfsError>;
}

/** Never rejects: who does not answer is among the failed. */
export async function askAll<Answer = ReplicaAnswer>(
  chunkservers: readonly Chunkserver[],
  ask: (chunkserver: Chunkserver) => Promise<{ readonly body: Answer }>,
): Promise<Answers<Answer>> {
  const acknowledged = new Map<Chunkserver, Answer>();
  const failed = new Map<Chunkserver, GfsError>();
  await Promise.all(
    chunkservers.map(async (chunkserver) => {
      try {
        acknowledged.set(chunkserver, (await ask(chunkserver)).body);
      } catch (thrown) {
        failed.set(chunkserver, toGfsError(thrown));
      }
    }),
  );
  return { acknowledged, failed };
}

/** The terms of a lease for the one that becomes primary; nothing for the others. */
export function termsFor(
  chunkserver: Chunkserver,
  primary: Chunkserver,
  members: readonly Chunkserver[],
  durationMs: number,
): { lease?: { secondaries: Server[]; durationMs: number } } {
  if (chunkserver !== primary) return {};
  return { lease: { secondaries: serversOf(members, primary), durationMs } };
}

export function serversOf(members: readonly Chunkserver[], except?: Chunkserver): Server[] {
  return members.filter((member) => member !== except).map(({ server }) => server);
}

/** Whether the replicas have the same content, and all know that they do: what is suspect needs a repair to be cleared. */
export function areEqual(answers: Iterable<ReplicaAnswer>): boolean {
  let first: ReplicaAnswer | undefined;
  for (const answer of answers) {
    first ??= answer;
    if (answer.suspect || answer.digest !== first.digest || answer.lengthBytes !== first.lengthBytes)
      return false;
  }
  return true;
}

/**
 * Whose content the others are made equal to: a clean one while there is one, then the one that applied
 * most (DESIGN: replica states).
 */
export function bestSource(answers: ReadonlyMap<Chunkserver, ReplicaAnswer>): Chunkserver {
  const ranked = [...answers].sort(
    ([, a], [, b]) => Number(a.suspect) - Number(b.suspect) || b.appliedSerial - a.appliedSerial,
  );
  return (ranked[0] as [Chunkserver, ReplicaAnswer])[0];
}
