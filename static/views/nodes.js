// The nodes of the cluster; nothing where the server is alone.

import { ApiError, get } from '../api.js';
import { h, write } from '../dom.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { panel } from './parts.js';

/** @typedef {import('../types.d.ts').ClusterNode} ClusterNode */

const INTERVAL_MS = 5000;

/** @returns {import('../types.d.ts').View} */
export function nodesView() {
  const stands = h('p', { class: 'muted' });
  const body = h('tbody', {});
  const columns = [t('nodes.node'), t('nodes.state'), t('sessions.now'), t('nodes.up'), t('nodes.down'), t('nodes.version')];
  const head = h('tr', {}, columns.map((text, at) => h('th', { scope: 'col', class: at > 1 && at < 5 ? 'numeric' : '', text })));
  const { root, count } = panel(t('nodes.title'), 'nodes', stands, h('table', { class: 'rows small' }, h('thead', {}, head), body));
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
      body.replaceChildren(...cluster.nodes.map(row));
    } catch (error) {
      // Another failure says nothing about the cluster; the banner tells of it.
      isAlone = error instanceof ApiError && error.status === 404;
    }
  }

  return {
    root,
    render() {
      if (!isAlone && Date.now() - askedAt >= INTERVAL_MS) ask();
    },
    close: () => closed.abort(),
  };
}

/** @param {ClusterNode} node */
function row(node) {
  const state = node.online ? t('nodes.online') : t('nodes.gone', { time: format.duration(node.seen_seconds_ago) });
  const figures = [format.number(node.sessions), format.rate(node.upload_bps), format.rate(node.download_bps)];
  return h('tr', {},
    h('th', { scope: 'row', text: node.name, title: node.address }), h('td', { text: state, title: node.last_error ?? '' }),
    figures.map((text) => h('td', { class: 'numeric', text })), h('td', { text: node.version }));
}
