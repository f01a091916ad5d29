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
    const { replication } = await statusOf(master);
    const chunksLeft = replication?.drains.find((each) => each.serverId === serverId)?.chunksLeft ?? 0;
    if (flags.json === true) return printJson({ serverId, draining: true, chunksLeft });
    print(
      chunksLeft === 0
        ? `${serverId}: it is empty and can be taken away`
        : `${serverId}: ${chunksLeft} replicas left; how far it is: gfs drain`,
    );
  });
}

async function statusOf(master: MasterSession): Promise<ClusterStatus> {
  return master.query(GetStatus, {}, caller());
}

/** By its id, the beginning of it, or HOST:PORT. @throws Failure */
function idOf(name: string, { servers }: ClusterStatus): string {
  const named = servers.filter(({ server: { serverId, host, port } }) => {
    return serverId === name || `${host}:${port}` === name || (name.length >= 4 && serverId.startsWith(name));
  });
  const [only, other] = named;
  if (only === undefined) throw new Failure(`${name}: there is no such chunkserver`, 'All: gfs ls-servers');
  if (other !== undefined) throw new Failure(`${name}: several chunkservers begin like that`);
  return only.server.serverId;
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
    const { replication } = await statusOf(master);
    const left = replication?.drains.find((each) => each.serverId === serverId)?.chunksLeft ?? 0;
    if (process.stderr.isTTY) process.stderr.write(`\r${left} replicas left   ${left === 0 ? '\n' : ''}`);
    if (left === 0) return;
    await delay(POLL_MS);
  }
}

function show({ replication }: ClusterStatus, flags: DrainFlags): void {
  const drains = replication?.drains ?? [];
  if (flags.json === true) return printJson(drains);
  if (drains.length === 0) return print('No chunkserver is being drained.');
  const rows = drains.map(({ serverId, chunksLeft }) => [
    serverId,
    chunksLeft === 0 ? 'empty' : `${chunksLeft}`,
  ]);
  print(table(['SERVER', 'REPLICAS LEFT'], rows, [1]));
}
