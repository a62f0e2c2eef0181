// The packages that the tests need, from where `run` puts them: target/dashboard.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../../..');
export const TARGET = join(ROOT, 'target/dashboard');

const require = createRequire(join(TARGET, 'package.json'));

export const { chromium } = require('playwright-core');
export const jsQR = require('jsqr').default ?? require('jsqr');
export const { PNG } = require('pngjs');
export const axePath = require.resolve('axe-core/axe.min.js');
export const packageFile = (name) => require.resolve(name);
