// The files of the page themselves: complete strings, nothing that could run foreign markup, small, unchanged copies.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import test from 'node:test';
import { gzipSync } from 'node:zlib';

import { ROOT, packageFile } from './support/tools.mjs';

const STATIC = join(ROOT, 'static');
const SERVED = ['.html', '.js', '.css', '.svg', '.txt'];
const LINES_MAX = 300;
const COMPRESSED_MAX = 150 * 1024;

const names = (await readdir(STATIC, { recursive: true })).filter((name) => extname(name));
const texts = new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(STATIC, name), 'utf8')])));
const own = [...texts].filter(([name]) => !name.startsWith('vendor/'));
const modules = own.filter(([name]) => name.endsWith('.js') && name !== 'theme.js');
const { default: en } = await import(join(STATIC, 'lang/en.js'));
const { default: zh } = await import(join(STATIC, 'lang/zh.js'));

test('both languages have the same keys and the same values to fill in', () => {
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  const names = (text) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();
  for (const [key, text] of Object.entries(en)) {
    assert.deepEqual(names(zh[key]), names(text), key);
    assert.ok(zh[key] !== '' && text !== '', key);
    assert.ok(!zh[key].includes('|'), `${key}: Chinese has one form`);
  }
});

test('every string asked for exists, and every string is asked for', () => {
  const code = modules.filter(([name]) => !name.startsWith('lang/')).map(([, text]) => text).join('\n');
  const asked = [...code.matchAll(/\bt\('([\w.]+)'/g)].map(([, key]) => key);
  for (const key of asked) assert.ok(key in en, `no string ${key}`);
  const prefixes = [...code.matchAll(/(?:\bt|lookUp)\(`([\w.]+)\$\{/g)].map(([, prefix]) => prefix);
  const literal = (key) => code.includes(`'${key}'`);
  const unused = Object.keys(en).filter((key) => !literal(key) && !prefixes.some((prefix) => key.startsWith(prefix)));
  assert.deepEqual(unused, []);
});

test('what the server says by a word has a sentence in the page', async () => {
  const words = async (path, pattern) => [...(await readFile(join(ROOT, path), 'utf8')).matchAll(pattern)].map(([, word]) => word);
  const metrics = await words('src/control/alerts.rs', /\(Metric::\w+, "(\w+)"/g);
  assert.ok(metrics.length > 5, 'the list of metrics was found');
  for (const metric of metrics) assert.ok(`metric.${metric}` in en && `remedy.${metric}` in en, metric);
  const views = await words('src/session/view.rs', /Self::\w+ => "(\w+)"/g);
  assert.ok(views.length > 10, 'the lists of states and modes were found');
  for (const word of views) assert.ok(`session.${word}` in en || `mode.${word}` in en, word);
});

test('strings from the network never become markup', () => {
  for (const [name, text] of modules) {
    for (const way of ['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'document.write', 'DOMParser', 'createContextualFragment', 'eval(', 'new Function', 'srcdoc']) {
      assert.ok(!text.includes(way), `${name} has ${way}`);
    }
  }
  const page = texts.get('index.html');
  assert.ok(!/<style|style=|\son\w+=|<script>/.test(page), 'nothing inline in index.html');
});

test('modules import by relative paths, and the page loads all of them ahead', () => {
  const page = texts.get('index.html');
  for (const [name, text] of modules) {
    for (const [, one, other] of text.matchAll(/^(?:import .*|\} )from '([^']+)'|\bimport\('([^']+)'\)/gm)) {
      const path = one ?? other;
      assert.ok(path.startsWith('.'), `${name} imports ${path}`);
      assert.ok(texts.has(join(dirname(name), path)), `${name} imports ${path}, which is not there`);
    }
    assert.ok(page.includes(`"/static/${name}"`), `index.html does not load ${name} ahead`);
  }
  for (const [, path] of page.matchAll(/"\/static\/([^"]+)"/g)) assert.ok(texts.has(path), `index.html names ${path}`);
});

test('files are short', () => {
  for (const [name, text] of own) assert.ok(text.split('\n').length <= LINES_MAX, `${name} has more than ${LINES_MAX} lines`);
});

test('the whole page is at most 150 KB compressed', () => {
  const sizes = [...texts].filter(([name]) => SERVED.includes(extname(name))).map(([, text]) => gzipSync(text, { level: 9 }).length);
  const sum = sizes.reduce((all, size) => all + size, 0);
  console.log(`    all files of the page compressed: ${(sum / 1024).toFixed(1)} KB`);
  assert.ok(sum <= COMPRESSED_MAX, `${sum} bytes`);
});

test('the chart library is an unchanged copy of the version it says', async () => {
  const note = texts.get('vendor/uplot/README.md');
  const { version } = JSON.parse(await readFile(packageFile('uplot/package.json'), 'utf8'));
  assert.ok(note.startsWith(`# uPlot ${version}\n`), `the package is ${version}`);
  const copies = [...note.matchAll(/^\| `(.+?)` \| `(.+?)` \|$/gm)];
  assert.equal(copies.length, 4);
  for (const [, here, there] of copies) {
    assert.equal(texts.get(`vendor/uplot/${here}`), await readFile(packageFile(`uplot/${there}`), 'utf8'), here);
  }
});
