// What `npm start` and `npm test` do before their own work. Each step says what it does before it does it.
// Plain JavaScript without packages: it runs in a fresh clone, where nothing is installed or built.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

export function say(line) {
  process.stdout.write(`\n== ${line}\n`);
}

/** A step that failed; its output has told why. */
export class StepFailed extends Error {}

/** Runs a program with our terminal. @throws {StepFailed} */
export function run(program, words, { env = process.env, okay = [0] } = {}) {
  const { status, signal, error } = spawnSync(program, words, {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    env,
  });
  if (error !== undefined) throw new StepFailed(`cannot run ${program}: ${error.message}`);
  if (signal !== null) throw new StepFailed(`${program} was ended by ${signal}`);
  if (!okay.includes(status)) throw new StepFailed(`${[program, ...words].join(' ')} ended with ${status}`);
}

export function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 12)) {
    throw new StepFailed(
      `Node ${process.versions.node} is too old: 20.12 or newer is needed (apt-get install nodejs, or nodejs.org)`,
    );
  }
}

function hasCommand(name) {
  return [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'].some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function hasLibrary(name) {
  const directories = ['/lib', '/usr/lib', '/lib64', '/usr/lib64', '/usr/local/lib'];
  for (const directory of ['/lib', '/usr/lib']) {
    if (!existsSync(directory)) continue;
    for (const entry of readdirSync(directory))
      if (entry.includes('-linux-')) directories.push(join(directory, entry));
  }
  return directories.some((directory) => existsSync(join(directory, name)));
}

/** Debian's packages, and how to see that what we need of one is there, whoever installed it. */
const SYSTEM_PACKAGES = {
  acl: () => hasCommand('setfacl'),
  attr: () => hasCommand('setfattr') && hasCommand('getfattr'),
  fio: () => hasCommand('fio'),
  fuse3: () => hasCommand('fusermount3'),
  gcc: () => hasCommand('gcc') || hasCommand('cc'),
  git: () => hasCommand('git'),
  iproute2: () => hasCommand('ip'),
  'libc6-dev': () => existsSync('/usr/include/stdlib.h'),
  libfuse2: () => hasLibrary('libfuse.so.2'),
  make: () => hasCommand('make'),
  'g++': () => hasCommand('g++') || hasCommand('c++'),
  postgresql: () => existsSync('/usr/lib/postgresql'),
  procps: () => hasCommand('ps'),
  'vim-tiny': () => hasCommand('vi'),
  python3: () => hasCommand('python3'),
  rsync: () => hasCommand('rsync'),
  sqlite3: () => hasCommand('sqlite3'),
  'stress-ng': () => hasCommand('stress-ng'),
  'util-linux': () => hasCommand('flock'),
};

/** To run: FUSE's helper and library, extended attributes by hand, a compiler for the native addon. */
export const TO_RUN = [
  'fuse3',
  'libfuse2',
  'attr',
  'util-linux',
  'gcc',
  'g++',
  'libc6-dev',
  'make',
  'python3',
];
export const TO_TEST = [...TO_RUN, 'git', 'iproute2', 'procps', 'rsync', 'vim-tiny'];
/** For `npm run test:programs`. */
export const TO_PROGRAMS = [...TO_TEST, 'acl', 'fio', 'postgresql', 'sqlite3', 'stress-ng'];

function missing(packages) {
  return packages.filter((name) => !SYSTEM_PACKAGES[name]());
}

/**
 * Installs what is missing where apt-get is there and we may; says what is missing otherwise, and goes on:
 * much works without.
 * @returns {string[]} what was installed
 */
export function installSystemPackages(packages) {
  const wanted = missing(packages);
  if (wanted.length === 0) return [];
  const command = `apt-get install ${wanted.join(' ')}`;
  if (!hasCommand('apt-get')) {
    say(`missing, and there is no apt-get: what Debian calls ${wanted.join(', ')}; going on without`);
    return [];
  }
  if (process.getuid() !== 0) {
    say(`missing: ${wanted.join(', ')}. As root: ${command}. Going on without`);
    return [];
  }
  say(`installing Debian packages: ${wanted.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['install', '--yes', '--no-install-recommends', ...wanted];
  try {
    try {
      run('apt-get', install, { env });
    } catch {
      say('that failed, perhaps with old package lists: updating them');
      run('apt-get', ['update'], { env });
      run('apt-get', install, { env });
    }
  } catch (error) {
    say(`${error.message}; going on without ${missing(wanted).join(', ')}`);
  }
  return wanted.filter((name) => SYSTEM_PACKAGES[name]());
}

function modifiedAt(path) {
  return existsSync(path) ? statSync(path).mtimeMs : Number.NEGATIVE_INFINITY;
}

/**
 * `npm ci` when node_modules is missing, was not finished, or is older than package-lock.json.
 * @param installed what {@link installSystemPackages} has just installed: fuse-native is left out of
 * node_modules when libfuse2 is not there first
 */
export function installNpmPackages(installed) {
  // npm writes this file last.
  const done = modifiedAt(join(ROOT, 'node_modules/.package-lock.json'));
  const isFuseNativeDue =
    installed.includes('libfuse2') && !existsSync(join(ROOT, 'node_modules/fuse-native'));
  if (done >= modifiedAt(join(ROOT, 'package-lock.json')) && !isFuseNativeDue) return;
  say('installing npm packages: npm ci');
  run('npm', ['ci', '--no-audit', '--no-fund']);
}

/** Runs what builds; a mistake in the types stops it. */
export function build() {
  run(process.execPath, [join(ROOT, 'scripts/build.mjs')]);
}

/** For a script's top level: a failed step is a message and an exit code, not a stack. */
export async function main(steps) {
  try {
    await steps();
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    process.stderr.write(`\n${error.message}\n`);
    process.exitCode = 1;
  }
}
