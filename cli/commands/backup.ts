/** `gfs config backup`: what a master needs to be built again, copied into a dated directory. */
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { showConfiguration } from '../config/load.js';
import { Failure } from '../failure.js';
import { type ConfigurationFlags, loadWith } from '../flags.js';
import { bytes, print, printJson } from '../output.js';

export interface BackupFlags extends ConfigurationFlags {
  readonly data?: string;
  readonly log?: boolean;
  readonly json?: boolean;
}

const CHECKPOINT = /^checkpoint-\d{16}$/;
const SEGMENT = /^segment-\d{16}$/;

/**
 * A checkpoint and the segments from it on are all of the metadata. They are only ever appended to, so
 * they can be copied while the master runs: what is written meanwhile is a torn tail, which is cut.
 * @param directory where the dated directory is made
 */
export async function backup(directory: string, flags: BackupFlags): Promise<void> {
  const loaded = await loadWith(flags);
  const data = resolve(flags.data ?? loaded.configuration.master.data);
  if (!existsSync(join(data, 'superblock.json'))) {
    throw new Failure(
      `${data} is not the data directory of a master: it has no superblock.json`,
      'Name it: gfs config backup --data DIR, or its configuration with --config FILE',
    );
  }
  const target = resolve(directory, `gfs-backup-${hostname()}-${stamp()}`);
  mkdirSync(target, { recursive: true, mode: 0o700 });
  writeFileSync(join(target, 'effective.toml'), showConfiguration(loaded), { mode: 0o600 });
  const configured = flags.config ?? process.env.GFS_CONFIG;
  const wanted = [...(configured === undefined ? [] : [resolve(configured)]), join(data, 'superblock.json')];
  wanted.push(...metadataOf(join(data, 'log'), flags.log !== false));
  const copied = wanted.map((file) => copyInto(target, file));
  const files = [describe(join(target, 'effective.toml')), ...copied];
  const manifest = { made: new Date().toISOString(), host: hostname(), data, files };
  writeFileSync(join(target, 'MANIFEST.json'), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600 });
  if (flags.json === true) return printJson({ directory: target, ...manifest });
  const total = files.reduce((sum, { size }) => sum + size, 0);
  print(`${target}: ${files.length} files, ${bytes(total)}`);
}

/** The newest checkpoint, and the segments that may have what is not in it. */
function metadataOf(log: string, withSegments: boolean): string[] {
  const names = existsSync(log) ? readdirSync(log).sort() : [];
  const checkpoint = names.findLast((name) => CHECKPOINT.test(name));
  const from = checkpoint === undefined ? '' : checkpoint.replace('checkpoint', 'segment');
  const segments = names.filter((name) => SEGMENT.test(name));
  // The one before may reach past where the checkpoint ends.
  const first = Math.max(
    0,
    segments.findLastIndex((name) => name <= from),
  );
  const kept = withSegments ? segments.slice(first) : [];
  return [...(checkpoint === undefined ? [] : [checkpoint]), ...kept].map((name) => join(log, name));
}

interface Copied {
  readonly file: string;
  readonly size: number;
  readonly sha256: string;
}

function copyInto(target: string, file: string): Copied {
  const inLog = CHECKPOINT.test(basename(file)) || SEGMENT.test(basename(file));
  const name = inLog ? join('log', basename(file)) : basename(file);
  if (inLog) mkdirSync(join(target, 'log'), { recursive: true, mode: 0o700 });
  copyFileSync(file, join(target, name));
  return describe(join(target, name), name);
}

function describe(path: string, file = basename(path)): Copied {
  const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex');
  return { file, size: statSync(path).size, sha256 };
}

/** `20261122-064512`, UTC. */
function stamp(): string {
  return new Date().toISOString().replaceAll(/[-:]/g, '').slice(0, 15).replace('T', '-');
}
