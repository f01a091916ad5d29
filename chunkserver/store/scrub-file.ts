/** How far scrubbing is with one disk, kept on that disk. */
import type { Disk } from '../../environment/ports/index.js';
import { readWhole, replaceFile } from './files.js';
import type { Layout } from './layout.js';
import { sealed, unsealed } from './sealed-json.js';

const NAME = 'gfs scrub progress';
const FORMAT = 1;

export interface ScrubRecord {
  /** When the newest pass began, in seconds since 1970. */
  readonly beganSec: number;
  /** In that pass all replicas up to this handle have been checked. */
  readonly checkedUpTo: number;
  /** How many those were. */
  readonly checked: number;
  /** The pass is through with this disk. */
  readonly complete: boolean;
  /** Handles of the damaged replicas that it has found. */
  readonly damaged: readonly number[];
  /** Passes that this server has completed. */
  readonly passes: number;
}

/** Undefined where there is none that can be used: nothing is lost but the time of checking again. */
export async function readScrubRecord(disk: Disk, layout: Layout): Promise<ScrubRecord | undefined> {
  const raw = await readWhole(disk, layout.scrub);
  if (raw === undefined) return undefined;
  const stored = unsealed<ScrubRecord & { readonly name: string; readonly format: number }>(raw);
  return stored?.name === NAME && stored.format === FORMAT ? stored : undefined;
}

/** Replaces it: a crash leaves the old or the new one, which are equally right. */
export async function writeScrubRecord(disk: Disk, layout: Layout, record: ScrubRecord): Promise<void> {
  await replaceFile(disk, layout.scrub, [sealed({ name: NAME, format: FORMAT, ...record })]);
  await disk.syncDirectory(layout.root);
}
