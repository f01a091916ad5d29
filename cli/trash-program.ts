/** The commands about deleted files, and their options. */
import type { Command } from 'commander';
import { addMasterFlags } from './flags.js';

export function addTrash(program: Command): void {
  const trash = program
    .command('trash')
    .summary('deleted files: list them, bring them back, give them up')
    .description(
      'Deleted files are kept for a while (user.gfs.retention of the file, inherited from its directory; `gfs retention`). ' +
        'Users see their own, root sees all. On a mount they are in .gfs/trash.',
    );
  addMasterFlags(
    trash
      .command('list')
      .description('Lists deleted files, oldest first.')
      .argument('[dir]', 'only what was below this directory of a mount')
      .option('--json', 'print JSON'),
  ).action(async (directory, flags) => (await import('./commands/trash.js')).list(directory, flags));
  addUndeleteFlags(
    trash.command('restore').description('Brings deleted files back; the same as `gfs undelete`.'),
  );
  addMasterFlags(
    trash
      .command('purge')
      .description('Gives deleted files up now: their space is freed as soon as nobody has them open.')
      .argument('[files...]', 'ids from `gfs trash list`, or the paths that they had')
      .option('-a, --all', 'all that you may')
      .option('--older-than <time>', 'those that were deleted longer ago, as "12h", "3d"')
      .option('--under <dir>', 'those that were below a directory')
      .option('--json', 'print JSON'),
  ).action(async (names, flags) => (await import('./commands/trash.js')).purge(names, flags));

  addUndeleteFlags(
    program
      .command('undelete')
      .summary('bring deleted files back')
      .description('Brings deleted files back under the names that they had, with owner, mode and times.'),
  ).addHelpText(
    'after',
    `
Examples:
  gfs undelete /mnt/gfs/report.txt
  gfs undelete 1234 --to /mnt/gfs/report.old
  gfs undelete --parents /mnt/gfs/gone/too/report.txt`,
  );

  program
    .command('retention')
    .summary('show or set how long files are kept after their deletion')
    .description('Shows or sets it for a file, or for what is made in a directory from now on.')
    .argument('<path>', 'a file or a directory on a mounted GFS')
    .argument('[time]', '"3d", "12h", "0" (not kept), or "default"')
    .option('--json', 'print JSON')
    .action(async (path, time, flags) =>
      (await import('./commands/retention.js')).retention(path, time, flags),
    );
}

function addUndeleteFlags(command: Command): Command {
  return addMasterFlags(
    command
      .argument('<files...>', 'the paths that they had, or ids from `gfs trash list`')
      .option('--to <path>', 'another name, or a directory')
      .option('-p, --parents', 'make the directories that are gone')
      .option('--json', 'print JSON'),
  ).action(async (names, flags) => (await import('./commands/undelete.js')).undelete(names, flags));
}
