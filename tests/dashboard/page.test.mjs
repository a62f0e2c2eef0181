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

/** The sources of the server without their tests, by path. */
async function sources() {
  const folder = join(ROOT, 'src');
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.rs') && !/(^|\/)tests?\b|_tests\.rs$/.test(name));
  const read = async (name) => [name, (await readFile(join(folder, name), 'utf8')).split('#[cfg(test)]')[0]];
  return new Map(await Promise.all(names.map(read)));
}
const found = (text, pattern) => [...text.matchAll(pattern)].map(([, word]) => word);

test('every reason for which a session is refused or ends has a name and a remedy', async () => {
  const server = await sources();
  const reasons = found(server.get('session/close.rs'), /^ {4}\w+ = "(\w+)",$/gm);
  assert.ok(reasons.length > 30, 'the table of reasons was found');
  const more = found(server.get('app/backend.rs'), /rejected\.push\(\("(\w+)"/g);
  assert.ok(more.length > 0, 'the reasons of the listeners were found');
  for (const reason of [...reasons, ...more]) {
    for (const strings of [en, zh]) assert.ok(`reason.${reason}` in strings && `reason.${reason}.remedy` in strings, reason);
  }
});

test('every code of an error has a sentence', async () => {
  const all = [...(await sources()).values()].join('\n');
  const codes = new Set(found(all, /(?:Reply::error|Denied::new)\(\s*\d+,\s*"(\w+)"/g));
  assert.ok(codes.size > 10 && codes.has('stale') && codes.has('not_found'), [...codes].join(' '));
  for (const code of codes) assert.ok(`error.${code}` in en, code);
});

test('every event has a code, and every code a sentence', async () => {
  const server = await sources();
  for (const [name, text] of server) {
    const [made, coded] = [found(text, /\b(Event::new)\(Kind::/g).length, found(text, /(\.coded)\(/g).length];
    assert.ok(made <= coded, `${name}: ${made} events are made, ${coded} have codes`);
  }
  const all = [...server.values()].join('\n');
  const codes = new Set([...found(all, /\.coded\(\s*"(\w+)"/g), ...found(all, /\("(\w+)", (?:json!|Value::Null|data\))/g), ...found(all, /"((?:user|cut|alert)_(?:added|rotated|removed|enabled|disabled|changed|session|user|source|fired|resolved))"/g)]);
  for (const code of ['user_added', 'cut_user', 'alert_fired', 'reload_failed', 'started', 'wrong_tokens', 'engine_away', 'accounts_older']) assert.ok(codes.has(code), `${code} was found`);
  // A reload is worded by what it changed.
  codes.delete('reloaded');
  for (const code of codes) assert.ok(`event.${code}` in en, code);
  const changes = found(server.get('app/supervisor/changes.rs'), /"code": "(\w+)"/g);
  assert.ok(changes.length >= 3);
  for (const code of changes) assert.ok(`change.${code}` in en, code);
});

test('every field of an account has a name and a rule', async () => {
  const keys = (await sources()).get('app/config/keys.rs');
  const section = (name) => keys.slice(keys.indexOf(`    ${name} from `)).split('\n    }')[0];
  const fields = ['UserKeys', 'UserLimits'].flatMap((name) => found(section(name), /^ {8}(\w+): /gm)).filter((key) => !['uuid', 'limits', 'created_at', 'enabled'].includes(key));
  assert.ok(fields.includes('note') && fields.includes('quota_day') && fields.length > 10, fields.join(' '));
  for (const field of fields) assert.ok(`field.${field}` in en && `rule.${field}` in en, field);
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
