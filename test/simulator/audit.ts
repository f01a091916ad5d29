/** The check from outside at the end: everything acknowledged is there. */
import type { GfsClient } from '../../client/index.js';
import { GetXattr, ReadDirectory } from '../../protocol/messages/index.js';
import { type Ledger, type TrackedDirectory, type TrackedFile, Violation } from './ledger.js';
import { checkAppends, checkFile } from './reading.js';
import type { ReplicaAudit } from './replica-audit.js';

type MustSucceed = <T>(what: string, run: () => Promise<T>) => Promise<T>;

/** With everything repaired nothing may fail: every file is read, every directory listed. @throws Violation */
export async function auditFiles(client: GfsClient, ledger: Ledger, replicas: ReplicaAudit): Promise<void> {
  for (const directory of ledger.directories) {
    if (!directory.gone) await auditDirectory(client, directory, attempt);
  }
  for (const file of ledger.files) {
    if (file.gone) continue;
    await auditXattrs(client, file, attempt);
    await unlessDamaged(file, replicas, () => checkFile({ client }, file, attempt));
    await replicas.compare(file.id, file.path);
    // The primary of a new lease may have made the others equal to itself: to what it may be.
    await unlessDamaged(file, replicas, () => checkFile({ client }, file, attempt));
  }
  for (const file of ledger.appendFiles) {
    await unlessDamaged(file, replicas, () => checkAppends({ client }, file, attempt));
    await replicas.compare(file.id, file.path);
    await unlessDamaged(file, replicas, () => checkAppends({ client }, file, attempt));
  }
}

const attempt: MustSucceed = async (what, run) => {
  try {
    return await run();
  } catch (thrown) {
    if (thrown instanceof Violation) throw thrown;
    const { code, message } = thrown as { code?: string; message: string };
    throw new Unavailable(`audit: ${what}: ${code} ${message}`, { cause: thrown });
  }
};

/** Something could not be done, which is a violation too unless it could not be possible. */
class Unavailable extends Violation {}

/** Where all replicas of a chunk are damaged it cannot be read; whatever else it is never wrong. */
async function unlessDamaged(
  file: { readonly id: number },
  replicas: ReplicaAudit,
  check: () => Promise<void>,
): Promise<void> {
  try {
    await check();
  } catch (thrown) {
    if (!(thrown instanceof Unavailable) || !(await replicas.isDamaged(file.id))) throw thrown;
  }
}

async function auditXattrs(client: GfsClient, { id, path, xattrs }: TrackedFile, attempt: MustSucceed) {
  for (const [name, expected] of xattrs) {
    const get = () => client.master.query(GetXattr, { id, name });
    const { value } = await attempt(`get ${name} of ${path}`, get);
    const found = Buffer.from(value).toString();
    if (found !== expected) throw new Violation(`${path}: ${name} is ${found}, it should be ${expected}`);
  }
}

async function auditDirectory(
  client: GfsClient,
  { id, path, names, directories, uncertain }: TrackedDirectory,
  attempt: MustSucceed,
): Promise<void> {
  const { entries } = await attempt(`list ${path}`, () => {
    return client.master.query(ReadDirectory, { id, cookie: 0, limit: 1024 });
  });
  const found = new Map(entries.map(({ name, attributes }) => [name, attributes.id]));
  for (const [name, node] of [...names, ...directories]) {
    if (uncertain.has(name)) continue;
    if (found.get(name) !== node.id) {
      throw new Violation(`${path}/${name} is node ${found.get(name)}, it should be ${node.id}`);
    }
  }
  for (const [name, node] of found) {
    if (uncertain.has(name) || names.has(name) || directories.has(name)) continue;
    throw new Violation(`${path}/${name} is node ${node}, it should not be there`);
  }
}
