// The native parts, built from C where the tools are there: the kernel binding's addon and the libfuse module
// of the fuse-native binding. Neither is required: without the addon the mount goes through fuse-native, and that
// works without the module. native-deps.md tells more. Plain JavaScript: it runs before anything is compiled.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const ADDON = join(ROOT, 'fuse-client/native');
const MODULE = join(ROOT, 'fuse-client/native-module');
const BUILD_TIMEOUT_MS = 300_000;
const SHOWN_LINES = 20;

const parts = [
  {
    name: "the kernel binding's addon",
    directory: ADDON,
    product: join(ADDON, 'build/Release/fusedev.node'),
    without: 'mounts need -o binding=fuse-native, which is slower and can do less',
    plan: planAddon,
  },
  {
    name: 'the libfuse module of the fuse-native binding',
    directory: MODULE,
    product: join(MODULE, 'build/gfs_module.node'),
    without:
      'mounts with -o binding=fuse-native have no ioctl, act for one user and take names in UTF-8 only',
    plan: planModule,
  },
];

/**
 * Builds what is not built or whose sources have changed. Never fails: what cannot be built is said in a line,
 * with what that means.
 * @param {{ log?: (line: string) => void }} [options]
 * @returns {Promise<{ addon: boolean, module: boolean }>} what is there to be used
 */
export async function buildNative({ log = (line) => process.stdout.write(`${line}\n`) } = {}) {
  const [addon, module] = parts.map((part) => buildPart(part, log));
  return { addon, module };
}

function buildPart({ name, directory, product, without, plan }, log) {
  const stamp = join(directory, 'build/sources.sha256');
  const sources = hashOf(directory);
  if (existsSync(product) && existsSync(stamp) && readFileSync(stamp, 'utf8') === sources) return true;

  const { missing, commands } = plan(product);
  if (missing.length > 0) {
    log(`not building ${name}: ${missing.join(', ')} missing. Without it ${without}`);
    return false;
  }
  log(`building ${name} in ${directory.slice(ROOT.length + 1)}`);
  for (const [program, words] of commands) {
    const { status, signal, error, stdout, stderr } = spawnSync(program, words, {
      cwd: directory,
      encoding: 'utf8',
      timeout: BUILD_TIMEOUT_MS,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    if (status === 0) continue;
    for (const line of `${stdout ?? ''}\n${stderr ?? ''}`.trim().split('\n').slice(-SHOWN_LINES))
      log(`  ${line}`);
    log(
      `${program} failed (${error?.message ?? signal ?? `exit ${status}`}): ${name} is not built. Without it ${without}`,
    );
    return false;
  }
  writeFileSync(stamp, sources);
  return true;
}

/** node-gyp clears the directory that it builds in, so each build has its own: several may run at once. */
function planAddon(product) {
  const nodeGyp = findNodeGyp();
  const missing = missingCommands({ cc: 'gcc', 'c++': 'g++', make: 'make', python3: 'python3' });
  if (nodeGyp === undefined) missing.push('node-gyp (it comes with npm)');
  const prefix = dirname(dirname(process.execPath));
  // The headers that came with this Node; without them node-gyp downloads them.
  const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
  const copy = temporary(join(ADDON, 'build/copy'));
  const sources = readdirSync(ADDON).filter(isSource);
  return {
    missing,
    commands: [
      ['mkdir', ['-p', copy, dirname(product)]],
      ['cp', [...sources, copy]],
      [process.execPath, [nodeGyp, 'rebuild', '--directory', copy, '--loglevel=error', ...headers]],
      ['mv', ['-f', join(copy, 'build/Release/fusedev.node'), product]],
      ['rm', ['-r', copy]],
    ],
  };
}

function planModule(product) {
  const include = ['fuse-shared-library-linux', 'fuse-shared-library-linux-arm']
    .map((name) => join(ROOT, 'node_modules', name, 'libfuse/include'))
    .find((directory) => existsSync(join(directory, 'fuse.h')));
  const missing = missingCommands({ cc: 'gcc' });
  if (include === undefined) missing.push('the npm package fuse-native (see native-deps.md)');
  if (missing.length === 0 && !linksWith('libfuse.so.2')) missing.push('libfuse2 (Debian package)');
  mkdirSync(dirname(product), { recursive: true });
  const flags = [
    '-std=gnu11',
    '-O2',
    '-Wall',
    '-Wextra',
    '-shared',
    '-fPIC',
    '-fvisibility=hidden',
    '-D_FILE_OFFSET_BITS=64',
  ];
  const sources = readdirSync(MODULE).filter((name) => name.endsWith('.c'));
  const words = [...flags, `-I${include}`, '-o', temporary(product), ...sources, '-l:libfuse.so.2'];
  return {
    missing,
    commands: [
      ['cc', words],
      ['mv', ['-f', temporary(product), product]],
    ],
  };
}

/** Built beside and then renamed, so that nobody ever loads half of it. */
function temporary(product) {
  return `${product}.${process.pid}`;
}

/** @returns {string[]} what to install for the commands that are not there */
function missingCommands(commands) {
  return Object.entries(commands).flatMap(([command, name]) => (hasCommand(command) ? [] : [name]));
}

function hasCommand(command) {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Asked for a file that it does not find, the compiler gives back the bare name. */
function linksWith(library) {
  const { stdout } = spawnSync('cc', [`-print-file-name=${library}`], { encoding: 'utf8' });
  return (stdout ?? '').includes('/');
}

/** The one in node_modules (it comes with the test runner), or npm's own. */
function findNodeGyp() {
  try {
    return createRequire(join(ROOT, 'package.json')).resolve('node-gyp/bin/node-gyp.js');
  } catch {
    const npm = process.env.npm_execpath;
    const roots = [
      ...(npm === undefined ? [] : [join(dirname(dirname(npm)), 'node_modules')]),
      join(dirname(dirname(process.execPath)), 'lib/node_modules/npm/node_modules'),
      '/usr/share/nodejs',
      '/usr/share/nodejs/npm/node_modules',
    ];
    return roots.map((root) => join(root, 'node-gyp/bin/node-gyp.js')).find((file) => existsSync(file));
  }
}

function isSource(name) {
  return /\.(c|h|gyp)$/.test(name);
}

/** Of all sources and of the machine they are compiled for. */
function hashOf(directory) {
  const hash = createHash('sha256').update(`${process.arch} ${process.platform}\n`);
  for (const name of readdirSync(directory).sort()) {
    if (isSource(name)) hash.update(name).update(readFileSync(join(directory, name)));
  }
  return hash.digest('hex');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildNative();
