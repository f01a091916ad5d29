/** The commands about the master's operation log and its checkpoints, and their options. */
import type { Command } from 'commander';
import { addMasterFlags } from './flags.js';

export function addLog(program: Command): void {
  const log = program
    .command('log')
    .summary("the master's operation log: check, dump, salvage it; make a checkpoint")
    .description(
      'What makes metadata durable: segments of records, and checkpoints of the state, in DIR/log of a master or shadow. ' +
        'check, dump and salvage read the files of a master that is not running.',
    );
  log
    .command('check')
    .description(
      'Tells whether a master starts on a data directory, what of its log and checkpoints is damaged, where, and what can be saved. ' +
        'Exit code 1 when something is damaged. `gfs fsck --log DIR` is the same; `gfs fsck` alone checks a running cluster.',
    )
    .argument('<dir>', "a master's data directory")
    .option('--json', 'print JSON')
    .action(async (directory, flags) => (await import('./commands/log-check.js')).check(directory, flags));
  log
    .command('salvage')
    .description(
      'Writes a new data directory with everything that can be had of a damaged one, for a master to start on. DIR stays as it is.',
    )
    .argument('<dir>', "a master's data directory")
    .argument('<target>', 'a directory that is not there, or is empty')
    .option('--json', 'print JSON')
    .action(async (directory, target, flags) =>
      (await import('./commands/log-check.js')).salvage(directory, target, flags),
    )
    .addHelpText(
      'after',
      `
Chunks that only the lost records knew are deleted from the chunkservers once a master serves the result:
keep the damaged directory, and stop the chunkservers, until you have decided.`,
    );
  log
    .command('dump')
    .description('Prints the records of a log, a line of JSON for each.')
    .argument('<dir>', "a master's data directory")
    .option('--from <record>', 'the first record (default: the first that is there)')
    .option('--count <records>', 'how many at most')
    .action(async (directory, flags) => (await import('./commands/log-check.js')).dump(directory, flags));
  addMasterFlags(
    log
      .command('checkpoint')
      .description(
        'Has the master make a checkpoint now, so that its next start has little to replay. Root only.',
      )
      .option('--json', 'print JSON'),
  ).action(async (flags) => (await import('./commands/log-check.js')).checkpoint(flags));
}
