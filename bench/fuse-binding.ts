/**
 * What a FUSE binding costs: system calls a second on the in-memory file system, server and caller
 * pinned to one CPU, which is the only way to compare bindings (waking an idle CPU costs more than all
 * the rest). `node dist/bench/fuse-binding.js [--seconds N] [BINDING…]`, as root.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { repositoryRoot } from './systems.js';

const OPERATIONS = [
  { name: 'getattr', title: 'getattr/s' },
  { name: 'create', title: 'create+close+unlink/s' },
  { name: 'randread', title: '4 KiB O_DIRECT random read/s' },
  { name: 'write', title: '1 MiB-block write MB/s' },
  { name: 'read', title: '1 MiB-block read MB/s, uncached' },
] as const;
const CPU = '0';
const CALL_TIMEOUT_MS = 60_000;

/** Compiles the caller. */
function buildLoad(): string {
  const directory = join(repositoryRoot(), '.build', 'bench');
  mkdirSync(directory, { recursive: true });
  const program = join(directory, 'syscalls');
  execFileSync('cc', ['-O2', '-o', program, join(repositoryRoot(), 'bench/load/syscalls.c')], {
    stdio: 'inherit',
  });
  return program;
}

/** Attributes are never cached, so that every fstat is a request. */
async function serve(binding: string, directory: string): Promise<ChildProcess> {
  const program = fileURLToPath(new URL('../test/conformance/serve.js', import.meta.url));
  const server = spawn('taskset', ['-c', CPU, process.execPath, program, binding, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TTL_MS: '0' },
  });
  await Promise.race([
    once(server.stdout!, 'data'),
    once(server, 'exit').then(() => Promise.reject(new Error(`${binding} cannot be mounted`))),
  ]);
  return server;
}

async function measure(binding: string, load: string, seconds: string): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), 'gfs-bench-'));
  const server = await serve(binding, directory);
  try {
    return OPERATIONS.map(({ name }) => {
      const args = ['-c', CPU, load, name, directory, seconds];
      return execFileSync('taskset', args, { encoding: 'utf8', timeout: CALL_TIMEOUT_MS }).trim();
    });
  } finally {
    const ended = once(server, 'exit');
    server.kill('SIGTERM');
    await ended;
    rmdirSync(directory);
  }
}

const args = process.argv.slice(2);
const seconds = args[0] === '--seconds' ? (args.splice(0, 2)[1] ?? '2') : '2';
const bindings = args.length > 0 ? args : ['kernel', 'fuse-native'];
const load = buildLoad();
const table = new Table({ head: ['binding', ...OPERATIONS.map(({ title }) => title)] });
for (const binding of bindings) table.push([binding, ...(await measure(binding, load, seconds))]);
process.stdout.write(`${table.toString()}\n`);
