//! What one node can want of all others, as it stands in the engine's log of changes.

/// Something that every other node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Cut the sessions of an account.
    Cut { email: String },
    /// Cut the sessions that come from an address.
    CutSource { source: String },
    /// Take over changed files, and read the list of accounts anew.
    Reload,
}

impl Call {
    /// The word and the object of the call in the log of changes.
    pub(super) fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Cut { email } => ("cut", email),
            Self::CutSource { source } => ("cut_source", source),
            Self::Reload => ("reload", ""),
        }
    }

    /// What these words of the log mean; `None`: no call.
    pub(super) fn read(operation: &str, account: &str) -> Option<Self> {
        match operation {
            "cut" => Some(Self::Cut { email: account.to_owned() }),
            "cut_source" => Some(Self::CutSource { source: account.to_owned() }),
            "reload" => Some(Self::Reload),
            _ => None,
        }
    }

    /// For log and events.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Cut { email } => format!("sessions of {email} cut"),
            Self::CutSource { source } => format!("sessions from {source} cut"),
            Self::Reload => "all nodes reload".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_as_it_was_written_and_what_is_unknown_is_none() {
        for call in
            [Call::Cut { email: "anna".to_owned() }, Call::CutSource { source: "192.0.2.1".to_owned() }, Call::Reload]
        {
            let (operation, account) = call.words();
            assert_eq!(Call::read(operation, account), Some(call));
        }
        assert_eq!(Call::read("put", "anna"), None);
    }
}
