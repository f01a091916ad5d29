/** The checks from outside: everything acknowledged is there in the end, and the log says what the master knows. */
import type { GfsClient } from '../../client/index.js';
import type { Disk, DiskFile } from '../../environment/ports/index.js';
import { digestState } from '../../master/dump.js';
import { replay } from '../../master/recovery.js';
import { GetXattr, ReadDirectory } from '../../protocol/messages/index.js';
import { type FakeDisk, FakeLogger, LogBook } from '../fakes/index.js';
import { MASTER_DIRECTORY, type MasterMember, type ShadowMember } from './cluster.js';
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

/**
 * The simulation damages replicas on one chunkserver only, but other faults may have left a chunk with none
 * but that: then it cannot be read, whatever else it is never wrong.
 */
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

/**
 * Whether the log, as it is on the master's disk now, replays to the state that the master has now.
 * Undefined when the master does not serve. It may be false while a record is on its way from one to the
 * other, never for long.
 */
export async function logMatchesState({ host, process, master }: MasterMember): Promise<boolean | undefined> {
  if (process?.alive !== true || master === undefined) return undefined;
  const live = digestState(master.state);
  const { disk, names } = copyOf(host.disk, `${MASTER_DIRECTORY}/log`);
  if (names.length === 0) return undefined;
  const text = Buffer.from(host.disk.contentOf(`${MASTER_DIRECTORY}/superblock.json`) ?? []).toString();
  const superblock = JSON.parse(text) as { clusterId: string; chunkBytes: number; term: number };
  const { state } = await replay(disk, new FakeLogger(new LogBook(), 'audit', () => 0), {
    ...superblock,
    directory: `${MASTER_DIRECTORY}/log`,
  });
  return digestState(state) === live;
}

/**
 * Whether a shadow says what the master says, when it follows it and has as many records: then its log is
 * the master's, record by record. Undefined when that cannot be judged now.
 */
export function shadowAgrees({ process, master }: MasterMember, shadow: ShadowMember): boolean | undefined {
  if (process?.alive !== true || master === undefined) return undefined;
  const { shadow: copy } = shadow;
  if (shadow.process?.alive !== true || copy?.state === undefined || !copy.follows) return undefined;
  if (copy.endSequence !== master.logEndSequence) return undefined;
  return digestState(copy.state) === digestState(master.state);
}

/** A copy of one directory, as a disk that answers at once and forgets what is written. */
function copyOf(source: FakeDisk, directory: string): { disk: Disk; names: string[] } {
  const names = source.namesIn(directory);
  const contents = new Map(
    names.map((name) => [`${directory}/${name}`, source.contentOf(`${directory}/${name}`)]),
  );
  const refuse = () => Promise.reject(new Error('this disk is a copy'));
  const disk: Disk = {
    allocate: (sizeBytes) => new Uint8Array(sizeBytes),
    open: async (path) => memoryFile(contents.get(path) ?? new Uint8Array(0)),
    list: async () => names,
    makeDirectory: async () => undefined,
    rename: refuse,
    remove: refuse,
    copy: refuse,
    syncDirectory: async () => undefined,
    space: refuse,
    lock: refuse,
  };
  return { disk, names };
}

function memoryFile(content: Uint8Array): DiskFile {
  return {
    read: async (buffer, position) => {
      const part = content.subarray(position, position + buffer.byteLength);
      buffer.set(part);
      return part.byteLength;
    },
    write: async () => undefined,
    sync: async () => undefined,
    sizeBytes: async () => content.byteLength,
    truncate: async () => undefined,
    close: async () => undefined,
  };
}
