/** The manual of the configuration, made from the table of keys: docs/configuration.md is its output. */
import { everyKey, type Section, type SectionName, sections } from './keys.js';
import { variableOf } from './load.js';

const INTRODUCTION = `# Configuration

One TOML file serves every program of a cluster: \`gfs master --config FILE\`, \`gfs chunkserver --config
FILE\`, \`gfs mount … --config FILE\`, \`gfs up --config FILE\`; \`GFS_CONFIG=FILE\` names it for all of them.
Each reads the sections that concern it, so one file can be copied to every host. Every key has a default:
an empty file is a working configuration for one host. \`examples/\` has some to start from.

Later ones win:

1. the default,
2. the file,
3. the environment: \`GFS_SECTION_KEY\`, as \`GFS_MASTER_PORT=5001\` for \`port\` in \`[master]\`,
4. \`--set SECTION.KEY=VALUE\`, as \`--set master.port=5001\`,
5. an option of the command that says the same, as \`gfs master --port 5001\`.

An unknown section or key is an error that names its line and the key that was probably meant.
\`gfs config check FILE\` tells whether a file is right; \`gfs config show\` prints every key with the value
that counts, and where it comes from.

Sizes are written \`"64MiB"\` (\`B\`, \`KiB\`, \`MiB\`, \`GiB\`, \`TiB\`) or as a number of bytes; times \`"60s"\`
(\`ms\`, \`s\`, \`m\`, \`h\`, \`d\`) or as a number of seconds.

<!-- Below: made from cli/config/keys.ts by \`npm run docs\`. A test compares them. -->
`;

function sectionText(name: SectionName, section: Section): string {
  const rows = [...everyKey()]
    .filter((each) => each.section === name)
    .map(({ name, key }) => {
      const fallback = key.fallback === undefined ? 'not set' : `\`${key.type.show(key.fallback)}\``;
      return `| \`${name}\` | ${key.type.what.replaceAll('|', '\\|')} | ${fallback} | ${key.about} |`;
    });
  return [
    `## [${name}]`,
    '',
    section.about,
    '',
    '| key | value | default | |',
    '|---|---|---|---|',
    ...rows,
  ].join('\n');
}

/** docs/configuration.md, whole. */
export function configurationManual(): string {
  const parts = (Object.entries(sections) as [SectionName, Section][]).map(([name, section]) =>
    sectionText(name, section),
  );
  const example = variableOf('chunk_server', 'heartbeat_interval');
  return [
    INTRODUCTION,
    parts.join('\n\n'),
    '',
    `In the environment a value is written as in TOML, the quotes of a string may be left out:`,
    `\`${example}=5s\`, \`${variableOf('chunk_server', 'location')}='[1.5, 2]'\`.`,
    '',
  ].join('\n');
}
