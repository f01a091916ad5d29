/** `gfs status`, `gfs ls-servers`. */
import type { LogStatus, ServerStatus } from '../../protocol/messages/index.js';
import { DEFAULT_MASTER_PORT } from '../config/keys.js';
import { mastersOf } from '../config/options.js';
import { parseHostPort } from '../config/values.js';
import { EXIT_FAILED } from '../failure.js';
import { type ConfigurationFlags, loadWith } from '../flags.js';
import { type MasterStatus, queryLog, queryStatus } from '../master-query.js';
import { mastersNearby } from '../master-session.js';
import { bytes, colour, count, duration, print, printJson } from '../output.js';
import { table } from '../table.js';
import { mastersAssignment } from './masters.js';
import { adviceOn } from './shadows.js';

export interface StatusFlags extends ConfigurationFlags {
  readonly json?: boolean;
}

async function ask(master: string | undefined, flags: StatusFlags): Promise<MasterStatus> {
  const { configuration } = await loadWith(flags, master === undefined ? [] : mastersAssignment([master]));
  const nearby = master === undefined ? mastersNearby(flags) : [];
  return queryStatus(nearby.length > 0 ? nearby : mastersOf(configuration));
}

/** Exit code 1 where data cannot be had or has too few replicas: for scripts. */
export async function status(master: string | undefined, flags: StatusFlags): Promise<void> {
  const cluster = await ask(master, flags);
  const log = await queryLog([parseHostPort(cluster.master, DEFAULT_MASTER_PORT)]);
  const { commit, writable, replicas } = log;
  if (flags.json === true) printJson({ ...cluster, logReplication: { commit, writable, replicas } });
  else print([...overview(cluster, log), '', serverTable(cluster.servers)].join('\n'));
  const isShort = replicas.some(({ counted, state }) => counted && state === 'missing') || !writable;
  if (cluster.chunksUnavailable > 0 || cluster.chunksBelowGoal > 0 || isShort) process.exitCode = EXIT_FAILED;
}

export async function lsServers(master: string | undefined, flags: StatusFlags): Promise<void> {
  const { servers } = await ask(master, flags);
  if (flags.json === true) printJson(servers);
  else print(serverTable(servers));
}

function overview(cluster: MasterStatus, log: LogStatus): string[] {
  const alive = cluster.servers.filter(({ state }) => state === 'alive');
  const sum = (of: (server: ServerStatus) => number) =>
    alive.reduce((total, server) => total + of(server), 0);
  const state = cluster.ready ? 'ready' : 'starting: it waits for the chunkservers that it knew';
  const unknown = cluster.chunksUnknown ?? 0;
  const lost = cluster.chunksUnavailable - unknown;
  const clients = cluster.clientsConnected;
  const troubles = [
    ...(lost > 0 ? [colour('red', `${count(lost)} LOST (gfs fsck names the files)`)] : []),
    ...(unknown > 0 ? [colour('yellow', `${count(unknown)} not known yet`)] : []),
    ...(cluster.chunksBelowGoal > 0
      ? [colour('yellow', `${count(cluster.chunksBelowGoal)} below their goal`)]
      : []),
  ];
  const rows: [string, string][] = [
    ['cluster', cluster.clusterId],
    ['master', `${cluster.master}, up ${duration(cluster.uptimeMs)}, term ${cluster.term}, ${state}`],
    ['servers', `${alive.length} of ${cluster.servers.length} alive`],
    [
      'space',
      `${bytes(sum((each) => each.availableBytes))} free of ${bytes(sum((each) => each.totalBytes))}, replicas counted${cluster.spaceLow === true ? `, ${colour('yellow', 'LOW: deleted files are given up early')}` : ''}`,
    ],
    [
      'namespace',
      `${count(cluster.files)} files, ${count(cluster.directories)} directories, ${count(cluster.deletedFiles)} deleted nodes kept`,
    ],
    ['chunks', [`${count(cluster.chunks)} of up to ${bytes(cluster.chunkBytes)}`, ...troubles].join(', ')],
    [
      'sessions',
      `${cluster.sessions}${clients === undefined ? '' : `, ${clients} of them connected`}; ${cluster.leases} leases`,
    ],
    ...healing(cluster),
    ['log', `${logText(cluster)}; ${describeReplicas(log)}`],
    ...adviceOn(log).map((line): [string, string] => ['', colour('red', line)]),
  ];
  return rows.map(([name, text]) => `${name.padEnd(10)}${text}`);
}

/** Clones under way, drains; nothing when there is nothing to tell. */
function healing({ replication }: MasterStatus): [string, string][] {
  if (replication === undefined) return [];
  const { clones, queued, alarms, endangered, drains, quarantined = 0 } = replication;
  const parts = [
    ...(clones + queued > 0 ? [`${count(clones)} clones running, ${count(queued)} chunks waiting`] : []),
    ...(endangered > 0 ? [colour('red', `${count(endangered)} with one copy left`)] : []),
    ...(alarms > 0 ? [colour('red', `${count(alarms)} whose clones keep failing (the master's log)`)] : []),
    ...(quarantined > 0
      ? [colour('red', `${count(quarantined)} replicas ahead of the log, kept apart (the master's log)`)]
      : []),
    ...drains.map(({ serverId, chunksLeft, away }) => {
      return `${serverId} is being emptied, ${away === true ? 'but not connected' : `${count(chunksLeft)} left`}`;
    }),
  ];
  return parts.length === 0 ? [] : [['healing', parts.join('; ')]];
}

function logText({ logBytes, logRecords, checkpoint, logFull }: MasterStatus): string {
  const parts = [`${bytes(logBytes)} in ${count(logRecords)} records`];
  if (logFull === true)
    parts.unshift(colour('red', 'DISK FULL: the master is read-only until there is room'));
  if (checkpoint !== undefined) {
    const { records, logBytesBehind, running, failure } = checkpoint;
    const covers = records === 0 ? 'no checkpoint yet' : `checkpoint of ${count(records)} records`;
    parts.push(`${covers}, ${bytes(logBytesBehind)} after it${running ? ', one is being made' : ''}`);
    if (failure !== undefined) parts.push(colour('red', `the last checkpoint failed: ${failure}`));
  }
  return parts.join('; ');
}

function describeReplicas({ commit, replicas }: LogStatus): string {
  const counted = replicas.filter((replica) => replica.counted);
  if (counted.length === 0) return 'on this host alone (no shadow)';
  const inStep = counted.filter(({ state }) => state === 'in step').length;
  return `${inStep} of ${counted.length} shadows in step, commit = "${commit}"`;
}

function serverTable(servers: readonly ServerStatus[]): string {
  if (servers.length === 0) return 'No chunkserver has registered yet.';
  const head = [
    'SERVER',
    'ADDRESS',
    'STATE',
    'RACK',
    'LOCATION',
    'CHUNKS',
    'FREE',
    'TOTAL',
    'USED',
    'DISKS',
    'SCRUBBED',
    'HEARD OF',
  ];
  return table(head, servers.map(rowOf), [5, 6, 7, 8, 9, 10]);
}

function rowOf(status: ServerStatus): string[] {
  const { server, location } = status;
  return [
    server.serverId,
    `${server.host}:${server.port}`,
    status.state,
    status.rack ?? '-',
    location === undefined ? '-' : `${location.x},${location.y}`,
    String(status.chunks),
    bytes(status.availableBytes),
    bytes(status.totalBytes),
    usedOf(status),
    ...healthOf(status),
    status.state === 'unknown' ? 'not yet' : `${duration(status.silentMs)} ago`,
  ];
}

function usedOf({ totalBytes, availableBytes }: ServerStatus): string {
  return totalBytes === 0 ? '-' : `${Math.round(100 * (1 - availableBytes / totalBytes))} %`;
}

/** Disks that work, and how far the pass of scrubbing is. */
function healthOf({ health }: ServerStatus): [disks: string, scrubbed: string] {
  if (health === undefined) return ['-', '-'];
  const { disks, failedDisks, scrub } = health;
  const working = failedDisks === 0 ? String(disks) : colour('red', `${disks - failedDisks} of ${disks}`);
  const share = scrub.total === 0 ? 1 : scrub.checked / scrub.total;
  const found = scrub.damaged === 0 ? '' : colour('red', `, ${scrub.damaged} DAMAGED`);
  return [working, `${Math.floor(share * 100)} %${found}`];
}
