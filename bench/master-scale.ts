/**
 * The master with a million files and a million chunks: memory, start-up from a checkpoint, lookups and
 * durable creates through the wire, the same while a checkpoint is made, and the longest that the event
 * loop was away under a mixed load. The master is a process of its own; the load comes from this one.
 *
 *     npm run bench:master -- [--files 1000000] [--seconds 5] [--mixed 60] [--data DIR] [--json]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Load } from './master-load.js';
import type { Answer, Question } from './master-process.js';

const DEPTHS = [1, 8, 64];

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '1000000' },
    seconds: { type: 'string', default: '5' },
    mixed: { type: 'string', default: '60' },
    data: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});

const files = Number(values.files);
const seconds = Number(values.seconds);
const directory = mkdtempSync(join(values.data ?? tmpdir(), 'gfs-master-scale-'));
const figures: Record<string, number> = {};

function tell(name: string, value: number): void {
  figures[name] = value;
  const text = value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(2);
  if (!values.json) console.log(`${name.padEnd(36)} ${text}`);
}

/** A child that builds the state, or serves it. */
class Child {
  readonly #process: ChildProcess;

  constructor(role: 'build' | 'serve') {
    const script = new URL('./master-process.js', import.meta.url);
    this.#process = fork(script, [role, directory, String(files)], { execArgv: ['--expose-gc'] });
  }

  async answer(): Promise<Answer> {
    const [answer] = (await once(this.#process, 'message')) as [Answer];
    return answer;
  }

  ask(question: Question): Promise<Answer> {
    const answer = this.answer();
    this.#process.send(question);
    return answer;
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const gone = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await gone;
  }
}

async function build(): Promise<void> {
  const child = new Child('build');
  for (const [name, value] of Object.entries(await child.answer())) tell(name, value);
  await child.end();
}

async function rates(load: Load): Promise<void> {
  for (const kind of ['lookup', 'create'] as const) {
    for (const depth of DEPTHS) {
      const { perSecond, p99Ms } = await load.run(kind, depth, seconds * 1000);
      tell(`${kind}s_per_s_${depth}_in_flight`, perSecond);
      tell(`${kind}_p99_ms_${depth}_in_flight`, p99Ms);
    }
  }
}

/** Both kinds while a checkpoint is made, one after the other. */
async function duringCheckpoint(load: Load): Promise<void> {
  for (const kind of ['lookup', 'create'] as const) {
    // Something that the last checkpoint does not have.
    await load.run('create', 64, 1000);
    const startedMs = performance.now();
    const checkpoint = load.checkpoint();
    const { perSecond, p99Ms, longestMs } = await load.run(kind, 8, checkpoint);
    tell(`checkpoint_during_${kind}s_s`, (performance.now() - startedMs) / 1000);
    tell(`${kind}s_per_s_during_checkpoint`, perSecond);
    tell(`${kind}_p99_ms_during_checkpoint`, p99Ms);
    tell(`${kind}_longest_ms_during_checkpoint`, longestMs);
  }
}

async function mixed(load: Load, child: Child): Promise<void> {
  await child.ask({ type: 'resetDelay' });
  const [result] = await Promise.all([load.run('mixed', 32, Number(values.mixed) * 1000), load.checkpoint()]);
  const delay = await child.ask({ type: 'delay' });
  tell('mixed_per_s_32_in_flight', result.perSecond);
  tell('mixed_p99_ms', result.p99Ms);
  for (const [name, value] of Object.entries(delay)) tell(name, value);
}

let child: Child | undefined;
try {
  tell('load_average_before', loadavg()[0] as number);
  await build();
  const startedMs = performance.now();
  child = new Child('serve');
  const { port, ...start } = await child.answer();
  tell('start_process_to_serving_ms', performance.now() - startedMs);
  for (const [name, value] of Object.entries(start)) tell(name, value);
  const load = await Load.connect(port as number, files);
  await load.settle();
  await rates(load);
  await duringCheckpoint(load);
  await mixed(load, child);
  for (const [name, value] of Object.entries(await child.ask({ type: 'memory' }))) tell(name, value);
  load.close();
  tell('load_average_after', loadavg()[0] as number);
  if (values.json) console.log(JSON.stringify(figures, null, 2));
} finally {
  await child?.end();
  rmSync(directory, { recursive: true, force: true });
}
