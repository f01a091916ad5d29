/** From where to where a chunk is cloned: both with a place free, and not those that failed it lately. */
import type { ClientServerPriority } from '../location-graph.js';
import { distanceBetween } from '../location-graph.js';
import { chooseServers } from '../placement.js';
import type { Chunkserver } from '../replicas.js';
import type { ReplicationOptions } from './options.js';
import type { Slots } from './slots.js';
import type { Standing } from './standing.js';

export interface Route {
  readonly source: Chunkserver;
  readonly target: Chunkserver;
}

export interface Choice {
  readonly active: readonly Chunkserver[];
  readonly priority: ClientServerPriority;
  readonly slots: Slots;
  readonly limits: ReplicationOptions;
  readonly isLeaving: (chunkserver: Chunkserver) => boolean;
  readonly chunkBytes: number;
}

/** Server ids that failed a chunk, as source and as target, the latest last: they get it only when there is nobody else. */
export interface Failed {
  readonly sources: ReadonlySet<string>;
  readonly targets: ReadonlySet<string>;
  /** Where part of it is already. */
  readonly resumeAt: string | undefined;
}

/** @returns `busy` when it can be done once a place is free, `nowhere` when no server could take the chunk */
export function chooseRoute(
  handle: number,
  standing: Standing,
  failed: Failed | undefined,
  choice: Choice,
): Route | 'busy' | 'nowhere' {
  const { slots, limits } = choice;
  const target = chooseTarget(handle, standing, failed, choice);
  if (typeof target === 'string') return target;
  const free = standing.good
    .map(({ chunkserver }) => chunkserver)
    .filter((chunkserver) => slots.outgoing(chunkserver) < limits.maxClonesPerServer);
  const [source] = trusted(free, failed?.sources).sort(
    (a, b) =>
      slots.outgoing(a) - slots.outgoing(b) ||
      distanceBetween(a.location, target.location) - distanceBetween(b.location, target.location),
  );
  return source === undefined ? 'busy' : { source, target };
}

function chooseTarget(
  handle: number,
  { staying, good, suspect, useless }: Standing,
  failed: Failed | undefined,
  { active, priority, slots, limits, isLeaving, chunkBytes }: Choice,
): Chunkserver | 'busy' | 'nowhere' {
  const having = new Set([...good, ...suspect, ...useless].map(({ chunkserver }) => chunkserver));
  const possible = active.filter(
    (chunkserver) =>
      !having.has(chunkserver) &&
      !isLeaving(chunkserver) &&
      !chunkserver.deletions.has(handle) &&
      chunkserver.space.availableBytes >= chunkBytes,
  );
  if (possible.length === 0) return 'nowhere';
  const free = possible.filter((chunkserver) => slots.incoming(chunkserver) < limits.maxClonesPerServer);
  if (free.length === 0) return 'busy';
  const begun = free.find(({ server }) => server.serverId === failed?.resumeAt);
  if (begun !== undefined) return begun;
  const [target] = chooseServers(trusted(free, failed?.targets), priority, {
    count: 1,
    near: undefined,
    exclude: new Set(),
    having: staying.map(({ chunkserver }) => chunkserver),
    chunkBytes,
  });
  return target ?? 'nowhere';
}

/** Those that did not fail; where all did, the one whose failure is longest ago. */
function trusted(servers: Chunkserver[], failed: ReadonlySet<string> | undefined): Chunkserver[] {
  if (failed === undefined || failed.size === 0) return servers;
  const others = servers.filter(({ server }) => !failed.has(server.serverId));
  if (others.length > 0) return others;
  const order = [...failed];
  const position = ({ server }: Chunkserver): number => order.indexOf(server.serverId);
  return [...servers].sort((a, b) => position(a) - position(b)).slice(0, 1);
}
