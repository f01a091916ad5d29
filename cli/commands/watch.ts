/** `gfs watch`: what changes below a path, from any mount, as it happens. */
import { type Watched, Watches } from '../../client/index.js';
import { caller, type MasterFlags, withMaster } from '../master-session.js';
import { print } from '../output.js';
import { type Place, shownPath } from '../place.js';
import { inspected, nodeAt } from './inspect.js';

export interface WatchFlags extends MasterFlags {
  readonly json?: boolean;
  /** Ends after so many events. */
  readonly count?: number;
}

export async function watch(path: string, flags: WatchFlags): Promise<void> {
  const place = inspected(path, flags);
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  await withMaster(flags, place.masters, async (master) => {
    const id = await nodeAt(master, place);
    let left = flags.count ?? Number.POSITIVE_INFINITY;
    for await (const watched of new Watches(master).watch(id, { ...caller(), signal: interrupted.signal })) {
      print(flags.json === true ? JSON.stringify(jsonOf(watched, place)) : lineOf(watched, place));
      if (watched.type === 'event' && --left <= 0) return;
    }
  });
}

function lineOf(watched: Watched, place: Place): string {
  if (watched.type === 'lost') return lostText(watched.count);
  const { kind, path, to, directory } = watched;
  const slash = directory ? '/' : '';
  const moved = to === undefined ? '' : ` -> ${shownPath(place, to)}${slash}`;
  return `${timeOf(watched)}  ${kind.padEnd(10)}  ${shownPath(place, path)}${slash}${moved}`;
}

function jsonOf(watched: Watched, place: Place): object {
  if (watched.type === 'lost') return { kind: 'lost', count: watched.count === 0 ? null : watched.count };
  const { kind, path, to, directory, id, host } = watched;
  return {
    ...{ time: timeOf(watched), kind, path: shownPath(place, path) },
    ...(to === undefined ? {} : { to: shownPath(place, to) }),
    ...{ id, directory, ...(host === undefined ? {} : { host }) },
  };
}

function lostText(count: number): string {
  return count === 0
    ? '-- events lost: the master was away --'
    : `-- events lost: ${count}, more came than could be told --`;
}

function timeOf({ timeSec, timeNsec }: { timeSec: number; timeNsec: number }): string {
  return new Date(timeSec * 1000 + Math.floor(timeNsec / 1e6)).toISOString();
}
