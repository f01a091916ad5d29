/** `gfs snapshot`, `gfs append`, `gfs fileinfo`: what the mount's extended attributes and ioctls do, by name. */
import { statSync } from 'node:fs';
import { Failure, UsageFailure } from '../failure.js';
import { canonical } from '../mounts.js';
import { bytes, print, printJson, readInput, table } from '../output.js';
import {
  appendRecord,
  type ChunkDescription,
  describeFile,
  explain,
  requireGfs,
  setXattr,
} from '../powers.js';

export async function snapshot(source: string, destination: string): Promise<void> {
  requireGfs(source);
  try {
    statSync(source);
    // Absolute, so that it means what the user's shell means and not "beside the source".
    await setXattr(source, 'user.gfs.snapshot', Buffer.from(canonical(destination)));
  } catch (error) {
    const failure = explain(error, `cannot snapshot ${source} as ${destination}`);
    throw failure;
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

export async function fileinfo(file: string, flags: { readonly json?: boolean }): Promise<void> {
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
  const unit = chunks.length === 1 ? 'chunk' : 'chunks';
  print(`${file}: ${size} bytes (${bytes(size)}), ${chunks.length} ${unit} of up to ${bytes(chunkBytes)}`);
  if (chunks.length > 0) {
    print(table(['CHUNK', 'HANDLE', 'VERSION', 'LENGTH', 'REPLICAS'], chunks.map(rowOf), [0, 2, 3]));
  }
}

function rowOf(chunk: ChunkDescription): string[] {
  const replicas = chunk.replicas?.map(({ server, host, port }) => `${server}@${host}:${port}`) ?? [];
  return [
    String(chunk.index),
    chunk.handle === null ? '-' : chunk.handle.toString(16).padStart(14, '0'),
    String(chunk.version ?? '-'),
    String(chunk.length),
    chunk.handle === null ? 'a hole' : replicas.length === 0 ? 'NONE' : replicas.join(' '),
  ];
}
