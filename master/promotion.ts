/** How a shadow becomes the master (DESIGN: the new term first, so that the old master cannot reach its quorum). */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { GetLogStatus, type LogStatus, type Member, PromiseTerm } from '../protocol/messages/index.js';
import { type Asker, ask, askAllStatus } from './dialing.js';
import type { LogCopy } from './log-copy.js';
import type { MasterOptions } from './options.js';
import { isLongerLog, promisesNeeded } from './quorum.js';
import type { SuperblockKeeper } from './superblock.js';

export interface PromotionParts {
  readonly environment: Environment;
  readonly options: MasterOptions;
  readonly superblock: SuperblockKeeper;
  readonly copy: LogCopy;
  readonly self: Member;
}

/**
 * Has enough log replicas promise a term to this one. From then on the former master can make no record
 * count. Nothing changes where it fails before the first promise.
 * @returns the term
 * @throws NOT_PERMITTED: the message says what to do instead
 */
export async function winTerm(parts: PromotionParts): Promise<number> {
  const { environment, superblock, copy, self } = parts;
  const { id } = superblock.current;
  const { logReplicas } = copy.state;
  if (!logReplicas.has(id)) {
    throw new GfsError(
      'NOT_PERMITTED',
      'the master did not wait for this shadow: it may lack what was acknowledged',
    );
  }
  const asker: Asker = {
    role: 'shadow',
    id,
    clusterId: superblock.current.clusterId,
    term: superblock.current.term,
  };
  const former = await askFormer(parts, asker);
  const others = [...logReplicas.values()].filter((member) => member.id !== id);
  const found = await askAllStatus(environment, asker, others);
  checkLongest(parts, found.values());
  const needed = neededOf(parts);
  // One that has become the master itself promises nothing: asking it would only part this shadow from it.
  const able = new Map([...found].filter(([, { role }]) => role === 'shadow'));
  if (able.size + 1 < needed) throw tooFew(others, able, needed);
  const term =
    Math.max(superblock.current.term, former?.term ?? 0, ...[...found.values()].map((each) => each.term)) + 1;
  // Our own promise first: nothing more is taken from the former master.
  const promised = await superblock.update((now) =>
    term > now.term ? { term, promisedTo: self } : undefined,
  );
  if (!promised) throw new GfsError('NOT_PERMITTED', 'another is becoming the master: see gfs status');
  const granted = await collect(parts, asker, others, term);
  if (granted + 1 < needed) throw tooFew(others, found, needed);
  return term;
}

function neededOf({ copy, options }: PromotionParts): number {
  const { logReplicas, commitRule } = copy.state;
  const count = logReplicas.size;
  return Math.max(promisesNeeded(commitRule, count), promisesNeeded(options.logCommit, count));
}

/** A master that is there has the last word on whether it waits for us. */
async function askFormer(
  { environment, superblock, self }: PromotionParts,
  asker: Asker,
): Promise<LogStatus | undefined> {
  const { promisedTo } = superblock.current;
  if (promisedTo === undefined || promisedTo.id === self.id) return undefined;
  const status = await ask(environment, asker, promisedTo, GetLogStatus, {}).catch(() => undefined);
  if (status?.role !== 'master') return undefined;
  const counted = status.replicas.some(({ member, counted }) => counted && member.id === self.id);
  if (!counted) throw new GfsError('NOT_PERMITTED', 'the master does not wait for this shadow any more');
  return status;
}

/** @throws NOT_PERMITTED naming one that has more */
function checkLongest({ copy }: PromotionParts, statuses: Iterable<LogStatus>): void {
  const own = { lastTerm: copy.lastTerm, lastSequence: copy.endSequence };
  for (const status of statuses) {
    if (!isLongerLog(status, own)) continue;
    const { host, port } = status.member;
    throw new GfsError(
      'NOT_PERMITTED',
      `${host}:${port} has more of the log (record ${status.lastSequence}, here ${own.lastSequence}): gfs promote ${host}:${port}`,
    );
  }
}

async function collect(
  { environment, copy, self }: PromotionParts,
  asker: Asker,
  others: readonly Member[],
  term: number,
): Promise<number> {
  const own = { lastTerm: copy.lastTerm, lastSequence: copy.endSequence };
  const replies = await Promise.all(
    others.map((member) =>
      ask(environment, { ...asker, term }, member, PromiseTerm, { term, candidate: self }).catch(
        () => undefined,
      ),
    ),
  );
  return replies.filter((reply) => reply?.granted === true && !isLongerLog(reply, own)).length;
}

function tooFew(others: readonly Member[], found: ReadonlyMap<string, unknown>, needed: number): GfsError {
  const silent = others.filter(({ id }) => !found.has(id)).map(({ host, port }) => `${host}:${port}`);
  return new GfsError(
    'NOT_PERMITTED',
    `${needed} of ${others.length + 1} shadows have to agree, or the old master could go on; no answer from ${silent.join(', ')}`,
  );
}
