/**
 * The operation log and those who have it, held to three rules whenever they are looked at: what each says
 * is what its own log on its disk replays to; whoever has the same last record, told by its term and place,
 * says the same; and what a master counts is in the log of every master of a later term. One that was restarted
 * counts nothing until its term has begun: what it wrote last may be on no other disk, and nobody was told of it.
 */
import type { Disk, DiskFile } from '../../environment/ports/index.js';
import { digestState } from '../../master/dump.js';
import { DamagedLogError, replay } from '../../master/recovery.js';
import { type FakeDisk, FakeLogger, LogBook } from '../fakes/index.js';
import { Violation } from './ledger.js';
import { type Copy, type LogMember, MASTER_DIRECTORY } from './log-member.js';

const LOG_DIRECTORY = `${MASTER_DIRECTORY}/log`;

interface Told extends Copy {
  readonly member: LogMember;
  readonly digest: string;
}

/** @throws Violation */
export async function checkLogs(members: readonly LogMember[]): Promise<void> {
  // All at one moment: what follows looks at copies.
  const told = members.flatMap((member): Told[] => {
    const { copy } = member;
    return copy === undefined ? [] : [{ ...copy, member, digest: digestState(copy.state) }];
  });
  const logs = told.map(({ member }) => logOf(member.host.disk));
  checkEqual(told);
  for (const [index, { member, endSequence, digest }] of told.entries()) {
    const replayed = await (logs[index] as Log).digestAt(endSequence);
    if (replayed === digest) continue;
    throw new Violation(
      `${member.host.name}: its log through record ${endSequence} does not replay to the state that it has`,
    );
  }
  await checkSucceeded(told, logs);
}

function checkEqual(told: readonly Told[]): void {
  const first = new Map<string, Told>();
  for (const each of told) {
    const record = `record ${each.endSequence} of term ${each.lastTerm}`;
    const other = first.get(record) ?? each;
    first.set(record, other);
    if (other.digest === each.digest) continue;
    throw new Violation(
      `${other.member.host.name} and ${each.member.host.name} have ${record}, and other states`,
    );
  }
}

/** A master that was replaced may not know it yet, but nothing that it does counts any more. */
async function checkSucceeded(told: readonly Told[], logs: readonly Log[]): Promise<void> {
  const masters = told.flatMap((each, index) => {
    const { master } = each.member;
    return master === undefined ? [] : [{ ...each, term: master.term, log: logs[index] as Log }];
  });
  for (const former of masters.filter(({ member }) => member.master?.logCounts)) {
    for (const later of masters.filter(({ term }) => term > former.term)) {
      const digest = await later.log.digestAt(former.endSequence);
      // Behind a checkpoint nobody can tell any more what it was.
      if (digest === former.digest || digest === undefined) continue;
      const [a, b] = [former.member.host.name, later.member.host.name];
      throw new Violation(
        `${a}, of term ${former.term}, counts record ${former.endSequence}, which ${b}, of term ${later.term}, lacks`,
      );
    }
  }
}

interface Log {
  /** Of the state after so many records; `short` where there are fewer, undefined where a checkpoint covers them. */
  digestAt(endSequence: number): Promise<string | undefined>;
}

function logOf(disk: FakeDisk): Log {
  const copy = copyOf(disk, LOG_DIRECTORY);
  const text = Buffer.from(disk.contentOf(`${MASTER_DIRECTORY}/superblock.json`) ?? []).toString();
  const { clusterId, chunkBytes } = JSON.parse(text) as { clusterId: string; chunkBytes: number };
  const identity = { clusterId, chunkBytes, directory: LOG_DIRECTORY };
  const logger = new FakeLogger(new LogBook(), 'audit', () => 0);
  return {
    digestAt: async (endSequence) => {
      try {
        const { state, nextSequence } = await replay(copy, logger, identity, endSequence + 1);
        return nextSequence === endSequence + 1 ? digestState(state) : 'short';
      } catch (thrown) {
        if (thrown instanceof DamagedLogError) return undefined;
        throw thrown;
      }
    },
  };
}

/** A copy of one directory, as a disk that answers at once and forgets what is written. */
function copyOf(source: FakeDisk, directory: string): Disk {
  const names = source.namesIn(directory);
  const contents = new Map(
    names.map((name) => [`${directory}/${name}`, source.contentOf(`${directory}/${name}`)]),
  );
  const refuse = () => Promise.reject(new Error('this disk is a copy'));
  return {
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
