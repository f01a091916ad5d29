/** What the master answers about checkpoints (protocol/messages/checkpoints.ts). */
import { GfsError } from '../protocol/errors.js';
import * as m from '../protocol/messages/index.js';
import type { MasterParts } from './parts.js';
import type { MasterService } from './service.js';

export function registerCheckpoints(service: MasterService, { checkpointer }: MasterParts): void {
  service.answer(m.MakeCheckpoint, async (_, { header }) => {
    if (header.uid !== 0) throw new GfsError('NOT_PERMITTED', 'only root makes checkpoints');
    const { records, logBytesBehind } = await checkpointer.now();
    return { records, logBytesBehind };
  });
}
