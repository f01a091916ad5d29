/** `gfs checkfile`, `gfs dirinfo`: how well a file's chunks are, and what is in a directory. */
import { checkTree, type MasterSession, type TreeSummary } from '../../client/index.js';
import { GfsError } from '../../protocol/errors.js';
import {
  type Attributes,
  type ChunkDescription,
  DescribeChunks,
  LookupPath,
} from '../../protocol/messages/index.js';
import { EXIT_FAILED, Failure } from '../failure.js';
import { caller, type MasterFlags, withMaster } from '../master-session.js';
import { bytes, colour, count, print, printJson } from '../output.js';
import { bytesOf, type Place, placeOf } from '../place.js';

const CHUNKS_PER_QUESTION = 64;

export interface InspectFlags extends MasterFlags {
  readonly json?: boolean;
}

/** A path on a mount, or one of the cluster that `--master` names. @throws Failure */
export function inspected(path: string, flags: MasterFlags): Place {
  const place = placeOf(path);
  if (place !== undefined) return place;
  if (flags.master !== undefined && path.startsWith('/'))
    return { mountPoint: '/', path, clusterPath: bytesOf(path), root: '/', masters: [] };
  throw new Failure(
    `${path} is not on a mounted GFS`,
    'Name a path on a mount (findmnt -t fuse.gfs), or a path in the cluster with --master HOST:PORT',
  );
}

/** @throws Failure */
export async function nodeAt(master: MasterSession, place: Place): Promise<number> {
  return (await attributesAt(master, place)).id;
}

/** @throws Failure */
export async function attributesAt(master: MasterSession, { clusterPath, path }: Place): Promise<Attributes> {
  try {
    return (await master.query(LookupPath, { path: clusterPath }, caller())).attributes;
  } catch (error) {
    if (error instanceof GfsError && error.errno === 'ENOENT')
      throw new Failure(`${path}: there is no such file or directory (ENOENT)`);
    throw error;
  }
}

/** Chunks by how many good copies they have. */
interface FileCheck {
  readonly file: string;
  readonly chunks: number;
  readonly goal: number;
  readonly copies: Record<number, number>;
  readonly belowGoal: number;
  readonly lost: number;
  /** Copies that are no use: behind, damaged, or not compared yet. */
  readonly bad: Record<string, number>;
}

/** Exit code 1 when a chunk has fewer good copies than its goal. */
export async function checkfile(files: readonly string[], flags: InspectFlags): Promise<void> {
  const places = files.map((file) => ({ file, place: inspected(file, flags) }));
  const checks: FileCheck[] = [];
  await withMaster(flags, places[0]?.place.masters ?? [], async (master) => {
    for (const { file, place } of places) {
      try {
        checks.push(await checkOne(master, file, place));
      } catch (error) {
        if (!(error instanceof GfsError) && !(error instanceof Failure)) throw error;
        const isDirectory = error instanceof GfsError && error.code === 'IS_DIRECTORY';
        const reason = isDirectory ? 'it is a directory: gfs dirinfo, gfs fsck' : error.message;
        process.stderr.write(`gfs: ${error instanceof Failure ? reason : `${file}: ${reason}`}\n`);
        process.exitCode = EXIT_FAILED;
      }
    }
  });
  if (flags.json === true) printJson(checks);
  else for (const check of checks) print(showCheck(check));
  if (checks.some(({ belowGoal, lost }) => belowGoal + lost > 0)) process.exitCode = EXIT_FAILED;
}

async function checkOne(master: MasterSession, file: string, place: Place): Promise<FileCheck> {
  const id = await nodeAt(master, place);
  const chunks: ChunkDescription[] = [];
  for (let index = 0; ; ) {
    const page = await master.query(DescribeChunks, { id, index, count: CHUNKS_PER_QUESTION }, caller());
    chunks.push(...page.chunks);
    if (page.next === 0) break;
    index = page.next;
  }
  const copies: Record<number, number> = {};
  const bad: Record<string, number> = {};
  let belowGoal = 0;
  let lost = 0;
  for (const { goal, replicas } of chunks) {
    const good = replicas.filter(({ state }) => state === 'current').length;
    copies[good] = (copies[good] ?? 0) + 1;
    for (const { state } of replicas) if (state !== 'current') bad[state] = (bad[state] ?? 0) + 1;
    if (good === 0) lost++;
    else if (good < goal) belowGoal++;
  }
  return { file, chunks: chunks.length, goal: chunks[0]?.goal ?? 0, copies, belowGoal, lost, bad };
}

function showCheck({ file, chunks, goal, copies, bad }: FileCheck): string {
  if (chunks === 0) return `${file}: no chunks`;
  const rows = Object.entries(copies).map(([each, how]) => {
    const few = Number(each) < goal;
    const line = `  chunks with ${each} ${each === '1' ? 'copy' : 'copies'}: ${how}`;
    if (!few) return line;
    return colour(Number(each) === 0 ? 'red' : 'yellow', `${line}   (the goal is ${goal})`);
  });
  const rest = Object.entries(bad).map(([state, how]) => `  ${state} copies: ${how}`);
  return [`${file}:`, ...rows, ...rest].join('\n');
}

export async function dirinfo(paths: readonly string[], flags: InspectFlags): Promise<void> {
  const places = paths.map((path) => ({ path, place: inspected(path, flags) }));
  await withMaster(flags, places[0]?.place.masters ?? [], async (master) => {
    const all: object[] = [];
    for (const { path, place } of places) {
      const summary = await checkTree(master, await nodeAt(master, place), caller());
      if (flags.json === true) all.push({ path, ...summary });
      else print([`${path}:`, ...summaryRows(summary)].join('\n'));
    }
    if (flags.json === true) printJson(all);
  });
}

/** What is in a tree, a line each. */
export function summaryRows(summary: TreeSummary): string[] {
  const { files, directories, others, deletedFiles, chunks, replicas, goals } = summary;
  const rows: [string, string][] = [
    ['files', count(files)],
    ['directories', count(directories)],
    ...(others > 0 ? [['links and others', count(others)] as [string, string]] : []),
    ...(deletedFiles > 0 ? [['deleted files', count(deletedFiles)] as [string, string]] : []),
    ['length', `${bytes(summary.bytes)} (${count(summary.bytes)} bytes)`],
    ['chunks', `${count(chunks)}, ${count(replicas)} good copies`],
    ...goals.map(({ goal, files: each, chunks: those }): [string, string] => [
      goal === 0 ? 'without chunks' : `goal ${goal}`,
      `${count(each)} files${goal === 0 ? '' : `, ${count(those)} chunks`}`,
    ]),
    ['health', healthText(summary)],
  ];
  return rows.map(([name, text]) => `  ${name.padEnd(17)} ${text}`);
}

export function healthText({ chunks, healthy, belowGoal, lost, unknown }: TreeSummary): string {
  if (healthy === chunks) return colour('green', 'every chunk has its copies');
  return [
    `${count(healthy)} chunks well`,
    ...(belowGoal > 0 ? [colour('yellow', `${count(belowGoal)} below their goal`)] : []),
    ...(unknown > 0 ? [colour('yellow', `${count(unknown)} not known yet`)] : []),
    ...(lost > 0 ? [colour('red', `${count(lost)} LOST`)] : []),
  ].join(', ');
}
