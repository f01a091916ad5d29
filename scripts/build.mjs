// `npm run build`: TypeScript to dist/, then the native parts. Only what has changed is built again.
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { installNpmPackages, main, ROOT, run, say } from './steps.mjs';

await main(async () => {
  installNpmPackages([]);
  say('compiling TypeScript: tsc');
  run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '--project', ROOT]);
  chmodSync(join(ROOT, 'scripts/gfs'), 0o755);
  if (existsSync(join(ROOT, 'scripts/native.mjs'))) {
    const { buildNative } = await import('./native.mjs');
    await buildNative();
  }
});
