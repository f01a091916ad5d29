/** `gfs log check|dump|salvage|checkpoint`: the master's operation log, for when something is wrong with it. */
import { basename, resolve } from 'node:path';
import { NodeDisk } from '../../environment/node/disk.js';
import type { LogCheck } from '../../master/log-check.js';
import { MakeCheckpoint } from '../../protocol/messages/index.js';
import { mastersOf } from '../config/options.js';
import { codeOf, EXIT_FAILED, Failure, UsageFailure } from '../failure.js';
import { loadWith } from '../flags.js';
import { queryMaster } from '../master-query.js';
import { type MasterFlags, mastersNearby } from '../master-session.js';
import { bytes, print, printJson } from '../output.js';
import { table } from '../table.js';
import { mastersAssignment } from './masters.js';

const CHECKPOINT_DEADLINE_MS = 600_000;

interface JsonFlags {
  readonly json?: boolean;
}

export async function check(directory: string, flags: JsonFlags): Promise<void> {
  const found = await offline(directory, async (disk, path) => {
    const { checkLog } = await import('../../master/log-check.js');
    return checkLog(disk, path);
  });
  if (flags.json === true) printJson(found);
  else print([tables(found), '', ...verdict(found, directory)].join('\n'));
  if (isDamaged(found)) process.exitCode = EXIT_FAILED;
}

export async function salvage(directory: string, target: string, flags: JsonFlags): Promise<void> {
  const found = await offline(directory, async (disk, path) => {
    const module = await import('../../master/log-check.js');
    return module.salvage(disk, path, resolve(target));
  });
  if (flags.json === true) return printJson(found);
  const lost = found.lostRecords === 0 ? 'nothing is lost' : `${records(found.lostRecords)} lost`;
  print(`${target}: ${records(found.throughRecord)}, ${lost}.`);
  print(`Start a master on it with: gfs master --data ${target}`);
}

export async function dump(
  directory: string,
  flags: { readonly from?: string; readonly count?: string },
): Promise<void> {
  const from = wholeNumber('--from', flags.from, 1);
  let left = wholeNumber('--count', flags.count, Number.MAX_SAFE_INTEGER);
  await offline(directory, async (disk, path) => {
    const { readRecords } = await import('../../master/log-check.js');
    for await (const { sequence, segment, offset, record } of readRecords(disk, path)) {
      if (sequence < from) continue;
      if (left-- === 0) return;
      print(JSON.stringify({ record: sequence, segment: basename(segment), offset, ...record }, jsonValue));
    }
  });
}

export async function checkpoint(flags: MasterFlags & JsonFlags): Promise<void> {
  const { configuration } = await loadWith(flags, mastersAssignment(flags.master));
  const nearby = flags.master === undefined ? mastersNearby(flags) : [];
  const options = { deadlineMs: CHECKPOINT_DEADLINE_MS, uid: process.getuid?.() ?? 0 };
  const { body } = await queryMaster(nearby.length > 0 ? nearby : mastersOf(configuration), (peer) =>
    peer.call(MakeCheckpoint, {}, options),
  );
  if (flags.json === true) return printJson(body);
  print(`A checkpoint of ${records(body.records)}; a start replays ${bytes(body.logBytesBehind)} of log.`);
}

/** Runs `work` on a data directory while no master can start on it. */
async function offline<T>(directory: string, work: (disk: NodeDisk, path: string) => Promise<T>): Promise<T> {
  const disk = new NodeDisk();
  const path = resolve(directory);
  let unlock: () => Promise<void>;
  try {
    await disk.list(`${path}/log`);
    unlock = await disk.lock(`${path}/lock`);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EBUSY')
      throw new Failure(
        `a master is running on ${directory}`,
        'Stop it first; `gfs fsck` checks a running cluster.',
      );
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw new Failure(
        `${directory} is no master's data directory`,
        'It is the directory that has superblock.json.',
      );
    throw error;
  }
  try {
    return await work(disk, path);
  } finally {
    await unlock();
  }
}

function tables({ checkpoints, segments }: LogCheck): string {
  const rows = [
    ...checkpoints.map(({ path, records: count, sizeBytes, reason }) => [
      basename(path),
      `1-${count}`,
      sizeBytes === undefined ? '-' : bytes(sizeBytes),
      reason === undefined ? 'whole' : `damaged: ${reason}`,
    ]),
    ...segments.map(({ path, firstSequence, records: count, sizeBytes, state, reason }) => [
      basename(path),
      count === 0 ? '-' : `${firstSequence}-${firstSequence + count - 1}`,
      bytes(sizeBytes),
      reason === undefined ? state : `${state}: ${reason}`,
    ]),
  ];
  return table(['FILE', 'RECORDS', 'SIZE', 'STATE'], rows, [1, 2]);
}

function verdict(found: LogCheck, directory: string): string[] {
  const { refusal, throughRecord, fromCheckpoint, lostRecords } = found;
  if (refusal === undefined) {
    const aside = found.checkpoints.some(({ reason }) => reason !== undefined);
    return [
      `A master starts on it, with ${records(throughRecord)}.${aside ? ' It passes damaged checkpoints over.' : ''}`,
    ];
  }
  const from = fromCheckpoint === undefined ? 'the log alone' : basename(fromCheckpoint);
  return [
    `No master starts on it: ${refusal}`,
    `Can be saved: ${records(throughRecord)}, from ${from}. Lost: ${lostRecords === 0 ? 'nothing' : records(lostRecords)}.`,
    'A shadow master or log replica has a copy of the log: look there first (gfs shadow).',
    `Otherwise: gfs log salvage ${directory} NEW_DIR`,
  ];
}

function isDamaged({ refusal, checkpoints }: LogCheck): boolean {
  return refusal !== undefined || checkpoints.some(({ reason }) => reason !== undefined);
}

function records(count: number): string {
  return count === 1 ? '1 record' : `${count} records`;
}

function wholeNumber(flag: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  if (!/^\d{1,15}$/.test(text)) throw new UsageFailure(`${flag} ${text}: not a number of records`);
  return Number(text);
}

/** Bytes as hexadecimal digits. */
function jsonValue(_key: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  const { type, data } = (value ?? {}) as { type?: unknown; data?: unknown };
  return type === 'Buffer' && Array.isArray(data) ? Buffer.from(data as number[]).toString('hex') : value;
}
