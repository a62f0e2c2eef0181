//! The metrics of a cluster; a node that is alone has none of them.

use super::Kind::{Counter, Gauge};
use super::{Kind, Labels, Number, Row, Source};
use crate::control::sample::{ClusterSample, NodeSample};
use crate::control::view::View;

pub const TABLE: &[Row] = &[
    row("vless_cluster_up", Gauge, "The engine of the cluster answers.", |view| {
        one(view, |cluster| u64::from(cluster.is_connected))
    }),
    Row {
        name: "vless_cluster_away_seconds",
        kind: Gauge,
        unit: "seconds",
        help: "Seconds since the engine last answered; 0 while it does.",
        source: Source::Many(|view| one(view, |cluster| cluster.away_seconds)),
    },
    row("vless_cluster_accounts", Gauge, "Accounts of the cluster.", |view| one(view, |cluster| cluster.accounts)),
    row("vless_cluster_accounts_version", Gauge, "Version of the list of accounts that is served here.", |view| {
        one(view, |cluster| cluster.accounts_version)
    }),
    row("vless_cluster_clashes", Gauge, "Accounts of the cluster that are not served here.", |view| {
        one(view, |cluster| cluster.clashes.len() as u64)
    }),
    row("vless_cluster_untold_accounts", Gauge, "Accounts whose traffic the engine was not told yet.", |view| {
        one(view, |cluster| cluster.untold_accounts)
    }),
    row("vless_cluster_reports_total", Counter, "Batches of traffic that the engine has confirmed.", |view| {
        one(view, |cluster| cluster.reports_total)
    }),
    row("vless_cluster_lost_batches_total", Counter, "Batches of traffic that the engine lost for good.", |view| {
        one(view, |cluster| cluster.lost_batches)
    }),
    row("vless_cluster_failures_total", Counter, "Connections to the engine that failed or ended.", |view| {
        one(view, |cluster| cluster.failures_total)
    }),
    row("vless_cluster_node_up", Gauge, "A node has given a sign of life.", |view| {
        nodes(view, |node| u64::from(node.online))
    }),
    row("vless_cluster_node_sessions", Gauge, "Sessions of a node.", |view| nodes(view, |node| node.sessions)),
];

type Series = Vec<(Labels, Number)>;

const fn row(name: &'static str, kind: Kind, help: &'static str, source: fn(&View) -> Series) -> Row {
    Row { name, kind, unit: "", help, source: Source::Many(source) }
}

fn one(view: &View, value: fn(&ClusterSample) -> u64) -> Series {
    let cluster = view.sample.cluster.iter();
    cluster.map(|cluster| (vec![("node", cluster.node.clone())], Number::Whole(value(cluster)))).collect()
}

fn nodes(view: &View, value: fn(&NodeSample) -> u64) -> Series {
    let nodes = view.sample.cluster.iter().flat_map(|cluster| &cluster.nodes);
    nodes.map(|node| (vec![("node", node.name.clone())], Number::Whole(value(node)))).collect()
}
