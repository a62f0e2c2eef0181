// The first page: what needs somebody comes first, then throughput, then how the server does.

import { h } from '../dom.js';
import { t } from '../i18n.js';
import { alertsView, nearView, onlineView } from './attention.js';
import { latestEventsView } from './events.js';
import { identityView, machineView, refusalsView, totalsView } from './health.js';
import { nodesView } from './nodes.js';
import { connectionPoolView, memoryPoolView, visionView } from './pools.js';
import { trafficView } from './traffic.js';

/** @returns {import('../types.d.ts').View} */
export function overviewView() {
  /** @type {import('../types.d.ts').View[]} */
  const views = [
    alertsView(), onlineView(), nearView(), trafficView(), totalsView(), nodesView(), machineView(), refusalsView(), identityView(),
    connectionPoolView(), memoryPoolView(), visionView(), latestEventsView(),
  ];
  const root = h('div', { class: 'overview' },
    h('h1', { class: 'visually-hidden', tabindex: '-1', text: t('nav.overview') }), views.map((view) => view.root));
  return {
    root,
    render: (state) => views.forEach((view) => view.render(state)),
    close: () => views.forEach((view) => view.close?.()),
  };
}
