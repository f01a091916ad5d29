/** The commands that look into the cluster and its files, and their options. */
import type { Command } from 'commander';
import { UsageFailure } from './failure.js';
import { addConfigurationFlags, addMasterFlags, collect } from './flags.js';

/** @throws UsageFailure */
function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageFailure(`--count must be a whole number, not ${text}`);
  return Number(text);
}

export function addInspectCommands(program: Command): void {
  addMasterFlags(
    program
      .command('checkfile')
      .summary('show how many good copies the chunks of files have')
      .description(
        'Shows how many chunks of a file have how many good copies. Exit code 1 when one has fewer than its goal.',
      )
      .argument('<files...>', 'files on a mounted GFS, or paths in the cluster with --master')
      .option('--json', 'print JSON'),
  ).action(async (files, flags) => (await import('./commands/inspect.js')).checkfile(files, flags));

  addMasterFlags(
    program
      .command('watch')
      .summary('print what changes below a path, from any mount, as it happens')
      .description(
        'Prints what changes below a path as it happens, whichever mount it comes from: a line for each file or directory ' +
          'that is created, removed, renamed, written (when that is flushed or closed), truncated, or gets other attributes. ' +
          'Runs until it is interrupted. (inotify does not cross mounts.) Where more happens than can be told, or the master ' +
          'was away, a line says that events were lost. Others than root hear of directories that they may read.',
      )
      .argument('<path>', 'a file or directory on a mounted GFS, or a path in the cluster with --master')
      .option('-n, --count <events>', 'end after so many', wholeNumber)
      .option('--json', 'print a JSON line for each'),
  )
    .addHelpText(
      'after',
      '\nExample:\n  gfs watch --json /mnt/gfs/incoming | jq -r \'select(.kind == "created").path\'',
    )
    .action(async (path, flags) => (await import('./commands/watch.js')).watch(path, flags));

  addMasterFlags(
    program
      .command('dirinfo')
      .summary('count what is below a directory: files, bytes, chunks, goals')
      .description('Counts what is below a directory, by the master alone: no file is opened.')
      .argument('<paths...>', 'directories or files on a mounted GFS, or paths in the cluster with --master')
      .option('--json', 'print JSON'),
  ).action(async (paths, flags) => (await import('./commands/inspect.js')).dirinfo(paths, flags));

  addMasterFlags(
    program
      .command('fsck')
      .summary('check the copies of every chunk, and name the files that are affected')
      .description(
        'Goes through a tree, or the whole cluster with its deleted files, while it is in use, and tells which chunks ' +
          'have too few good copies or none, with the files that they belong to. Changes nothing: the cluster heals by itself.',
      )
      .argument('[path]', 'a file or directory on a mounted GFS (default: the whole cluster)')
      .option(
        '--log <dir>',
        "check instead the operation log in a master's data directory, while no master runs: as `gfs log check DIR`",
      )
      .option('--json', 'print JSON'),
  )
    .addHelpText(
      'after',
      `
Exit codes, as of fsck(8); with --log those of \`gfs log check\`:
  0  every chunk has its copies
  1  some are below their goal, or not known yet after a start: the cluster sees to it
  4  some are lost
  8  it could not be checked`,
    )
    .action(async (path, flags) => (await import('./commands/fsck.js')).fsck(path, flags));

  addConfigurationFlags(
    program
      .command('trace')
      .summary('show the requests that a daemon answered')
      .description(
        'Shows what a master or a chunkserver was asked and what it answered, without file data (paper, section 5.3): ' +
          'the newest from its memory, or, given files, what it wrote below DATA/trace.',
      )
      .argument('[files...]', 'trace files')
      .option('-d, --daemon <host:port>', 'a master or a chunkserver (default: the master)')
      .option('-f, --follow', 'go on as requests come')
      .option('--method <name>', 'only these requests; may be repeated', collect)
      .option('--errors', 'only those that failed')
      .option('--json', 'print JSON, an object a line, with bodies and replies'),
  )
    .addHelpText(
      'after',
      `
Examples:
  gfs trace --follow                          what the master does
  gfs trace --daemon 10.0.0.2:41001 --errors  a chunkserver's failures
  gfs trace --json .gfs/master/trace/* | jq 'select(.method == "rename")'`,
    )
    .action(async (files, flags) => (await import('./commands/trace.js')).trace(files, flags));
}
