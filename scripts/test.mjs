// `npm test [-- test/client test/real/up.test.ts …]`: installs what tests need, builds, lints, runs the tests.
// The last line is `N passed, N failed`; the exit code is 0 when none failed. Passed are tests that a file
// names (`t.test('area: a fact', …)`), not single assertions.
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  build,
  installNpmPackages,
  installSystemPackages,
  ROOT,
  requireNode,
  run,
  StepFailed,
  say,
  TO_TEST,
} from './steps.mjs';
import { TapSummary } from './tap-summary.mjs';

/** Those with processes, mounts and timing of their own: one at a time, after the others. */
const ALONE = ['test/real/', 'test/conformance/', 'test/kernel/', 'test/fuse-native/', 'test/mounts/'];
/** Continuous integration ends a run after 15 minutes without a word; so we end it earlier, with one. */
const TIME_LIMIT_MS = 14 * 60_000;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

const startedAt = performance.now();
/** Out of time, or interrupted: no more tests are begun. */
let isOver = false;
const total = { passed: 0, failed: 0, skipped: 0 };

function sources(selected) {
  const all = readdirSync(join(ROOT, 'test'), { recursive: true })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `test/${name}`)
    .sort();
  const chosen =
    selected.length === 0
      ? all
      : all.filter((name) => selected.some((start) => name.startsWith(start.replace(/^\.\//, ''))));
  if (chosen.length === 0) throw new StepFailed(`no test file begins with ${selected.join(' or ')}`);
  return chosen;
}

function lint() {
  say('linting: biome, import rules');
  try {
    run('npm', ['run', '--silent', 'lint']);
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    process.stderr.write(`${error.message}\n`);
    total.failed++;
  }
}

/** Temporary directories go below ours, and no configuration of this shell changes what is tested. */
function environmentFor(directory) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('GFS_'));
  return { ...Object.fromEntries(own), TMPDIR: directory };
}

/** Runs tap on some files and counts. */
function runTap(files, jobs, directory) {
  const summary = new TapSummary((line) => process.stdout.write(`${line}\n`));
  const compiled = [];
  for (const name of files) {
    const output = `dist/${name.replace(/\.ts$/, '.js')}`;
    // tap passes over what is not there.
    if (existsSync(join(ROOT, output))) compiled.push(output);
    else summary.fail(`${output} is missing: remove dist/ and build again`);
  }
  const child = spawn(
    process.execPath,
    [join(ROOT, 'node_modules/tap/dist/esm/run.mjs'), '--reporter=tap', `--jobs=${jobs}`, ...compiled],
    {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
      // A group of its own, so that the test processes end with it.
      detached: true,
      env: environmentFor(directory),
    },
  );
  const giveUp = (reason) => {
    if (isOver) return;
    summary.fail(reason);
    isOver = true;
    process.kill(-child.pid, 'SIGKILL');
  };
  const onSignal = (name) => giveUp(`interrupted by ${name}`);
  const limit = setTimeout(
    () => giveUp(`the tests were not done after ${TIME_LIMIT_MS / 60_000} minutes`),
    TIME_LIMIT_MS - (performance.now() - startedAt),
  );
  for (const name of SIGNALS) process.on(name, onSignal);
  child.stdout.setEncoding('utf8').on('data', (text) => summary.push(text));
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearTimeout(limit);
      for (const name of SIGNALS) process.off(name, onSignal);
      summary.end();
      if (code !== 0 && summary.failed === 0) summary.fail(`tap ended with ${code}`);
      for (const key of Object.keys(total)) total[key] += summary[key];
      resolve();
    });
  });
}

/** Ends what tests that failed left behind: processes and mounts that know the directory of this run. */
function sweep(directory) {
  for (const name of readdirSync('/proc').filter(
    (each) => /^\d+$/.test(each) && Number(each) !== process.pid,
  )) {
    try {
      if (readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(`${directory}/`))
        process.kill(Number(name), 'SIGKILL');
    } catch {
      // It has ended, or is another user's.
    }
  }
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n').reverse()) {
    const mountPoint = line
      .split(' ')[4]
      ?.replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (mountPoint?.startsWith(`${directory}/`))
      spawnSync('umount', ['--lazy', mountPoint], { timeout: 10_000 });
  }
  rmSync(directory, { recursive: true, force: true });
}

async function test(selected) {
  requireNode();
  installNpmPackages(installSystemPackages(TO_TEST));
  build();
  lint();
  const files = sources(selected);
  const alone = files.filter((name) => ALONE.some((start) => name.startsWith(start)));
  const together = files.filter((name) => !alone.includes(name));
  // Short: a path of a socket or of a mount has its limits.
  const directory = mkdtempSync(join(tmpdir(), 'gfs-t-'));
  // Tests act as other users too.
  chmodSync(directory, 0o755);
  try {
    if (together.length > 0) {
      say(`testing: ${together.length} files`);
      await runTap(together, Math.min(4, Math.max(2, availableParallelism())), directory);
    }
    if (alone.length > 0 && !isOver) {
      say(`testing with real processes and mounts: ${alone.length} files, one at a time`);
      await runTap(alone, 1, directory);
    }
  } finally {
    sweep(directory);
  }
}

try {
  await test(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`\n${error instanceof StepFailed ? error.message : error.stack}\n`);
  total.failed++;
}
const seconds = Math.round((performance.now() - startedAt) / 1000);
process.stdout.write(`\n${total.skipped > 0 ? `${total.skipped} skipped, ` : ''}${seconds} s\n`);
process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`);
process.exitCode = total.failed === 0 ? 0 : 1;
