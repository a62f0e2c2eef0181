// The nodes of the cluster, and who is online on all of them; nothing where the server is alone.

import { mayChange } from '../accounts.js';
import { ApiError, get, request } from '../api.js';
import { button, h, show, write } from '../dom.js';
import * as format from '../format.js';
import { list as words, t } from '../i18n.js';
import { userHash } from '../route.js';
import { attempt, confirm, notify } from '../ui.js';
import { reloadText } from '../words.js';
import { panel } from './parts.js';

/** @typedef {import('../types.d.ts').ClusterNode} ClusterNode */
/** @typedef {import('../types.d.ts').ClusterOnline} ClusterOnline */

const INTERVAL_MS = 5000;

/** @returns {import('../types.d.ts').View} */
export function nodesView() {
  const stands = h('p', { class: 'muted' });
  const body = h('tbody', {});
  const columns = [
    t('nodes.node'), t('nodes.state'), t('sessions.now'), t('nodes.up'), t('nodes.down'), t('nodes.version'), t('nodes.list'),
  ];
  const head = h('tr', {}, columns.map((text, at) => h('th', { scope: 'col', class: at > 1 && at < 5 ? 'numeric' : '', text })));
  const online = onlineList();
  const { root, count, heading } = panel(t('nodes.title'), 'nodes', stands,
    h('table', { class: 'rows small' }, h('thead', {}, head), body), online.root);
  const reload = button(t('nodes.reload'), () => attempt(reloadAll), { class: 'button quiet', title: t('nodes.reload.hint') });
  heading.append(reload);
  root.hidden = true;
  const closed = new AbortController();
  let askedAt = 0;
  let isAlone = false;

  async function ask() {
    askedAt = Date.now();
    try {
      const cluster = await get('/api/nodes', closed.signal);
      root.hidden = false;
      write(count, String(cluster.nodes.length));
      write(stands, cluster.error ?? (cluster.connected ? t('nodes.connected', { node: cluster.node }) : t('nodes.away')));
      writeRows(cluster.nodes);
      if (online.root.open) online.write(await get('/api/online', closed.signal));
    } catch (error) {
      // Another failure says nothing about the cluster; the banner tells of it.
      isAlone = error instanceof ApiError && error.status === 404;
    }
  }
  /** Whoever stands on a button of a node still does afterwards. @param {ClusterNode[]} nodes */
  function writeRows(nodes) {
    const focused = [...body.rows].findIndex((one) => one.contains(document.activeElement));
    const name = focused < 0 ? null : body.rows[focused].cells[0].textContent;
    body.replaceChildren(...nodes.map((node) => row(node, ask)));
    if (name !== null) [...body.rows].find((one) => one.cells[0].textContent === name)?.querySelector('button')?.focus();
  }
  online.root.addEventListener('toggle', () => {
    if (online.root.open) ask();
  });

  return {
    root,
    render() {
      show(reload, mayChange());
      if (!isAlone && Date.now() - askedAt >= INTERVAL_MS) ask();
    },
    close: () => closed.abort(),
  };
}

async function reloadAll() {
  notify(reloadText(await request('POST', '/api/reload?nodes=all')));
}

/**
 * @param {ClusterNode} node
 * @param {() => void} then
 */
function forget({ name: node }, then) {
  confirm(`${t('nodes.forget')}: ${node}`, t('nodes.forget.text'), t('nodes.forget'), () => attempt(async () => {
    await request('DELETE', `/api/nodes/${encodeURIComponent(node)}`);
    notify(t('nodes.forgotten', { node }));
    then();
  }));
}

/**
 * @param {ClusterNode} node
 * @param {() => void} forgotten
 */
function row(node, forgotten) {
  const state = node.online ? t('nodes.online') : t('nodes.gone', { time: format.duration(node.seen_seconds_ago) });
  const label = `${t('nodes.forget')}: ${node.name}`;
  const away = node.online || !mayChange() ? [] : [
    ' ', button(t('nodes.forget'), () => forget(node, forgotten), { class: 'button quiet', 'aria-label': label }),
  ];
  const figures = [format.number(node.sessions), format.rate(node.upload_bps), format.rate(node.download_bps)];
  return h('tr', {},
    h('th', { scope: 'row', text: node.name, title: node.address }), h('td', { title: node.last_error ?? '' }, state, away),
    figures.map((text) => h('td', { class: 'numeric', text })), h('td', { text: node.version }),
    h('td', { text: format.number(node.accounts_version) }));
}

/** Who is online, with the nodes of each: asked for only while somebody looks. */
function onlineList() {
  const rows = h('ul', { class: 'online-everywhere' });
  const root = /** @type {HTMLDetailsElement} */ (h('details', { class: 'ends' }, h('summary', { text: t('nodes.who') }), rows));
  return {
    root,
    /** @param {ClusterOnline} online */
    write(online) {
      const known = online.users.map(({ email, nodes }) => {
        const places = nodes.map(({ node, sessions }) => `${node}: ${format.number(sessions)}`);
        return h('li', {}, h('a', { href: userHash(email), text: email }), ` ${words(places)}`);
      });
      const more = online.total - online.users.length;
      const rest = more > 0 ? [h('li', { class: 'muted', text: t('near.more', { n: more }) })] : [];
      rows.replaceChildren(...(known.length ? [...known, ...rest] : [h('li', { class: 'muted', text: t('nodes.nobody') })]));
    },
  };
}
