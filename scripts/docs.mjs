// `npm run docs`: writes docs/configuration.md from the table of keys. Build first.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './steps.mjs';

const { configurationManual } = await import('../dist/cli/config/document.js');
writeFileSync(join(ROOT, 'docs/configuration.md'), configurationManual());
