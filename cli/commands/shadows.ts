/** `gfs promote`, `gfs shadows`: the copies of the operation log. */
import { setTimeout as delay } from 'node:timers/promises';
import { GfsError } from '../../protocol/errors.js';
import {
  GetLogStatus,
  type LogReplicaStatus,
  Promote,
  RemoveLogReplica,
} from '../../protocol/messages/index.js';
import { DEFAULT_SHADOW_PORT } from '../config/keys.js';
import { mastersOf } from '../config/options.js';
import { BadValue, type HostPort, parseHostPort, showHostPort } from '../config/values.js';
import { EXIT_FAILED, Failure, UsageFailure } from '../failure.js';
import { type ConfigurationFlags, loadWith } from '../flags.js';
import { isSilent, queryAt, queryLog, queryMaster } from '../master-query.js';
import { mastersNearby } from '../master-session.js';
import { duration, print, printJson } from '../output.js';
import { table } from '../table.js';
import { mastersAssignment } from './masters.js';

/** A promoted shadow replays its log before it serves. */
const PROMOTION_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

export interface ShadowsFlags extends ConfigurationFlags {
  readonly json?: boolean;
}

async function mastersFrom(master: string | undefined, flags: ShadowsFlags): Promise<readonly HostPort[]> {
  const { configuration } = await loadWith(flags, master === undefined ? [] : mastersAssignment([master]));
  const nearby = master === undefined ? mastersNearby(flags) : [];
  return nearby.length > 0 ? nearby : mastersOf(configuration);
}

/** A shadow as its master and the shadow itself tell of it. */
interface ShadowStatus extends LogReplicaStatus {
  /** How old its copy may be; null when it does not tell. */
  readonly behindMs: number | null;
}

export async function list(master: string | undefined, flags: ShadowsFlags): Promise<void> {
  const status = await queryLog(await mastersFrom(master, flags));
  const replicas = await Promise.all(status.replicas.map(askHowFarBehind));
  const missing = replicas.filter(isMissing);
  if (flags.json === true) printJson({ ...status, replicas });
  else if (status.replicas.length === 0) print('No shadow follows the master: its log is on one host alone.');
  else {
    const head = ['SHADOW', 'ADDRESS', 'STATE', 'WAITED FOR', 'RECORD', 'BEHIND', 'HEARD OF'];
    print(
      table(
        head,
        replicas.map((replica) => rowOf(replica, status.lastSequence)),
        [4, 5],
      ),
    );
    for (const line of adviceOn(status)) print(line);
  }
  if (missing.length > 0) process.exitCode = EXIT_FAILED;
}

function isMissing({ counted, state }: LogReplicaStatus): boolean {
  return counted && state === 'missing';
}

/** The master counts records; how much time they are, only the shadow knows. */
async function askHowFarBehind(replica: LogReplicaStatus): Promise<ShadowStatus> {
  if (replica.state === 'missing') return { ...replica, behindMs: null };
  const told = await queryAt(replica.member, GetLogStatus, {}).catch(() => undefined);
  // Since the start of time: it has not been up to date since it started.
  const isKnown = told?.role === 'shadow' && told.behindMs < Number.MAX_SAFE_INTEGER;
  return { ...replica, behindMs: isKnown ? told.behindMs : null };
}

function rowOf(
  { member, state, counted, sequence, silentMs, behindMs }: ShadowStatus,
  last: number,
): string[] {
  const records = Math.max(0, last - sequence);
  const time = behindMs === null ? '' : `, ${(behindMs / 1000).toFixed(1)} s`;
  return [
    member.id,
    showHostPort(member),
    state,
    counted ? 'yes' : 'not yet',
    String(sequence),
    `${records} ${records === 1 ? 'record' : 'records'}${time}`,
    `${duration(silentMs)} ago`,
  ];
}

/** What is missing of the log replicas, and what to do about it. */
export function adviceOn({
  replicas,
  writable,
}: {
  readonly replicas: readonly LogReplicaStatus[];
  readonly writable: boolean;
}): string[] {
  return replicas.filter(isMissing).map(({ member, silentMs }) => {
    const effect = writable ? 'changes go on without it' : 'CHANGES ARE REFUSED until it is back';
    return `shadow ${member.id} at ${showHostPort(member)} has been missing for ${duration(silentMs)}: ${effect}. Start it again; if it is gone for good: gfs shadows remove ${member.id}`;
  });
}

export async function remove(id: string, master: string | undefined, flags: ShadowsFlags): Promise<void> {
  await queryMaster(await mastersFrom(master, flags), async (peer) => {
    await peer.call(RemoveLogReplica, { id }, { uid: process.getuid?.() ?? 0 });
  }).catch((error) => {
    if (!(error instanceof GfsError)) throw error;
    if (error.code !== 'OUTCOME_PENDING')
      throw new Failure(`cannot remove shadow ${id}: ${error.message}`, 'Their ids: gfs shadows');
    throw new Failure(
      `shadow ${id} is not waited for any more once the others answer that are missing`,
      'Start them, or remove them as well: gfs shadows tells which.',
    );
  });
  print(`The master does not wait for shadow ${id} any more. Its data must never be promoted: delete it.`);
}

/** @returns once it serves */
export async function promote(shadow: string, flags: { readonly json?: boolean }): Promise<void> {
  const at = addressOf(shadow);
  const status = await queryAt(at, GetLogStatus, {});
  if (status.role === 'master')
    throw new Failure(`${showHostPort(at)} is the master already, of term ${status.term}`);
  const former = status.promisedTo;
  const formerIsSilent = former !== undefined && (await isSilent(former));
  const { term } = await queryAt(at, Promote, {}).catch((error) => {
    throw error instanceof GfsError
      ? new Failure(`cannot promote ${showHostPort(at)}: ${error.message}`)
      : error;
  });
  await untilMaster(at);
  const unreached = formerIsSilent ? showHostPort(former) : null;
  if (flags.json === true) return printJson({ address: showHostPort(at), term, unreached });
  print(`${showHostPort(at)} is the master, of term ${term}.`);
  if (unreached !== null) print(adviceOnFormer(unreached));
}

/** Nobody can tell from here whether it runs (docs/decisions/0037-an-old-master-that-is-cut-off.md). */
function adviceOnFormer(master: string): string {
  return (
    `The old master at ${master} did not answer. If it still runs, cut off from here, it takes no changes any more, ` +
    'but mounts that are cut off together with it go on reading what it knew. So make sure that it is stopped: ' +
    'end its process, or switch its host off.'
  );
}

async function untilMaster(at: HostPort): Promise<void> {
  const endMs = performance.now() + PROMOTION_TIMEOUT_MS;
  for (;;) {
    const status = await queryAt(at, GetLogStatus, {}).catch(() => undefined);
    if (status?.role === 'master') return;
    if (performance.now() > endMs) {
      throw new Failure(
        `${showHostPort(at)} has been promoted and does not serve yet`,
        'Look into its log; gfs status tells when it does.',
      );
    }
    await delay(POLL_MS);
  }
}

function addressOf(text: string): HostPort {
  try {
    return parseHostPort(text, DEFAULT_SHADOW_PORT);
  } catch (error) {
    if (error instanceof BadValue) throw new UsageFailure(`the shadow must be ${error.message}`);
    throw error;
  }
}
