/** `gfs drain`: empties a chunkserver, so that it can be taken away. */
import { setTimeout as delay } from 'node:timers/promises';
import type { MasterSession } from '../../client/index.js';
import { GfsError } from '../../protocol/errors.js';
import { type ClusterStatus, GetStatus, SetDrain } from '../../protocol/messages/index.js';
import { Failure, UsageFailure } from '../failure.js';
import { caller, type MasterFlags, withMaster } from '../master-session.js';
import { print, printJson } from '../output.js';
import { table } from '../table.js';

const POLL_MS = 500;

export interface DrainFlags extends MasterFlags {
  readonly cancel?: boolean;
  readonly wait?: boolean;
  readonly json?: boolean;
}

/** Without a server: what is being drained, and how far it is. */
export async function drain(server: string | undefined, flags: DrainFlags): Promise<void> {
  if (server === undefined && (flags.cancel === true || flags.wait === true))
    throw new UsageFailure('which server?', 'As in: gfs drain SERVER; their ids: gfs ls-servers');
  await withMaster(flags, [], async (master) => {
    if (server === undefined) return show(await statusOf(master), flags);
    const serverId = idOf(server, await statusOf(master));
    await setDrain(master, serverId, flags.cancel !== true);
    if (flags.cancel === true) {
      if (flags.json === true) return printJson({ serverId, draining: false });
      return print(`${serverId}: not drained any more; what has left does not come back by itself`);
    }
    if (flags.wait === true) await untilEmpty(master, serverId);
    const left = leftOf(serverId, await statusOf(master));
    if (flags.json === true) return printJson({ draining: true, ...left });
    print(`${serverId}: ${isEmpty(left) ? 'it is empty and can be taken away' : progressOf(left)}`);
  });
}

type Drain = NonNullable<ClusterStatus['replication']>['drains'][number];

function leftOf(serverId: string, { replication }: ClusterStatus): Drain {
  const found = replication?.drains.find((each) => each.serverId === serverId);
  // Somebody has ended it meanwhile, or a master answers that does not count.
  if (found === undefined)
    throw new Failure(`${serverId}: it is not being drained any more`, 'See: gfs drain');
  return found;
}

function isEmpty({ chunksLeft, away = false }: Drain): boolean {
  return chunksLeft === 0 && !away;
}

function progressOf({ chunksLeft, away = false }: Drain): string {
  return away
    ? 'not connected, or still telling what it has: nobody knows what is left. Start it, then: gfs drain'
    : `${chunksLeft} replicas left; how far it is: gfs drain`;
}

async function statusOf(master: MasterSession): Promise<ClusterStatus> {
  return master.query(GetStatus, {}, caller());
}

/** By its id, the beginning of it, or HOST:PORT, which is the server that is there now. @throws Failure */
function idOf(name: string, { servers, replication }: ClusterStatus): string {
  const placed = servers.filter(({ server: { host, port } }) => `${host}:${port}` === name);
  const alive = placed.filter(({ state }) => state === 'alive');
  const there = (alive.length > 0 ? alive : placed).map(({ server }) => server.serverId);
  // One that was taken away is known by its drain alone.
  const drained = (replication?.drains ?? []).map(({ serverId }) => serverId);
  const ids = new Set([...servers.map(({ server }) => server.serverId), ...drained]);
  const named = [...ids].filter((id) => id === name || (name.length >= 4 && id.startsWith(name)));
  const [only, other] = [...there, ...named];
  if (only === undefined) throw new Failure(`${name}: there is no such chunkserver`, 'All: gfs ls-servers');
  if (other !== undefined) throw new Failure(`${name}: several chunkservers begin like that`);
  return only;
}

async function setDrain(master: MasterSession, serverId: string, on: boolean): Promise<void> {
  try {
    await master.query(SetDrain, { serverId, on }, caller());
  } catch (error) {
    if (!(error instanceof GfsError)) throw error;
    throw new Failure(`${serverId}: ${error.message} (${error.errno})`);
  }
}

async function untilEmpty(master: MasterSession, serverId: string): Promise<void> {
  for (;;) {
    const left = leftOf(serverId, await statusOf(master));
    const isDone = isEmpty(left);
    const text = left.away === true ? 'not connected' : `${left.chunksLeft} replicas left`;
    if (process.stderr.isTTY) process.stderr.write(`\r${text.padEnd(24)}${isDone ? '\n' : ''}`);
    if (isDone) return;
    await delay(POLL_MS);
  }
}

function show({ replication }: ClusterStatus, flags: DrainFlags): void {
  const drains = replication?.drains ?? [];
  if (flags.json === true) return printJson(drains);
  if (drains.length === 0) return print('No chunkserver is being drained.');
  const rows = drains.map((each) => [
    each.serverId,
    each.away === true ? 'not connected' : isEmpty(each) ? 'empty' : `${each.chunksLeft}`,
  ]);
  print(table(['SERVER', 'REPLICAS LEFT'], rows, [1]));
}
