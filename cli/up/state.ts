/** What one `gfs up` leaves for the next, and for `gfs down`. */
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { endProcess, identityOf, isAlive, type ProcessIdentity } from '../processes.js';
import type { Layout } from './layout.js';

export interface UpState {
  readonly supervisor: ProcessIdentity;
  /** Once it is about to be mounted: what is mounted there may be ours. */
  readonly mountPoint?: string;
}

export function readState(layout: Layout): UpState | undefined {
  try {
    const state = JSON.parse(readFileSync(layout.state, 'utf8')) as UpState;
    return typeof state?.supervisor?.pid === 'number' ? state : undefined;
  } catch {
    return undefined;
  }
}

export function writeState(layout: Layout, state: UpState): void {
  const temporary = `${layout.state}.new`;
  writeFileSync(temporary, `${JSON.stringify(state)}\n`);
  renameSync(temporary, layout.state);
}

/** The running `gfs up` of this data directory. */
export function supervisorOf(layout: Layout): UpState | undefined {
  const state = readState(layout);
  return state !== undefined && isAlive(state.supervisor) ? state : undefined;
}

export interface Leftover {
  readonly part: string;
  readonly process: ProcessIdentity;
}

/**
 * Processes that a killed `gfs up` left behind: those that were started with an address file of ours.
 * Their command lines tell it, so nothing on disk can be out of date or name a stranger.
 */
export function leftovers(layout: Layout): Leftover[] {
  const found: Leftover[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const words = wordsOf(name);
    const file = words[words.indexOf('--address-file') + 1] ?? '';
    if (dirname(file) !== layout.run) continue;
    const process = identityOf(Number(name));
    if (process !== undefined && isAlive(process)) found.push({ part: basename(file, '.json'), process });
  }
  return found;
}

function wordsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** Ends them: the mount first, which flushes to the others. */
export async function endLeftovers(found: readonly Leftover[], graceMs: number): Promise<void> {
  const end = (those: readonly Leftover[]) =>
    Promise.all(those.map(({ process }) => endProcess(process, graceMs)));
  await end(found.filter(({ part }) => part === 'mount'));
  await end(found.filter(({ part }) => part !== 'mount'));
}
