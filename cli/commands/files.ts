/** `gfs snapshot`, `gfs append`, `gfs fileinfo`: what the mount's extended attributes and ioctls do, by name. */
import { statSync } from 'node:fs';
import { codeOf, Failure, UsageFailure } from '../failure.js';
import { canonical } from '../mounts.js';
import { bytes, colour, print, printJson, readInput } from '../output.js';
import {
  appendRecord,
  type ChunkDescription,
  describeFile,
  explain,
  type ReplicaDescription,
  requireGfs,
  setXattr,
} from '../powers.js';

export async function snapshot(
  source: string,
  destination: string,
  flags: { readonly json?: boolean },
): Promise<void> {
  requireGfs(source);
  try {
    statSync(source);
    // Absolute, so that it means what the user's shell means and not "beside the source".
    const place = canonical(destination);
    await setXattr(source, 'user.gfs.snapshot', Buffer.from(place));
    if (flags.json === true) printJson({ source, destination: place, inode: statSync(place).ino });
  } catch (error) {
    const what = `cannot snapshot ${source} as ${destination}`;
    if (codeOf(error) === 'EINVAL') throw new Failure(`${what}: it would be inside its own source`);
    throw explain(error, what);
  }
}

export interface AppendFlags {
  readonly offset?: boolean;
  readonly newline?: boolean;
  readonly json?: boolean;
}

export async function append(file: string, record: string | undefined, flags: AppendFlags): Promise<void> {
  requireGfs(file);
  if (record === undefined && process.stdin.isTTY) {
    throw new UsageFailure(
      'give the record as a word, or on standard input',
      `As in: date | gfs append ${file}`,
    );
  }
  const given = record === undefined ? await readInput() : Buffer.from(record);
  const whole = flags.newline === true ? Buffer.concat([given, Buffer.from('\n')]) : given;
  if (whole.byteLength === 0) throw new Failure(`cannot append to ${file}: the record is empty`);
  let offset: number;
  try {
    offset = await appendRecord(file, whole);
  } catch (error) {
    throw explain(error, `cannot append to ${file}`);
  }
  if (flags.json === true) printJson({ file, offset, length: whole.byteLength });
  else if (flags.offset === true) print(String(offset));
}

/** One that cannot be shown is told, and does not keep the others from being shown. */
export async function fileinfo(files: readonly string[], flags: { readonly json?: boolean }): Promise<void> {
  for (const file of files) {
    try {
      await showFile(file, flags);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      process.stderr.write(`gfs: ${error.message}\n`);
      process.exitCode = error.exitCode;
    }
  }
}

async function showFile(file: string, flags: { readonly json?: boolean }): Promise<void> {
  requireGfs(file);
  let description: Awaited<ReturnType<typeof describeFile>>;
  try {
    description = await describeFile(file);
  } catch (error) {
    throw explain(error, file);
  }
  if (flags.json === true) {
    printJson({ file, ...description });
    return;
  }
  const { size, chunkBytes, chunks } = description;
  const there = chunks.filter(({ handle }) => handle !== null).length;
  const unit = there === 1 ? 'chunk' : 'chunks';
  print(`${file}: ${size} bytes (${bytes(size)}), ${there} ${unit} of up to ${bytes(chunkBytes)}`);
  if (chunks.length > 0) {
    const { table } = await import('../table.js');
    print(
      table(['CHUNK', 'HANDLE', 'VERSION', 'LENGTH', 'GOAL', 'REPLICAS'], chunks.map(rowOf), [0, 2, 3, 4]),
    );
  }
}

function rowOf(chunk: ChunkDescription): string[] {
  if (chunk.handle === null) {
    const run = (chunk.chunks ?? 1) > 1 ? `a hole of ${chunk.chunks} chunks` : 'a hole';
    return [String(chunk.index), '-', '-', String(chunk.length), '-', run];
  }
  const replicas = chunk.replicas?.map((replica) => showReplica(replica, chunk.primary)) ?? [];
  return [
    String(chunk.index),
    chunk.handle.toString(16).padStart(14, '0'),
    String(chunk.version ?? '-'),
    String(chunk.length),
    String(chunk.goal ?? '-'),
    replicas.length === 0 ? colour('red', 'NONE') : replicas.join(' '),
  ];
}

/** `id@host:port`, a star behind the primary, and what is the matter with it. */
function showReplica({ server, host, port, rack, state }: ReplicaDescription, primary?: string): string {
  const star = server === primary ? '*' : '';
  const where = rack === undefined ? '' : `/${rack}`;
  const trouble = state === undefined || state === 'current' ? '' : colour('red', `(${state})`);
  return `${server}@${host}:${port}${where}${star}${trouble}`;
}
