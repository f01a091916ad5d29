/** A mount for a test, served by a process of its own, and gone after it whatever happened. */
import { type ChildProcess, execFile, type SpawnOptions, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;

export interface TestMount {
  readonly path: string;
  readonly server: ChildProcess;
}

/** A directory to mount on that anybody may enter, as `/mnt` is. */
export async function mountPoint(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'gfs-mount-'));
  await chmod(path, 0o755);
  t.teardown(async () => {
    await command('umount', ['-f', path]);
    await command('umount', ['-l', path]);
    await rmdir(path);
  });
  return path;
}

/** Starts a program that says something on standard output once it has mounted, and waits for that. */
export async function startProgram(
  t: Test,
  args: readonly string[],
  path: string,
  options: SpawnOptions = {},
): Promise<ChildProcess> {
  const stdio: StdioOptions = ['ignore', 'pipe', 'inherit', 'ipc'];
  const server = spawn(process.execPath, args, { stdio, ...options });
  t.teardown(() => stopServer(server, path));
  const outcome = await Promise.race([
    once(server.stdout!, 'data').then(() => 'mounted'),
    once(server, 'exit').then(() => 'ended'),
    new Promise((resolve) => setTimeout(resolve, START_TIMEOUT_MS, 'timeout').unref()),
  ]);
  if (outcome !== 'mounted') throw new Error(`${args.join(' ')}: ${String(outcome)}`);
  return server;
}

/** Serves the in-memory file system on a directory of its own. */
export async function startMount(t: Test, binding: string): Promise<TestMount> {
  const path = await mountPoint(t);
  const program = fileURLToPath(new URL('./serve.js', import.meta.url));
  return { path, server: await startProgram(t, [program, binding, path], path) };
}

/** As a person would; then by force, or the test would wait for its own files. */
export async function stopServer(server: ChildProcess, path: string): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exited = once(server, 'exit');
  server.kill('SIGTERM');
  const timer = setTimeout(async () => {
    await command('umount', ['-f', path]);
    await command('umount', ['-l', path]);
    server.kill('SIGKILL');
  }, STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(timer);
}

/** Runs a program, whether it succeeds or not. */
export async function command(
  program: string,
  args: readonly string[],
  uid?: number,
): Promise<{ code: number; output: string }> {
  const identity = uid === undefined ? {} : { uid, gid: uid };
  return await new Promise((resolve) => {
    execFile(program, args, { timeout: STOP_TIMEOUT_MS, ...identity }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), output: `${stdout}${stderr}` });
    });
  });
}
