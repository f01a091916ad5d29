/** The commands about replicas: how many there are, and where they go. */
import type { Command } from 'commander';
import { addMasterFlags } from './flags.js';

export function addReplication(program: Command): void {
  const goal = program
    .command('goal')
    .summary('show or set how many replicas files have')
    .description(
      'The goal of a file is how many replicas its chunks shall have; that of a directory is what new files in it ' +
        'inherit. The same as the extended attribute user.gfs.goal. `gfs goal PATH` shows it.',
    );
  addMasterFlags(
    goal
      .command('get', { isDefault: true })
      .description('Shows the goal of a file or directory.')
      .argument('<path>', 'on a mounted GFS; or in the cluster, with --master')
      .option('-r, --recursive', 'count the files below it by their goals')
      .option('--json', 'print JSON'),
  ).action(async (path, flags) => (await import('./commands/goal.js')).get(path, flags));
  addMasterFlags(
    goal
      .command('set')
      .description('Sets the goal. Chunks that are there are copied, or dropped, in the background.')
      .argument('<goal>', 'from 1 to the number of chunkservers; or "default"')
      .argument('<path>', 'on a mounted GFS; or in the cluster, with --master')
      .option('-r, --recursive', 'also of everything below a directory')
      .option('--json', 'print JSON'),
  )
    .addHelpText(
      'after',
      `
Examples:
  gfs goal set 2 /mnt/gfs/scratch          for what is made there from now on
  gfs goal set -r 5 /mnt/gfs/hot           also for what is there: many readers share five copies
  gfs goal set -r default /mnt/gfs/hot`,
    )
    .action(async (value, path, flags) => (await import('./commands/goal.js')).set(value, path, flags));

  addMasterFlags(
    program
      .command('drain')
      .summary('empty a chunkserver, to take it away')
      .description(
        'Has all chunks of a chunkserver copied to others and dropped there. It gets no new ones, also after a restart, ' +
          'until --cancel. Without a server: how far it is.',
      )
      .argument('[server]', 'its id, the beginning of it, or HOST:PORT (gfs ls-servers)')
      .option('--cancel', 'drain it no more')
      .option('--wait', 'return when it is empty')
      .option('--json', 'print JSON'),
  ).action(async (server, flags) => (await import('./commands/drain.js')).drain(server, flags));

  addMasterFlags(
    program
      .command('priorities')
      .summary('show which chunkservers each client is sent to first')
      .description(
        'Shows for each connected client the distance and score of every chunkserver, best first. Coordinates come from ' +
          '`location` of [chunk_server] and [client], or -o location=X,Y; without them the used share alone decides.',
      )
      .argument('[client]', 'its id or host name (default: all)')
      .option('--weights <distance,space>', 'what these weights would choose, instead of the configured ones')
      .option('--json', 'print JSON'),
  )
    .addHelpText('after', '\nExample:\n  gfs priorities --weights 1,0')
    .action(async (client, flags) => (await import('./commands/priorities.js')).priorities(client, flags));
}
