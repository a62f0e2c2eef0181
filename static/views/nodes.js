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
  const kinds = ['', '', 'numeric', 'numeric p2', 'numeric p2', 'p2', 'p2'];
  const head = h('tr', {}, columns.map((text, at) => h('th', { scope: 'col', class: kinds[at], text })));
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
    const stood = [...body.rows].find((one) => one.contains(document.activeElement))?.dataset.node;
    body.replaceChildren(...nodes.map((node) => row(node, ask)));
    if (stood !== undefined) [...body.rows].find((one) => one.dataset.node === stood)?.querySelector('button')?.focus();
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
  const [up, down] = [format.rate(node.upload_bps), format.rate(node.download_bps)];
  // What the columns say that narrow screens have no room for.
  const beneath = h('span', { class: 'beneath', text: `${t('nodes.up')} ${up}\n${t('nodes.down')} ${down}\n${node.version}` });
  return h('tr', { 'data-node': node.name },
    h('th', { scope: 'row', title: node.address }, node.name, beneath), h('td', { title: node.last_error ?? '' }, state, away),
    h('td', { class: 'numeric', text: format.number(node.sessions) }),
    [up, down].map((text) => h('td', { class: 'numeric p2', text })), h('td', { class: 'p2', text: node.version }),
    h('td', { class: 'p2', text: format.number(node.accounts_version) }));
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
