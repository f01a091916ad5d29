/** What was deleted, at the end: there until its time is over, gone for good after that. */
import type { GfsClient } from '../../client/index.js';
import { toGfsError } from '../../protocol/errors.js';
import { GetDeleted, ROOT_ID, Undelete } from '../../protocol/messages/index.js';
import { type DeletedFile, type Ledger, Violation } from './ledger.js';

const POLL_MS = 2_000;
/** After everybody who may have had it open has gone in order; one that was killed may come back to it for an hour. */
const EXPIRY_MS = 60_000;

export interface Waiting {
  readonly nowMs: () => number;
  readonly sleep: (ms: number) => Promise<void>;
}

/** Brings back what can be brought back, for the audit of files; waits until what has expired is gone. @throws Violation */
export async function auditTrash(client: GfsClient, ledger: Ledger, time: Waiting): Promise<void> {
  for (const deleted of [...ledger.deleted]) {
    if (!ledger.mayHaveExpired(deleted, time.nowMs())) await restore(client, deleted);
    else if (!ledger.trash.mayRunShort && ledger.clientsLost === 0) await untilExpired(client, deleted, time);
  }
}

async function restore(client: GfsClient, { file }: DeletedFile): Promise<void> {
  const body = { id: file.id, parent: ROOT_ID, name: `restored-${file.id}` };
  try {
    await client.master.mutate(Undelete, body);
  } catch (thrown) {
    const { code, message } = toGfsError(thrown);
    throw new Violation(
      `${file.path}, node ${file.id}, which was deleted, is not to be had: ${code} ${message}`,
    );
  }
  file.gone = false;
}

async function untilExpired(client: GfsClient, { file }: DeletedFile, time: Waiting): Promise<void> {
  const endMs = time.nowMs() + EXPIRY_MS;
  while (await isThere(client, file.id)) {
    if (time.nowMs() > endMs) throw new Violation(`${file.path}, node ${file.id}, is deleted and never goes`);
    await time.sleep(POLL_MS);
  }
}

async function isThere(client: GfsClient, id: number): Promise<boolean> {
  try {
    await client.master.query(GetDeleted, { id });
    return true;
  } catch (thrown) {
    if (toGfsError(thrown).code === 'NOT_FOUND') return false;
    throw thrown;
  }
}
