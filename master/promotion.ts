/** How a shadow becomes the master (DESIGN: the new term first, so that the old master cannot reach its quorum). */
import type { Environment } from '../environment/ports/index.js';
import { GfsError } from '../protocol/errors.js';
import { GetLogStatus, type LogStatus, type Member, PromiseTerm } from '../protocol/messages/index.js';
import { type Asker, ask, askAllStatus } from './dialing.js';
import type { Following } from './following.js';
import type { LogCopy } from './log-copy.js';
import type { MasterOptions } from './options.js';
import { isLongerLog, promisesNeeded } from './quorum.js';
import type { SuperblockKeeper } from './superblock.js';

/** So long the former master, where it is followed, has for sending what the others have already. */
const CATCH_UP_MS = 500;
const CATCH_UP_LOOK_MS = 5;

/** How far the log goes at another copy. */
type Standing = Pick<LogStatus, 'member' | 'lastTerm' | 'lastSequence'>;

export interface PromotionParts {
  readonly environment: Environment;
  readonly options: MasterOptions;
  readonly superblock: SuperblockKeeper;
  readonly copy: LogCopy;
  readonly following: Following;
  readonly self: Member;
}

/**
 * Has enough log replicas promise a term to this one. From then on the former master can make no record
 * count. Nothing changes where it fails before the first promise; where it fails later nobody is the master,
 * until a promotion succeeds or the former one has won a later term.
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
  await catchUp(parts, found.values());
  checkLongest(parts, found.values());
  const needed = neededOf(parts);
  // One that has become the master itself promises nothing: asking it would only part this shadow from it.
  const able = new Map([...found].filter(([, { role }]) => role === 'shadow'));
  if (able.size + 1 < needed) throw tooFew(others, able, needed);
  const term =
    Math.max(superblock.current.term, former?.term ?? 0, ...[...found.values()].map((each) => each.term)) + 1;
  if (!(await superblock.stand(term)))
    throw new GfsError('NOT_PERMITTED', 'another is becoming the master: see gfs status');
  // The others first: what they have got from a former master that goes on still comes here from it too.
  // With our own promise last nothing of its counts any more without being here.
  const granted = await collect(parts, asker, others, term);
  if (granted.size + 1 < needed) throw tooFew(others, granted, needed);
  await catchUp(parts, granted.values());
  const promised = await superblock.update((now) =>
    term > now.term ? { term, promisedTo: self } : undefined,
  );
  if (!promised) throw new GfsError('NOT_PERMITTED', 'another is becoming the master: see gfs status');
  const covered = [...granted.values()].filter((other) => longerOf(parts, [other]) === undefined);
  if (covered.length + 1 < needed) checkLongest(parts, granted.values());
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

/** Waits for what another has beyond this copy, for as long as there is a master that may send it. */
async function catchUp(parts: PromotionParts, others: Iterable<Standing>): Promise<void> {
  const { environment, following } = parts;
  const { clock, timers } = environment;
  const endMs = clock.monotonicMs() + CATCH_UP_MS;
  const standings = [...others];
  while (longerOf(parts, standings) !== undefined) {
    if (following.masterIsAway || clock.monotonicMs() > endMs) return;
    await new Promise<void>((resolve) => void timers.after(CATCH_UP_LOOK_MS, resolve));
  }
}

/** One that has more of the log than this copy. */
function longerOf({ copy }: PromotionParts, others: Iterable<Standing>): Standing | undefined {
  const own = { lastTerm: copy.lastTerm, lastSequence: copy.endSequence };
  return [...others].find((other) => isLongerLog(other, own));
}

/** @throws NOT_PERMITTED naming one that has more */
function checkLongest(parts: PromotionParts, others: Iterable<Standing>): void {
  const longer = longerOf(parts, others);
  if (longer === undefined) return;
  const { host, port } = longer.member;
  throw new GfsError(
    'NOT_PERMITTED',
    `${host}:${port} has more of the log (record ${longer.lastSequence}, here ${parts.copy.endSequence}): gfs promote ${host}:${port}`,
  );
}

/** @returns those that have promised, by id */
async function collect(
  { environment, self }: PromotionParts,
  asker: Asker,
  others: readonly Member[],
  term: number,
): Promise<Map<string, Standing>> {
  const granted = new Map<string, Standing>();
  const askOne = async (member: Member): Promise<void> => {
    const body = { term, candidate: self };
    const reply = await ask(environment, { ...asker, term }, member, PromiseTerm, body).catch(
      () => undefined,
    );
    if (reply?.granted === true) granted.set(member.id, { ...reply, member });
  };
  await Promise.all(others.map(askOne));
  return granted;
}

function tooFew(others: readonly Member[], agreed: ReadonlyMap<string, unknown>, needed: number): GfsError {
  const silent = others.filter(({ id }) => !agreed.has(id)).map(({ host, port }) => `${host}:${port}`);
  return new GfsError(
    'NOT_PERMITTED',
    `${needed} of ${others.length + 1} shadows have to agree, or the old master could go on; no word of it from ${silent.join(', ')}`,
  );
}
