/** Goals, at the end: each file has the one that it was given, and its chunks have as many replicas, no more and no less. */
import type { GfsClient } from '../../client/index.js';
import { type ChunkDescription, DescribeChunks, GetGoal, SetGoal } from '../../protocol/messages/index.js';
import { type Ledger, type TrackedFile, Violation } from './ledger.js';
import type { Waiting } from './trash-audit.js';

const POLL_MS = 500;
/** What is found damaged when it is read is made anew. */
const HEALING_MS = 30_000;
const PAGE_CHUNKS = 64;

/** @throws Violation */
export async function auditGoals(client: GfsClient, ledger: Ledger, time: Waiting): Promise<void> {
  for (const file of ledger.files) if (!file.gone) await auditFile(client, ledger, file, time);
}

async function auditFile(client: GfsClient, ledger: Ledger, file: TrackedFile, time: Waiting): Promise<void> {
  const mayBe = file.goal.watch();
  const { goal } = await client.master.query(GetGoal, { id: file.id });
  if (!mayBe(goal)) throw new Violation(`${file.path}, node ${file.id}: its goal is ${goal}`);
  const beganMs = time.nowMs();
  for (;;) {
    const chunks = await chunksOf(client, file.id);
    const odd = chunks.find((chunk) => !ledger.mayBeLost(chunk.handle) && isOdd(chunk, goal));
    if (odd === undefined) return;
    if (time.nowMs() - beganMs > HEALING_MS) {
      const { handle, references, goal: own, replicas } = odd;
      const states = replicas.map(({ state }) => state).join(', ');
      const what = `chunk ${handle} of goal ${own}, shared by ${references}, has replicas that are ${states}`;
      throw new Violation(`${file.path}, node ${file.id}, of goal ${goal}: ${what}`);
    }
    // It was shared with a file of a higher goal until all are gone through again: once in a while, or when one is set.
    if (odd.goal > goal) await client.master.mutate(SetGoal, { ids: [file.id], goal });
    await time.sleep(POLL_MS);
  }
}

/** Of several files that share it the highest counts; after one of them is gone, that of the others comes later. */
function isOdd({ goal, references, replicas }: ChunkDescription, ofFile: number): boolean {
  const isWrong = references === 1 ? goal !== ofFile : goal < ofFile;
  return isWrong || replicas.filter(({ state }) => state === 'current').length !== goal;
}

async function chunksOf(client: GfsClient, id: number): Promise<ChunkDescription[]> {
  const found: ChunkDescription[] = [];
  for (let index = 0; ; ) {
    const { chunks, next } = await client.master.query(DescribeChunks, { id, index, count: PAGE_CHUNKS });
    found.push(...chunks);
    if (next === 0) return found;
    index = next;
  }
}
