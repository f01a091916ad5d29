// `npm start [-- DIR] [-- --data DIR …]`: from a fresh clone to a mounted cluster. The words go to `gfs up`.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import {
  build,
  installNpmPackages,
  installSystemPackages,
  main,
  ROOT,
  requireNode,
  say,
  TO_RUN,
} from './steps.mjs';

await main(async () => {
  requireNode();
  installNpmPackages(installSystemPackages(TO_RUN));
  build();
  const words = process.argv.slice(2);
  say(['gfs up', ...words].join(' '));
  const up = spawn(process.execPath, [join(ROOT, 'scripts/gfs'), 'up', ...words], { stdio: 'inherit' });
  // Ctrl-C reaches both of us; SIGTERM and SIGHUP only whom they are sent to.
  process.on('SIGINT', () => undefined);
  for (const name of ['SIGTERM', 'SIGHUP']) process.on(name, () => up.kill(name));
  up.on('exit', (code, signal) => {
    process.exitCode = signal === null ? code : 1;
  });
});
