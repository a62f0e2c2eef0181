//! What the probe has seen, for people and for scripts.

use std::fmt::Write as _;

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The text of the link.
    Link,
    /// What lies between.
    Network,
    Server,
    /// What the server was asked to connect to.
    Target,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link => "the link",
            Self::Network => "the network",
            Self::Server => "the server",
            Self::Target => "the target",
        }
    }
}

/// What is wrong, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub side: Side,
    pub what: String,
    pub remedy: String,
}

/// What was seen, in order, and where it ended.
#[derive(Debug, Default)]
pub struct Report {
    /// Name of the step and what came of it.
    pub steps: Vec<(&'static str, String)>,
    /// None: all is well.
    pub fault: Option<Fault>,
}

impl Report {
    /// For people, with its final line break.
    pub fn words(&self) -> String {
        let mut text = String::new();
        for (name, said) in &self.steps {
            // Writing to a String does not fail.
            let _ = writeln!(text, "ok    {name:<12}{said}");
        }
        match &self.fault {
            None => text.push_str("\nall is well\n"),
            Some(fault) => {
                let side = fault.side.as_str();
                let _ = writeln!(text, "FAULT {side}: {}\n\nwhat to do: {}", fault.what, fault.remedy);
            }
        }
        text
    }

    /// For scripts, with its final line break.
    pub fn json(&self) -> String {
        let steps: Vec<_> =
            self.steps.iter().map(|(name, said)| serde_json::json!({ "step": name, "result": said })).collect();
        let fault = self.fault.as_ref().map(
            |fault| serde_json::json!({ "side": fault.side.as_str(), "what": fault.what, "remedy": fault.remedy }),
        );
        serde_json::json!({ "ok": self.fault.is_none(), "steps": steps, "fault": fault }).to_string() + "\n"
    }

    pub(super) fn note(&mut self, name: &'static str, said: impl Into<String>) {
        self.steps.push((name, said.into()));
    }
}
