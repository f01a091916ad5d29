/** A mount for a test, served by a process of its own, and gone after it whatever happened. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const START_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 10_000;

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

/** Starts `serve.js` on a directory and waits until it is mounted. */
export async function startServer(
  t: Test,
  binding: string,
  path: string,
  env: Readonly<Record<string, string>> = {},
): Promise<ChildProcess> {
  const program = fileURLToPath(new URL('./serve.js', import.meta.url));
  const server = spawn(process.execPath, [program, binding, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  t.teardown(() => stopServer(server, path));
  const outcome = await Promise.race([
    once(server.stdout!, 'data').then(() => 'mounted'),
    once(server, 'exit').then(() => 'ended'),
    new Promise((resolve) => setTimeout(resolve, START_TIMEOUT_MS, 'timeout').unref()),
  ]);
  if (outcome !== 'mounted') throw new Error(`${binding} on ${path}: ${String(outcome)}`);
  return server;
}

export async function startMount(
  t: Test,
  binding: string,
  env?: Readonly<Record<string, string>>,
): Promise<TestMount> {
  const path = await mountPoint(t);
  return { path, server: await startServer(t, binding, path, env) };
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
): Promise<{ code: number; output: string }> {
  return await new Promise((resolve) => {
    execFile(program, args, { timeout: STOP_TIMEOUT_MS }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), output: `${stdout}${stderr}` });
    });
  });
}
