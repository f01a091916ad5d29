/** What the master answers about deleted files (protocol/messages/trash.ts). */
import * as m from '../protocol/messages/index.js';
import type { MasterParts } from './parts.js';
import type { MasterService } from './service.js';

export function registerTrash(service: MasterService, { trash }: MasterParts): void {
  service
    .answer(m.ListDeleted, (body, { header }) => trash.list(body, header))
    .answer(m.GetDeleted, (body, { header }) => trash.get(body.id, header))
    .answer(m.GetRetention, (body) => trash.retention(body.id));
}
