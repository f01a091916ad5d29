/**
 * `npm run bench`: the figures of bench/load/fsbench.sh on our mount and on MooseFS goal 3, section by
 * section in turn so that both meet the same noise; a table of medians with ratios, and JSON.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { asMarkdown, asText, daemonTable, type Figure, figureTable } from './report.js';
import { GfsSystem, LocalDisk, MooseFs, repositoryRoot, type System } from './systems.js';

const SECTIONS = ['seq', 'rand', 'small', 'meta', 'append', 'tree', 'snap'];
/** Ten times the large file, by 64 processes at once: for the daemons' memory. Asked for by name. */
const MEMORY_SECTION = 'mem';
const SECTION_TIMEOUT_MS = 900_000;
const PEER = 'moosefs';

const program = new Command('bench')
  .description('Compares a GFS mount with MooseFS, both with three replicas on this machine')
  .option('--rounds <n>', 'rounds, in turn; the table shows medians', '5')
  .option('--sections <names>', `any of ${SECTIONS.join(',')},${MEMORY_SECTION}`, SECTIONS.join(','))
  .option('--systems <names>', 'any of gfs, gfs-relaxed, moosefs, local', 'gfs,gfs-relaxed,moosefs')
  .option('--mb <n>', 'MiB of the large file', '1024')
  .option('--files <n>', 'files of the small-file figures', '2000')
  .option('--dir <directory>', 'where the clusters keep their data', '/var/tmp/gfs-peers')
  .option('--json <file>', 'also write every value there, after each round')
  .option('--markdown', 'print the tables as docs/performance.md has them', false)
  .parse();
const options = program.opts<Record<string, string>>();
const { markdown } = program.opts<{ markdown: boolean }>();

function makeSystem(name: string): System {
  const base = join(options['dir'] as string, name);
  switch (name) {
    case 'gfs':
      return new GfsSystem(name, base, {});
    // The promises of MooseFS: metadata is answered before it is on disk, fsync does not reach the disks.
    case 'gfs-relaxed':
      return new GfsSystem(name, base, {
        GFS_OPERATION_LOG_SYNC: 'interval',
        GFS_CHUNK_SERVER_SYNC: 'memory',
      });
    case PEER:
      return new MooseFs(base);
    case 'local':
      return new LocalDisk(base);
    default:
      return program.error(`no system is named ${name}`);
  }
}

function runSection(system: System, section: string, figures: Map<string, Figure>): void {
  const { status, stdout, stderr } = spawnSync('bash', ['bench/load/fsbench.sh', system.mountPoint], {
    cwd: repositoryRoot(),
    encoding: 'utf8',
    timeout: SECTION_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    env: {
      ...process.env,
      FSB_ONLY: section,
      FSB_MB: options['mb'],
      FSB_N: options['files'],
      FSB_REMOUNT: system.remount,
      FSB_PIDDIR: system.pidDirectory,
      FSB_SNAP: system.snapshot,
    },
  });
  if (stderr !== '') process.stderr.write(stderr.replaceAll(/^/gm, `${system.name}: `));
  if (status !== 0) process.stderr.write(`${system.name}: section ${section} ended with ${status}\n`);
  for (const line of stdout.split('\n')) {
    const [name, value, unit] = line.split(' ');
    if (name === undefined || unit === undefined || name.startsWith('load.') || name === '#') continue;
    const figure = figures.get(name) ?? { name, unit, values: new Map<string, number[]>() };
    figures.set(name, figure);
    figure.values.set(system.name, [...(figure.values.get(system.name) ?? []), Number(value)]);
  }
}

/** Every value so far, so that a run which is cut short has told something. */
function writeValues(path: string, figures: Iterable<Figure>): void {
  mkdirSync(dirname(path), { recursive: true });
  const plain = [...figures].map(({ name, unit, values }) => ({ name, unit, ...Object.fromEntries(values) }));
  rmSync(path, { force: true });
  writeFileSync(path, `${JSON.stringify(plain, null, 1)}\n`);
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) program.error('the benchmark mounts and drops caches: run it as root');
  if (!existsSync(join(repositoryRoot(), 'dist/cli/main.js'))) program.error('build first: npm run build');
  execFileSync('gcc', ['--version'], { stdio: 'ignore' });
  const systems = (options['systems'] as string).split(',').map(makeSystem);
  const figures = new Map<string, Figure>();
  const started: System[] = [];
  try {
    for (const system of systems) {
      process.stderr.write(`starting ${system.name}\n`);
      started.push(system);
      await system.up();
    }
    for (let round = 1; round <= Number(options['rounds']); round++) {
      for (const section of (options['sections'] as string).split(',')) {
        // Who goes first changes with the round.
        for (let i = 0; i < systems.length; i++) {
          const system = systems[(i + round) % systems.length] as System;
          process.stderr.write(`round ${round}, ${section}, ${system.name}\n`);
          runSection(system, section, figures);
        }
      }
      if (options['json'] !== undefined) writeValues(options['json'], figures.values());
    }
  } finally {
    for (const system of started) {
      await system
        .down()
        .catch((error: unknown) => process.stderr.write(`${system.name}: ${String(error)}\n`));
    }
  }
  const names = systems.map(({ name }) => name);
  const peer = names.includes(PEER) ? PEER : undefined;
  const print = markdown ? asMarkdown : asText;
  const tables = [
    figureTable([...figures.values()], names, peer),
    daemonTable([...figures.values()], names, Number(options['mb'])),
  ];
  process.stdout.write(`${tables.map(print).join('\n')}\n`);
}

await main();
