/**
 * What a file system must do, as real system calls on a real path. It knows nothing of what is behind
 * the path: it runs on a directory of the local disk as the oracle, then on every binding and on GFS.
 */
import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Capability } from '../../fuse-client/handler.js';
import { aclCases } from './acls.js';
import { attributeCases } from './attributes.js';
import { concurrencyCases } from './concurrency.js';
import { directoryCases } from './directories.js';
import { extentCases } from './extents.js';
import { fileCases } from './files.js';
import { lockCases } from './locks.js';
import { nameCases } from './names.js';
import { Python } from './python.js';
import { unnamedCases } from './unnamed-files.js';

export interface Case {
  /** A fact, area first. */
  readonly name: string;
  /** Skipped where the binding cannot carry it. */
  readonly needs?: readonly Capability[];
  /** Skipped for ordinary users. */
  readonly root?: boolean;
  /** @param directory empty and of the case's own */
  run(t: Test, directory: string, python: Python): Promise<void>;
}

export const cases: readonly Case[] = [
  ...fileCases,
  ...unnamedCases,
  ...extentCases,
  ...nameCases,
  ...directoryCases,
  ...attributeCases,
  ...aclCases,
  ...lockCases,
  ...concurrencyCases,
];

const CASE_TIMEOUT_MS = 240_000;

/** Runs every case below `mountPath`, which it leaves as it was. */
export async function conformance(
  t: Test,
  mountPath: string,
  capabilities: ReadonlySet<Capability>,
): Promise<void> {
  const python = new Python();
  t.teardown(() => python.close());
  const root = process.geteuid?.() === 0;
  for (const [index, one] of cases.entries()) {
    const missing = one.needs?.filter((need) => !capabilities.has(need)) ?? [];
    const skip =
      missing.length > 0
        ? `this binding has no ${missing.join(', ')}`
        : one.root && !root
          ? 'needs root'
          : false;
    await t.test(one.name, { skip, timeout: CASE_TIMEOUT_MS }, async (test) => {
      const directory = join(mountPath, `case-${index}`);
      await mkdir(directory);
      await chmod(directory, 0o755);
      await one.run(test, directory, python);
      await rm(directory, { recursive: true });
    });
  }
}
