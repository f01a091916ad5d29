/** `gfs scrub`: how far chunkservers are with checking their replicas; begins a pass when asked to. */
import { setTimeout as delay } from 'node:timers/promises';
import { GetStatus, Scrub, type ScrubProgress, type Server } from '../../protocol/messages/index.js';
import { EXIT_FAILED, Failure, UsageFailure } from '../failure.js';
import { askDaemon } from '../master-query.js';
import { caller, type MasterFlags, withMaster } from '../master-session.js';
import { print, printJson } from '../output.js';
import { Progress } from '../progress.js';
import { table } from '../table.js';

const POLL_MS = 500;

export interface ScrubFlags extends MasterFlags {
  readonly all?: boolean;
  readonly now?: boolean;
  readonly wait?: boolean;
  readonly json?: boolean;
}

interface Row extends ScrubProgress {
  readonly server: Server;
}

/** Exit code 1 where damaged replicas were found. */
export async function scrub(name: string | undefined, flags: ScrubFlags): Promise<void> {
  if (name !== undefined && flags.all === true)
    throw new UsageFailure('a server or --all, not both', 'As in: gfs scrub --all --now');
  if (name === undefined && flags.all !== true && flags.now === true)
    throw new UsageFailure('which server?', 'As in: gfs scrub SERVER --now, or gfs scrub --all --now');
  const servers = await chosen(name, flags);
  const before = await askAll(servers, flags.now === true);
  const rows = flags.wait === true ? await untilDone(before, flags.now === true) : before;
  if (flags.json === true) printJson(rows);
  else print(table(['SERVER', 'STATE', 'CHECKED', 'OF', 'DAMAGED', 'PASSES'], rows.map(cells), [2, 3, 4, 5]));
  if (rows.some(({ damaged }) => damaged > 0)) process.exitCode = EXIT_FAILED;
}

async function chosen(name: string | undefined, flags: ScrubFlags): Promise<Server[]> {
  let alive: Server[] = [];
  await withMaster(flags, [], async (master) => {
    const { servers } = await master.query(GetStatus, {}, caller());
    alive = servers.flatMap(({ state, server }) => (state === 'alive' ? [server] : []));
  });
  const named = alive.filter(({ serverId, host, port }) => {
    if (name === undefined || serverId === name || `${host}:${port}` === name) return true;
    return name.length >= 4 && serverId.startsWith(name);
  });
  if (named.length === 0)
    throw new Failure(`${name ?? 'chunkservers'}: none is alive`, 'All: gfs ls-servers');
  if (name !== undefined && named.length > 1)
    throw new Failure(`${name}: several chunkservers begin like that`);
  return named;
}

function askAll(servers: readonly Server[], now: boolean): Promise<Row[]> {
  return Promise.all(
    servers.map(async (server) => {
      const rows: Row[] = [];
      await askDaemon([server], async (ask) => {
        rows.push({ server, ...(await ask(Scrub, { now })).scrub });
      });
      return rows[0] as Row;
    }),
  );
}

/** A pass that was asked for is over when one more is complete. */
async function untilDone(before: readonly Row[], asked: boolean): Promise<readonly Row[]> {
  const progress = new Progress();
  for (;;) {
    const rows = await askAll(
      before.map(({ server }) => server),
      false,
    );
    const isDone = rows.every(({ running, passes }, i) =>
      asked ? passes > (before[i] as Row).passes : !running,
    );
    const sum = (of: (row: Row) => number) => rows.reduce((total, row) => total + of(row), 0);
    const [checked, total] = [sum((row) => row.checked), sum((row) => row.total)];
    progress.show(total === 0 ? undefined : checked / total, `${checked} of ${total} replicas`);
    if (isDone) {
      progress.end();
      return rows;
    }
    await delay(POLL_MS);
  }
}

function cells({ server, running, checked, total, damaged, passes }: Row): string[] {
  return [server.serverId, running ? 'running' : 'waiting', ...[checked, total, damaged, passes].map(String)];
}
