/** What the master answers about goals, draining and priorities (protocol/messages/goal.ts, priorities.ts). */
import { GfsError } from '../protocol/errors.js';
import * as m from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import type { ChunkserverTable } from './chunkservers.js';
import { usedShare } from './location-graph.js';
import type { MasterParts } from './parts.js';
import type { MasterService } from './service.js';

export function registerReplication(
  service: MasterService,
  { goals, goalAudit, drains, replicator, sessions, mutations, chunkservers }: MasterParts,
): void {
  service
    .answer(m.GetGoal, (body) => goals.get(body.id))
    .answer(m.SetGoal, async (body, request) => {
      const reply = await sessions.once(m.SetGoal, request, (origin) =>
        mutations.run(goals.set(body, request.header), origin, () => request.signal),
      );
      replicator.reconsider(body.ids);
      goalAudit.request();
      return reply;
    })
    .answer(m.GetPriorities, (body) => prioritiesOf(body, chunkservers))
    .answer(m.SetDrain, async (body, { header }) => {
      await drains.set(body, header);
      replicator.changed();
      return {};
    });
}

/** @throws INVALID */
function prioritiesOf(
  { client, ...weights }: ValueOf<typeof m.GetPriorities.request>,
  { graph, priority }: ChunkserverTable,
): ValueOf<typeof m.GetPriorities.reply> {
  const { distanceWeight = priority.weights.distanceWeight, spaceWeight = priority.weights.spaceWeight } =
    weights;
  if (distanceWeight < 0 || spaceWeight < 0) throw new GfsError('INVALID', 'a weight is 0 or more');
  const clients: m.ClientPriorities[] = [];
  for (const { id: clientId, hostname, location, rack } of graph.clients) {
    if (client !== undefined && clientId !== client && hostname !== client) continue;
    if (clients.length === m.MAX_PRIORITY_CLIENTS) break;
    const servers = priority.priorities(location, { distanceWeight, spaceWeight }).map((each) => ({
      serverId: each.chunkserver.server.serverId,
      distance: each.distance,
      availableBytes: each.availableBytes,
      usedShare: usedShare(each.chunkserver),
      score: each.score,
    }));
    const place = {
      ...(location === undefined ? {} : { location }),
      ...(rack === undefined ? {} : { rack }),
    };
    clients.push({ clientId, hostname, ...place, servers });
  }
  return { distanceWeight, spaceWeight, clients };
}
