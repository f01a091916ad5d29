/** Processes as /proc shows them: which one a pid means, who has a port, and how one is ended. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** One process, for ever: pids are used again, a pid with its start time is not (within one boot). */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since the boot, from /proc/PID/stat. */
  readonly startedAtTicks: number;
  readonly bootId: string;
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/** Field 3 (state) and field 22 (start time) of /proc/PID/stat; the name in field 2 may hold anything. */
function statOf(pid: number): { state: string; startedAtTicks: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] as string, startedAtTicks: Number(fields[19]) };
  } catch {
    return undefined;
  }
}

export function identityOf(pid: number): ProcessIdentity | undefined {
  const stat = statOf(pid);
  return stat === undefined ? undefined : { pid, startedAtTicks: stat.startedAtTicks, bootId: bootId() };
}

/** Zombies are dead: what they held is free. */
export function isAlive(identity: ProcessIdentity): boolean {
  const stat = statOf(identity.pid);
  return (
    stat !== undefined &&
    stat.state !== 'Z' &&
    stat.startedAtTicks === identity.startedAtTicks &&
    bootId() === identity.bootId
  );
}

export async function waitForEnd(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const endMs = performance.now() + timeoutMs;
  while (isAlive(identity)) {
    if (performance.now() >= endMs) return false;
    await delay(20);
  }
  return true;
}

/** Never a stranger that got the same pid. */
export function signal(identity: ProcessIdentity, name: NodeJS.Signals): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, name);
  } catch {
    // It ended in between.
  }
}

/** SIGTERM, and SIGKILL when `graceMs` were not enough. @returns whether it ended by itself */
export async function endProcess(identity: ProcessIdentity, graceMs: number): Promise<boolean> {
  signal(identity, 'SIGTERM');
  // A stopped process acts on no signal but SIGKILL.
  signal(identity, 'SIGCONT');
  if (await waitForEnd(identity, graceMs)) return true;
  signal(identity, 'SIGKILL');
  await waitForEnd(identity, 2000);
  return false;
}

/** The command line of a process, its words separated by spaces; '' when it cannot be read. */
export function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

const LISTENING = '0A';

/** Who listens on a TCP port of this host; undefined when nobody does, or it is another user's process. */
export function listenerOn(port: number): { pid: number; command: string } | undefined {
  const inodes = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of readLines(table).slice(1)) {
      const fields = line.trim().split(/\s+/);
      const hexPort = fields[1]?.split(':')[1];
      if (fields[3] === LISTENING && Number.parseInt(hexPort ?? '', 16) === port) {
        inodes.add(`socket:[${fields[9]}]`);
      }
    }
  }
  if (inodes.size === 0) return undefined;
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name) && hasOpen(Number(name), inodes)) {
      return { pid: Number(name), command: commandLineOf(Number(name)) };
    }
  }
  return undefined;
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'latin1').split('\n');
  } catch {
    return [];
  }
}

function hasOpen(pid: number, links: ReadonlySet<string>): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return links.has(readlinkSync(`/proc/${pid}/fd/${fd}`));
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}
