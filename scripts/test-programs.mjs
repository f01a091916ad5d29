// `npm run test:programs [-- NAME…]`: real programs on a mount, the slow ones too: git, sqlite, PostgreSQL, fio,
// stress-ng, a C build, npm, round trips. Installs what Debian packages are missing.
import { spawnSync } from 'node:child_process';
import {
  build,
  installNpmPackages,
  installSystemPackages,
  main,
  ROOT,
  requireNode,
  TO_PROGRAMS,
} from './steps.mjs';

await main(() => {
  requireNode();
  installNpmPackages(installSystemPackages(TO_PROGRAMS));
  build();
  const { status } = spawnSync(process.execPath, ['dist/test/programs/main.js', ...process.argv.slice(2)], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  process.exitCode = status ?? 1;
});
