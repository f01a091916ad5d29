/** `gfs append --records` and `gfs cat`: files that many hosts append to, record by record (docs/formats/records.md). */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { type RecordCounts, RecordReader, RecordWriter } from '../../client/records.js';
import { Failure, UsageFailure } from '../failure.js';
import { print, printJson } from '../output.js';
import { appendRecord, explain, requireGfs } from '../powers.js';

const WRITER_ID_BYTES = 8;
const READ_BYTES = 1024 * 1024;

/** Appends the record, or every line of standard input as one. */
export async function appendRecords(
  file: string,
  record: string | undefined,
  flags: { readonly json?: boolean; readonly offset?: boolean },
): Promise<void> {
  requireGfs(file);
  if (record === undefined && process.stdin.isTTY)
    throw new UsageFailure(
      'give the record as a word, or lines on standard input',
      `As in: gfs append --records ${file} <events`,
    );
  const writer = new RecordWriter(randomBytes(WRITER_ID_BYTES).toString('hex'));
  const lines =
    record === undefined
      ? createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
      : [record];
  let count = 0;
  try {
    for await (const line of lines) {
      const offset = await appendRecord(file, writer.encode(Buffer.from(line)));
      count++;
      if (flags.offset === true) print(String(offset));
    }
  } catch (error) {
    const failure = explain(error, `cannot append to ${file}`);
    throw new Failure(failure.message, `${count} records were appended before.`);
  }
  if (flags.json === true) printJson({ file, records: count });
}

export interface CatFlags {
  readonly records?: boolean;
  readonly json?: boolean;
}

/** The bytes of files, or their records, a line each. */
export async function cat(files: readonly string[], flags: CatFlags): Promise<void> {
  if (flags.json === true && flags.records !== true)
    throw new UsageFailure('--json tells of records', 'As in: gfs cat --records --json FILE');
  for (const file of files) {
    try {
      if (flags.records === true) await catRecords(file, flags.json === true);
      else
        for await (const bytes of createReadStream(file, { highWaterMark: READ_BYTES })) await write(bytes);
    } catch (error) {
      throw explain(error, file);
    }
  }
}

async function catRecords(file: string, asJson: boolean): Promise<void> {
  const found: Buffer[] = [];
  const reader = new RecordReader((data, offset) => {
    const line = asJson
      ? JSON.stringify({ offset, length: data.byteLength, data: data.toString('base64') })
      : data;
    found.push(Buffer.concat([Buffer.from(line), Buffer.from('\n')]));
  });
  const flush = () => write(Buffer.concat(found.splice(0)));
  for await (const bytes of createReadStream(file, { highWaterMark: READ_BYTES })) {
    reader.push(bytes);
    await flush();
  }
  const counts = reader.end();
  await flush();
  warnOf(file, counts);
}

/** Said aside, so that a pipe gets records alone. */
function warnOf(file: string, { records, duplicates, skippedBytes }: RecordCounts): void {
  if (duplicates === 0 && skippedBytes === 0) return;
  process.stderr.write(
    `gfs: ${file}: ${records} records; passed over ${duplicates} duplicates and ${skippedBytes} bytes that are no record\n`,
  );
}

async function write(bytes: Buffer): Promise<void> {
  if (bytes.byteLength > 0 && !process.stdout.write(bytes)) await once(process.stdout, 'drain');
}
