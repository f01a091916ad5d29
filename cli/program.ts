/** The commands of `gfs` and their options. What they do is imported when one runs, so that each starts fast. */
import { Command } from 'commander';
import { addConfigurationFlags, addDaemonFlags, addMasterFlags, collect } from './flags.js';
import { addInspectCommands } from './inspect-program.js';
import { addLog } from './log-program.js';
import { addReplication } from './replication-program.js';
import { addTrash } from './trash-program.js';

const MASTER_ARGUMENT = 'the master, as HOST[:PORT] (default: from the configuration, 127.0.0.1:5000)';

function addCluster(program: Command): void {
  addConfigurationFlags(
    program
      .command('up')
      .summary('run a whole cluster on this host and mount it')
      .description(
        'Starts a master and chunkservers as processes on this host, mounts them, and stays until Ctrl-C or SIGTERM, ' +
          'which unmounts and stops everything. The data is there at the next start; what a killed run left behind is tidied up.',
      )
      .argument('[dir]', 'where to mount it (default: /mnt/gfs); made when it is missing')
      .option('-d, --data <dir>', 'where the data is kept', '.gfs')
      .option('-n, --servers <count>', 'chunkservers (default: as many as the data has, 3 at first)')
      .option(
        '--shadows <count>',
        'shadows, copies of the operation log (default: as many as the data has, 1 at first)',
      )
      .option('-p, --port <port>', "the master's port; 0 for a free one (default: 5000)")
      .option('--host <host>', 'the address that the master listens on (default: 127.0.0.1)')
      .option('--chunk-size <size>', 'bytes in a chunk, as "64MiB"; fixed when the cluster is made')
      .option('--goal <count>', 'replicas of each chunk (default: 3)')
      .option('-o, --option <options>', 'mount options, as of `gfs mount`', collect),
  )
    .addHelpText(
      'after',
      `
Examples:
  gfs up                                 at /mnt/gfs, data in ./.gfs
  gfs up ~/mnt --data /srv/gfs -n 5      five chunkservers, data elsewhere
  gfs up --set operation_log.sync=interval --set chunk_server.sync=memory`,
    )
    .action(async (directory, flags) => (await import('./commands/up.js')).up(directory, flags));

  program
    .command('down')
    .summary('stop a `gfs up`')
    .description(
      'Stops the `gfs up` of a data directory, or the processes and the mount that a killed one left behind.',
    )
    .option('-d, --data <dir>', 'its data directory', '.gfs')
    .action(async (flags) => (await import('./commands/up.js')).down(flags));
}

function addPrograms(program: Command): void {
  addDaemonFlags(
    program
      .command('master')
      .summary('run a master')
      .description('Runs a master in the foreground, until SIGTERM or Ctrl-C.')
      .option('--host <host>', 'the address to listen on; 0.0.0.0 for every interface (default: 127.0.0.1)')
      .option('-p, --port <port>', 'the TCP port (default: 5000)')
      .option('--advertise-host <host>', 'the address that others connect to, when it is another')
      .option('-d, --data <dir>', 'the directory of the operation log'),
  ).action(async (flags) => (await import('./commands/daemons.js')).master(flags));

  addDaemonFlags(
    program
      .command('shadow')
      .summary('run a shadow: a copy of the log that can become the master')
      .description(
        'Runs a shadow in the foreground, until SIGTERM or Ctrl-C. It keeps a copy of the operation log, which the ' +
          'master waits for with every change; it answers reads while the master is away; and `gfs promote` makes it ' +
          'the master. Once it has the whole log the master waits for it for ever: to end one, `gfs shadows remove`.',
      )
      .option('-m, --master <host:port>', 'the master; may be repeated', collect)
      .option('--host <host>', 'the address to listen on; 0.0.0.0 for every interface (default: 127.0.0.1)')
      .option('-p, --port <port>', 'the TCP port (default: 5001)')
      .option('--advertise-host <host>', 'the address that others connect to, when it is another')
      .option('-d, --data <dir>', 'the directory of its copy of the log'),
  )
    .addHelpText(
      'after',
      `
Example:
  gfs shadow --master 10.0.0.1:5000 --host 10.0.0.9 --data /srv/gfs-shadow
The directory of a master that was replaced can be given too: it becomes a shadow of the new one.`,
    )
    .action(async (flags) => (await import('./commands/daemons.js')).shadow(flags));

  addDaemonFlags(
    program
      .command('chunkserver')
      .summary('run a chunkserver')
      .description('Runs a chunkserver in the foreground, until SIGTERM or Ctrl-C.')
      .option('-m, --master <host:port>', 'the master; may be repeated', collect)
      .option('--host <host>', 'the address to listen on (default: 127.0.0.1)')
      .option('-p, --port <port>', 'the TCP port (default: a free one)')
      .option('--advertise-host <host>', 'the address that others connect to, when it is another')
      .option('-d, --data <dir>', 'a directory for chunks; one on each disk, may be repeated', collect)
      .option('--location <x,y>', 'where it stands: coordinates in any unit')
      .option('--rack <name>', 'its rack'),
  )
    .addHelpText(
      'after',
      `
Example:
  gfs chunkserver --master 10.0.0.1:5000 --host 10.0.0.2 --data /disk1/gfs --data /disk2/gfs --rack a1`,
    )
    .action(async (flags) => (await import('./commands/daemons.js')).chunkserver(flags));
}

function addShadows(program: Command): void {
  program
    .command('promote')
    .summary('make a shadow the master')
    .description(
      'Makes a shadow the master, with everything that was acknowledged. The old master, if it still runs, ends; ' +
        'it refuses to serve when it is started again. Chunkservers and mounts find the new one by themselves. An old master ' +
        'that cannot be reached, cut off with some mounts, goes on answering their reads: stop it.',
    )
    .argument('<shadow>', 'the shadow, as HOST[:PORT] (default port: 5001)')
    .option('--json', 'print {address, term, unreached: the old master where it did not answer, or null}')
    .action(async (shadow, flags) => (await import('./commands/shadows.js')).promote(shadow, flags));

  const shadows = addConfigurationFlags(
    program
      .command('shadows')
      .summary('list the shadows')
      .description(
        'Lists the copies of the operation log: whether the master waits for them, and how far behind they are, in records and in time. ' +
          'Exit code 1 when one that it waits for is missing.',
      )
      .argument('[master]', MASTER_ARGUMENT)
      .option('--json', 'print JSON'),
  ).action(async (master, flags) => (await import('./commands/shadows.js')).list(master, flags));
  addConfigurationFlags(
    shadows
      .command('remove')
      .summary('stop waiting for a shadow that is gone for good')
      .description(
        'Has the master wait no longer for a shadow that is gone for good. It must not run, and its data must never be promoted: delete it.',
      )
      .argument('<id>', 'its id, as `gfs shadows` tells it')
      .argument('[master]', MASTER_ARGUMENT),
  ).action(async (id, master, flags) => (await import('./commands/shadows.js')).remove(id, master, flags));
}

function addMounts(program: Command): void {
  addDaemonFlags(
    program
      .command('mount')
      .summary('mount a cluster')
      .description(
        'Mounts a cluster, and returns once it is there; a process in the background serves it until it is unmounted.',
      )
      .argument(
        '<words...>',
        '[HOST[:PORT][,HOST...][:/PATH]] DIR; without a host: as the configuration says',
      )
      .usage('[options] [HOST[:PORT][,HOST...][:/PATH]] DIR')
      .option('-f, --foreground', 'stay in the foreground')
      .option('--supervise', 'mount again after a crash (the default in the background)')
      .option('--no-supervise', 'end with the process that serves the mount')
      .option('-o, --option <options>', 'mount options, separated by commas; may be repeated', collect),
  )
    .addHelpText(
      'after',
      `
Mount options:
  ro, rw                       read-only or not
  allow_other, noallow_other   whether other users may use it (root: yes; others: as /etc/fuse.conf allows)
  nodefault_permissions        leave the checks of modes and owners to the file system
  nonempty                     mount over a directory that is not empty
  binding=kernel|fuse-native   how it speaks FUSE (kernel, or fuse-native where the addon is not built)
  location=X,Y  rack=NAME      where this client stands, for choosing near replicas
  attr_timeout=S entry_timeout=S  seconds that the kernel may believe attributes and names
  hard, soft                   try for ever, or fail after the deadline of [client]
  acl, noacl                   POSIX ACLs (yes, with the kernel binding)
  suid, dev, noexec, noatime, relatime, strictatime, sync, ...  as of mount(8); nosuid and nodev unless told otherwise
  auto_unmount                 unmounted by fusermount3 when the process is gone
  _netdev, noauto, nofail, user, x-..., comment=...  of fstab, for others

Examples:
  gfs mount master.example:5000 /mnt/gfs
  gfs mount 10.0.0.1,10.0.0.2:/projects /srv/projects -o ro,location=1.5,20,rack=a1`,
    )
    .action(async (words, flags) => (await import('./commands/mount.js')).mount(words, flags));

  program
    .command('umount')
    .summary('unmount a cluster')
    .description('Unmounts, after what was written has been sent. Fails while somebody uses the mount.')
    .argument('<dir>', 'the mount point')
    .option(
      '-f, --force',
      'also when it is busy or does not answer; what waits in a mount that is stuck is given up',
    )
    .action(async (directory, flags) => (await import('./commands/mount.js')).umount(directory, flags));

  program
    .command('install-helper')
    .summary('let mount(8) and fstab mount clusters')
    .description('Links mount.fuse.gfs and mount.gfs to this installation, where mount(8) looks for them.')
    .option('--directory <dir>', 'where mount(8) looks', '/sbin')
    .option('--remove', 'take the links away')
    .action(async (flags) => (await import('./commands/install-helper.js')).installHelper(flags));
}

function addInspection(program: Command): void {
  addConfigurationFlags(
    program
      .command('status')
      .summary('show the cluster: servers, chunks, space')
      .description(
        'Shows the cluster as the master sees it. Exit code 1 when chunks are lost or below their goal.',
      )
      .argument('[master]', MASTER_ARGUMENT)
      .option('--json', 'print JSON'),
  ).action(async (master, flags) => (await import('./commands/status.js')).status(master, flags));

  addConfigurationFlags(
    program
      .command('ls-servers')
      .summary('list the chunkservers')
      .description('Lists the chunkservers that the master knows.')
      .argument('[master]', MASTER_ARGUMENT)
      .option('--json', 'print JSON'),
  ).action(async (master, flags) => (await import('./commands/status.js')).lsServers(master, flags));

  addMasterFlags(
    program
      .command('scrub')
      .summary('check replicas against their checksums')
      .description(
        'Shows how far chunkservers are with reading all replicas and comparing them with their checksums, which they do ' +
          'by themselves when no client is busy (chunk_server.scrub_interval). Exit code 1: damaged ones were found.',
      )
      .argument('[server]', 'its id, the beginning of it, or HOST:PORT (gfs ls-servers); all without it')
      .option('-a, --all', 'all that are alive')
      .option('--now', 'begin a pass at once, as soon as clients are quiet')
      .option('--wait', 'return when the pass is complete')
      .option('--json', 'print JSON'),
  ).action(async (server, flags) => (await import('./commands/scrub.js')).scrub(server, flags));

  program
    .command('fileinfo')
    .summary('show the chunks of a file and where they are')
    .description(
      'Shows each chunk of files on a mount: handle, version, length and replicas; a star is behind the primary.',
    )
    .argument('<files...>', 'files on a mounted GFS')
    .option('--json', 'print a JSON object for each')
    .action(async (files, flags) => (await import('./commands/files.js')).fileinfo(files, flags));
}

function addFiles(program: Command): void {
  program
    .command('snapshot')
    .summary('copy a file or a tree by metadata alone')
    .description(
      'Makes DEST a snapshot of SRC, a file or a tree, at once: no data is copied until one of them is written (paper, section 3.4).',
    )
    .argument('<src>', 'a file or a directory on a mounted GFS')
    .argument('<dest>', 'a name on the same mount that is not there yet')
    .option('--json', 'print {source, destination, inode}')
    .action(async (source, destination, flags) =>
      (await import('./commands/files.js')).snapshot(source, destination, flags),
    );

  program
    .command('append')
    .summary('append a record to a file, atomically')
    .description(
      'Appends one record as a whole, at an offset that GFS chooses, however many append to the file at the same time ' +
        '(paper, section 3.3). Makes the file when it is missing.',
    )
    .argument('<file>', 'a file on a mounted GFS')
    .argument('[record]', 'the record (default: all of standard input)')
    .option('-n, --newline', 'end the record with a newline')
    .option(
      '--records',
      'append each line of standard input as a self-describing record, for `gfs cat --records`',
    )
    .option('--offset', 'print where the record went')
    .option('--json', 'print {file, offset, length}')
    .addHelpText(
      'after',
      "\nExamples:\n  gfs append -n /mnt/gfs/log 'a line'\n  gfs append --offset /mnt/gfs/blobs <blob",
    )
    .action(async (file, record, flags) => {
      if (flags.records === true)
        await (await import('./commands/records.js')).appendRecords(file, record, flags);
      else await (await import('./commands/files.js')).append(file, record, flags);
    });

  program
    .command('cat')
    .summary('print files, or the records in them')
    .description(
      'Prints files. With --records it prints what `gfs append --records` or the client library put there, a line ' +
        'each: padding is skipped, and a record that was appended twice is printed once.',
    )
    .argument('<files...>', 'files')
    .option('--records', 'print the records')
    .option('--json', 'with --records: a JSON line each, with offset, length and data in base64')
    .action(async (files, flags) => (await import('./commands/records.js')).cat(files, flags));
}

function addConfig(program: Command): void {
  const config = program
    .command('config')
    .summary('check or show the configuration')
    .description('Configuration files: every key is in docs/configuration.md.');
  config
    .command('check')
    .description('Tells whether a file is right; if not, what is wrong, in which line.')
    .argument('<file>', 'a configuration in TOML')
    .action(async (file) => (await import('./commands/config.js')).check(file));
  addConfigurationFlags(
    config
      .command('backup')
      .description(
        'Copies the configuration, the superblock, the newest checkpoint and the log after it into a dated directory, while the master runs.',
      )
      .argument('[dir]', 'where that directory is made', '.')
      .option('-d, --data <dir>', "the master's data directory (default: from the configuration)")
      .option('--no-log', 'without the operation log: what is newer than the checkpoint is not in it')
      .option('--json', 'print JSON'),
  ).action(async (directory, flags) => (await import('./commands/backup.js')).backup(directory, flags));
  addConfigurationFlags(
    config
      .command('show')
      .description('Prints every key with the value that counts, and where it comes from, as TOML.')
      .option('--json', 'print JSON: sizes in bytes, times in milliseconds'),
  ).action(async (flags) => (await import('./commands/config.js')).show(flags));
}

/** Its own errors look like ours. */
const output = {
  outputError: (text: string, write: (text: string) => void) => write(text.replace(/^error: /, 'gfs: ')),
};

export function makeProgram(version: string): Command {
  const program = new Command('gfs')
    .description('The Google File System: run it, mount it, look into it.')
    .version(version, '-V, --version')
    .showHelpAfterError('(more: add --help)')
    .configureOutput(output)
    .exitOverride();
  for (const add of [
    addCluster,
    addPrograms,
    addShadows,
    addMounts,
    addInspection,
    addFiles,
    addReplication,
    addTrash,
    addLog,
    addInspectCommands,
    addConfig,
  ])
    add(program);
  program.addHelpText(
    'after',
    '\nTo begin with: gfs up. Each command tells more with --help. Exit codes: 0, 1 failed, 2 usage.',
  );
  for (const command of [...program.commands, ...program.commands.flatMap((each) => each.commands)]) {
    command.exitOverride().showHelpAfterError('(more: add --help)').configureOutput(output);
  }
  return program;
}
