/**
 * `npm run test:mounts`: three mounts on hosts of their own, many rounds of every case; and one of them cut off:
 * it shows old news for two and a half seconds at most, then waits and fails at its deadline, then is right again.
 */
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { cannotMakeHosts, HostCluster } from '../real/host-cluster.js';
import { runCommand } from '../real/processes.js';
import { repositoryPath } from '../repository.js';
import { runCases } from './cases.js';

const ROUNDS = Number(process.env['ROUNDS'] ?? '5');
const MAX_OLD_NEWS_MS = 2_500;
/** Of a mount that is cut off; longer than others wait for it. */
const DEADLINE = '5s';

t.setTimeout(0);

t.test('mounts: three on hosts of their own', { skip: cannotMakeHosts() }, async (t) => {
  const cluster = await HostCluster.start(t, 3);
  await runCases(t, cluster.mountPoints, ROUNDS);

  await t.test('mounts: two at random behave as one local disk', async (t) => {
    const [first, second] = cluster.mountPoints as [string, string];
    const oracle = cluster.workspace.makeDirectory('oracle');
    const tested = join(first, 'tested');
    await mkdir(tested);
    for (const directory of [oracle, tested]) await chmod(directory, 0o777);
    const program = repositoryPath('test/oracle/oracle.py');
    // The time of the last access is told late, so another mount may overwrite one that was set.
    const words = [
      '--without',
      'utime',
      '--count',
      '400',
      '--histories',
      '1000',
      '--seconds',
      String(8 * ROUNDS),
    ];
    const { status, stdout } = await runCommand(
      ['python3', program, oracle, tested, '--second', join(second, 'tested'), ...words],
      { timeoutMs: 600_000 },
    );
    t.equal(status, 0, stdout);
    t.comment(stdout);
  });
});

t.test(
  'mounts: one that is cut off shows old news for two and a half seconds at most, then waits, then fails',
  { skip: cannotMakeHosts() },
  async (t) => {
    const cluster = await HostCluster.start(t, 2, `deadline = "${DEADLINE}"`);
    const [a, b] = cluster.mountPoints as [string, string];
    await writeFile(join(a, 'news'), 'old');
    t.equal((await readFile(join(b, 'news'))).toString(), 'old');
    await cluster.cut(1);
    const cutAtMs = performance.now();
    await writeFile(join(a, 'news'), 'newer');
    const changedAfterMs = performance.now() - cutAtMs;
    t.comment(`the change took ${Math.round(changedAfterMs)} ms`);
    // The change was acknowledged: whoever still believes the old state may do so for as long as this.
    let lastOldMs = 0;
    while (performance.now() - cutAtMs < MAX_OLD_NEWS_MS + 1_000) {
      // In a process of its own: it waits in the kernel while the mount waits for its master.
      const { stdout } = await runCommand(['timeout', '1', 'stat', '-c', '%s', join(b, 'news')], {
        timeoutMs: 10_000,
      });
      if (stdout.trim() === '3') lastOldMs = performance.now() - cutAtMs;
      await delay(50);
    }
    t.ok(lastOldMs < MAX_OLD_NEWS_MS + 500, `old news until ${Math.round(lastOldMs)} ms after the cut`);
    for (const command of [['stat'], ['cat'], ['touch']]) {
      const words = [...command, join(b, 'news')];
      const { status, stdout, stderr } = await runCommand(words, { timeoutMs: 30_000, env: { LC_ALL: 'C' } });
      t.equal(status, 1, `${words.join(' ')}: ${status === null ? 'hangs' : 'ends'}`);
      t.match(stderr, /Input\/output error|Connection timed out/, 'with EIO or ETIMEDOUT at the deadline');
      t.equal(stdout, '', 'and with no news at all');
    }
    await cluster.join(1);
    let size = 0;
    for (let at = 0; at < 100 && size !== 5; at++) {
      size = await stat(join(b, 'news')).then(
        (attributes) => attributes.size,
        () => 0,
      );
      await delay(100);
    }
    t.equal((await readFile(join(b, 'news'))).toString(), 'newer', 'and is right when it is back');
  },
);
