/**
 * The import rules: what each folder may import. A role is a folder that becomes one program; roles
 * meet over the wire alone, so that any of them can run on another host, or in the simulator.
 */
const ROLES = ['master', 'chunkserver', 'client'];
/** The programs' entry points, which put a role and the real environment together. */
const MAIN = '^(master|chunkserver|client|fuse-client)/main\\.ts$';
const OURS = '^(environment|protocol|master|chunkserver|client|fuse-client|cli|test|bench|scripts)/';

function only(name, comment, from, allowed) {
  return { name, comment, severity: 'error', from, to: { path: OURS, pathNot: allowed } };
}

module.exports = {
  forbidden: [
    only(
      'ports-import-nothing',
      'The ports are the ground that everything stands on.',
      { path: '^environment/ports/' },
      ['^environment/ports/'],
    ),
    only(
      'environment-node',
      'The real environment implements the ports and knows nothing of GFS.',
      { path: '^environment/node/' },
      ['^environment/'],
    ),
    only('protocol', 'What crosses a wire or a disk stands on the ports alone.', { path: '^protocol/' }, [
      '^protocol/',
      '^environment/ports/',
    ]),
    ...ROLES.map((role) =>
      only(
        `role-${role}`,
        `${role}/ imports itself, protocol/ and port types: roles meet over the wire.`,
        { path: `^${role}/`, pathNot: MAIN },
        [`^${role}/`, '^protocol/', '^environment/ports/'],
      ),
    ),
    ...ROLES.map((role) =>
      only(
        `main-${role}`,
        'An entry point puts its role and the real environment together.',
        { path: `^${role}/main\\.ts$` },
        [`^${role}/`, '^protocol/', '^environment/'],
      ),
    ),
    only('fuse-client', 'The mount uses the client library.', { path: '^fuse-client/', pathNot: MAIN }, [
      '^fuse-client/',
      '^client/',
      '^protocol/',
      '^environment/ports/',
    ]),
    only(
      'main-fuse-client',
      'An entry point puts its role and the real environment together.',
      { path: '^fuse-client/main\\.ts$' },
      ['^fuse-client/', '^client/', '^protocol/', '^environment/'],
    ),
    only(
      'cli',
      'The command line uses the client library, and starts the programs by their entry points.',
      { path: '^cli/' },
      [
        '^cli/',
        '^client/',
        '^protocol/',
        '^environment/',
        '^(master|chunkserver)/(main|options|log-check)\\.ts$',
        '^fuse-client/(main|options|ioctl|kernel/addon)\\.ts$',
      ],
    ),
    {
      name: 'port-types-only',
      comment: 'Roles and protocol take the ports as types: what implements them is handed in.',
      severity: 'error',
      from: { path: '^(protocol|master|chunkserver|client|fuse-client)/', pathNot: MAIN },
      to: { path: '^environment/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'cli-starts-programs-late',
      comment: 'A quick command must not load the programs: they are imported when one is started.',
      severity: 'error',
      from: { path: '^cli/' },
      to: {
        path: '^(master|chunkserver|fuse-client)/(?!ioctl|options)',
        dynamic: false,
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'no-node-modules-of-node',
      comment: 'Disk, network, time and processes come through the ports (environment/node implements them).',
      severity: 'error',
      from: {
        path: OURS,
        pathNot: [
          MAIN,
          '^(cli|test|bench|scripts)/',
          '^environment/node/',
          '^fuse-client/(kernel|fuse-native)/',
        ],
      },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'no-cycles',
      comment: 'Two files that need each other are one file, or three. (Types may refer to each other.)',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'declared-packages',
      comment: 'What is imported is in package.json, and in `dependencies` where it runs in production.',
      severity: 'error',
      from: { path: OURS, pathNot: '^(test|bench|scripts)/' },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown'],
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'resolvable',
      comment: 'Every import can be found.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|\\.build)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      conditionNames: ['import', 'node', 'default', 'types'],
      exportsFields: ['exports'],
    },
  },
};
