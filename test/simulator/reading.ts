/** Reading what others wrote, and comparing. */
import type { OpenFile } from '../../client/open-file.js';
import { toGfsError } from '../../protocol/errors.js';
import type { Attempt, ClientContext } from './actor.js';
import { type AppendFile, type TrackedFile, Violation } from './ledger.js';

/** More than any file has. */
const ALL_BYTES = 2 ** 30;

export async function readWhole(file: OpenFile): Promise<Buffer> {
  const { buffers, release } = await file.read(0, ALL_BYTES, {});
  const bytes = Buffer.concat(buffers);
  release();
  return bytes;
}

type Reading = Pick<ClientContext, 'client'>;

async function openAndRead({ client }: Reading, id: number): Promise<Buffer> {
  const file = await client.open(id, {});
  try {
    return await readWhole(file);
  } finally {
    await client.close(file);
  }
}

/** Reads a file that another client writes, and compares. @throws Violation */
export async function checkFile(context: Reading, tracked: TrackedFile, attempt: Attempt): Promise<void> {
  const watch = tracked.model.watch();
  const sealed = tracked.seal?.epoch;
  try {
    const what = `read ${tracked.path}, node ${tracked.id}`;
    const seen = await attempt(what, async () => {
      try {
        return await openAndRead(context, tracked.id);
      } catch (thrown) {
        if (tracked.gone && toGfsError(thrown).code === 'STALE_NODE') return undefined;
        throw thrown;
      }
    });
    if (seen === undefined || tracked.gone) return;
    const problem = tracked.model.check(watch, seen) ?? tracked.seal?.check(sealed, seen);
    if (problem !== undefined) throw new Violation(`${what}: ${problem}`);
  } finally {
    tracked.model.forget(watch);
  }
}

/** Reads a file of appended records, and compares. @throws Violation */
export async function checkAppends(context: Reading, target: AppendFile, attempt: Attempt): Promise<void> {
  const expected = target.model.expected();
  const seen = await attempt(`read ${target.path}`, () => openAndRead(context, target.id));
  const problem = seen === undefined ? undefined : target.model.check(expected, seen);
  if (problem !== undefined) throw new Violation(`read ${target.path}: ${problem}`);
}
