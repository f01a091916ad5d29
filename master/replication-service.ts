/** What the master answers about goals and draining (protocol/messages/goal.ts). */
import * as m from '../protocol/messages/index.js';
import type { MasterParts } from './parts.js';
import type { MasterService } from './service.js';

export function registerReplication(
  service: MasterService,
  { goals, goalAudit, drains, replicator, sessions, mutations }: MasterParts,
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
    .answer(m.SetDrain, async (body, { header }) => {
      await drains.set(body, header);
      replicator.changed();
      return {};
    });
}
