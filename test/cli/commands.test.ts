/** What commands say to those who type something wrong, without a cluster. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { makeProgram } from '../../cli/program.js';
import { runCommand } from '../real/processes.js';
import { repositoryPath } from '../repository.js';

const gfs = (...words: string[]) => runCommand([process.execPath, repositoryPath('scripts/gfs'), ...words]);

t.setTimeout(300_000);

const directory = mkdtempSync(join(tmpdir(), 'gfs-commands-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const garbage = join(directory, 'garbage');
writeFileSync(garbage, 'this is no trace\n'.repeat(100));
const wrong = join(directory, 'wrong.toml');
writeFileSync(wrong, '[master]\nport = "abc"\n');

const cases: readonly {
  readonly words: readonly string[];
  readonly status: number;
  readonly says: string | RegExp;
}[] = [
  // A value on the command line is usage; one in a file is not.
  { words: ['master', '--port', 'abc'], status: 2, says: '--port: master.port must be a whole number' },
  { words: ['up', '--goal', 'many', directory], status: 2, says: '--goal: master.replication_factor' },
  { words: ['chunkserver', '--set', 'master.prot=1'], status: 2, says: "did you mean 'port'?" },
  { words: ['up', '--chunk-size', '65KiB', directory], status: 2, says: 'must be a multiple of 64KiB' },
  { words: ['master', '--config', wrong], status: 1, says: 'wrong.toml:2: master.port must be' },
  { words: ['nosuch', '--help'], status: 2, says: "unknown command 'nosuch'" },
  { words: ['statsu'], status: 2, says: 'Did you mean status?' },
  { words: ['cat', '--json', garbage], status: 2, says: 'gfs cat --records --json FILE' },
  { words: ['trace', garbage], status: 1, says: `${garbage} is no file of a trace` },
  { words: ['trace', join(directory, 'none')], status: 1, says: /none: .*no such file/ },
  { words: ['goal', directory], status: 1, says: 'is not on a mounted GFS' },
  { words: ['mount', '127.0.0.1:1'], status: 2, says: 'gfs mount 127.0.0.1:1 /mnt/gfs' },
  {
    words: ['fsck', '/', '--master', '127.0.0.1:1'],
    status: 8,
    says: /127\.0\.0\.1:1: nobody listens there\n/,
  },
  { words: ['shadows', '127.0.0.1:1'], status: 1, says: '127.0.0.1:1: nobody listens there' },
];

t.test('commands: what is wrong is said in words, with what to do next and an exit code', async (t) => {
  for (const { words, status, says } of cases) {
    const told = await gfs(...words);
    t.equal(told.status, status, words.join(' '));
    t.match(told.stderr, says, words.join(' '));
    t.notMatch(told.stderr, /ECONNREFUSED.*ECONNREFUSED/, 'once');
  }
});

t.test('commands: each has help that says what it does and what its arguments are', async (t) => {
  const { commands } = makeProgram('1.2.3');
  const all = [...commands, ...commands.flatMap((command) => command.commands)];
  t.ok(all.length > 30, `${all.length} commands`);
  for (const command of all) {
    t.ok(command.description().length > 20, `${command.name()}: a description`);
    for (const argument of command.registeredArguments)
      t.ok(argument.description !== '', `${command.name()} ${argument.name()}`);
    for (const option of command.options)
      t.ok(option.description !== '', `${command.name()} ${option.flags}`);
    t.match(command.helpInformation(), 'Usage: gfs ');
  }
});
