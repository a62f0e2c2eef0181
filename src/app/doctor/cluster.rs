//! The engine of the cluster: whether it can be reached, what its clock says, and whether all nodes are alike.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Findings, Weight};
use crate::app::cluster::engine::{Engine, EngineError};
use crate::app::cluster::joining::may_do_all;
use crate::app::cluster::reply::{Reply, plain};
use crate::app::cluster::settings::Settings;
use crate::app::cluster::status::{Facts, NODES_FROM};
use crate::app::config::Config;

/// Clocks of machines that ask for the time differ by less.
const SKEW_MAX: Duration = Duration::from_secs(2);

impl Findings {
    pub(super) fn cluster(&mut self, config: &Config, now: SystemTime) {
        let settings = match Settings::of(config) {
            Ok(None) => return,
            Ok(Some(settings)) => settings,
            Err(failure) => return self.add(Weight::Fault, failure.message, "see the key in conf/README.md"),
        };
        let url = &settings.access.url;
        if settings.access.is_readable() {
            let what = format!("cluster: {url} has no TLS, so its password and all ids are readable on the way");
            self.add(Weight::Hint, what, "use rediss://, or a tunnel that encrypts");
        }
        let asked = Engine::connect(&settings.access).and_then(|mut engine| Ok((time(&mut engine)?, engine)));
        let (time, mut engine) = match asked {
            Ok(both) => both,
            Err(error) => {
                let remedy = "check cluster.url, the engine, and the user that conf/cluster.md describes";
                return self.add(Weight::Fault, format!("cluster: {url}: {error}"), remedy);
            }
        };
        self.good(format!("cluster: {url} answers, and this node is {}", settings.node));
        let skew = now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap_or_default();
        if skew > SKEW_MAX {
            let what = format!("cluster: the clocks of this machine and of the engine differ by {} s", skew.as_secs());
            self.add(Weight::Hint, what, "have both ask for the time (systemd-timesyncd, chrony)");
        }
        if let Err(error) = may_do_all(&mut engine, &settings) {
            self.add(Weight::Fault, format!("cluster: {error}"), "see the user in conf/cluster.md");
        }
        match nodes(&mut engine, &settings) {
            Ok(nodes) => self.nodes(&nodes),
            Err(error) => self.add(Weight::Fault, format!("cluster: {error}"), "see the user in conf/cluster.md"),
        }
    }

    fn nodes(&mut self, nodes: &[(String, Facts)]) {
        let names: Vec<_> = nodes.iter().map(|(name, _)| name.as_str()).collect();
        self.good(format!("cluster: {} nodes: {}", nodes.len(), names.join(", ")));
        let ours = env!("CARGO_PKG_VERSION");
        let others: Vec<_> = nodes.iter().filter(|(_, facts)| facts.version != ours).collect();
        if !others.is_empty() {
            let list: Vec<_> = others.iter().map(|(name, facts)| format!("{name} {}", facts.version)).collect();
            let what = format!("cluster: this is version {ours}, and there are others: {}", list.join(", "));
            self.add(Weight::Hint, what, "they work together; bring all to the same version when it suits");
        }
    }
}

fn time(engine: &mut Engine) -> Result<SystemTime, EngineError> {
    let answer = engine.call(&["TIME"])?;
    let seconds = answer.list().first().and_then(Reply::number).ok_or(EngineError::Nonsense)?;
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn nodes(engine: &mut Engine, settings: &Settings) -> Result<Vec<(String, Facts)>, EngineError> {
    let known =
        engine.call(&["ZRANGE", &settings.key("nodes"), NODES_FROM, "-1"])?.texts().ok_or(EngineError::Nonsense)?;
    let mut nodes = Vec::new();
    // The engine has them in the order of their signs of life.
    let known: BTreeSet<_> = known.into_iter().collect();
    for name in known {
        let facts = engine.call(&["HGET", &settings.key(&format!("node:{name}")), "facts"])?;
        nodes.push((plain(&name), Facts::read(&facts.text().unwrap_or_default())));
    }
    Ok(nodes)
}
