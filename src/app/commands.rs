//! The commands that end by themselves: everything but `run`.
//!
//! Owns what each prints. Results go to stdout, so that a script can use them; what is only worth knowing goes to
//! stderr. The caller prints.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::app::ask::{self, Ask, Shape};
use crate::app::cli::{self, Answerer, Command, Joining, table};
use crate::app::client_configs::{self, Format};
use crate::app::cluster::offline::with_list_on_disk;
use crate::app::config::{Config, DEFAULT_FILE, ENGINE_URL_RULE, EngineUrl};
use crate::app::doctor::{self, Place, Weight};
use crate::app::exit::{self, Failure};
use crate::app::init::Created;
use crate::app::probe::{self, Wishes};
use crate::app::qr::{Qr, does_not_fit};
use crate::app::socket_client::config_to_ask;
use crate::app::wizard::draft::{Draft, DraftCluster};
use crate::app::wizard::{ThisMachine, terminal_size};
use crate::app::{
    alert_commands, backup, certs, completions, fallback_probe, first_run, init, link, preflight, service, user,
};

/// What a command has to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// With its final line break.
    pub stdout: String,
    /// A line each.
    pub notes: Vec<String>,
    /// What the program exits with: not 0 where what was looked at is wrong.
    pub code: u8,
}

/// Executes `command`; none for `run`, which is not executed here.
pub fn execute(command: &Command) -> Option<Result<Output, Failure>> {
    match command {
        Command::Run { .. } => None,
        Command::Check { config } => Some(check(&path_of(config.as_ref()))),
        Command::Init { config, answers: Answerer::Defaults, .. } => Some(init(&path_of(config.as_ref()))),
        Command::Init { config, answers: Answerer::Join(joining), .. } => {
            Some(join(&path_of(config.as_ref()), joining))
        }
        Command::Init { config, answers, lang } => {
            Some(first_run::ask(&path_of(config.as_ref()), answers, *lang).map(|_| Output::default()))
        }
        Command::Link { config, email, format, qr } => {
            let draw = if *qr { Draw::Code } else { Draw::Nothing };
            Some(link(&path_of(config.as_ref()), email.as_deref(), *format, draw))
        }
        Command::User { config, action, shape } => {
            let said = user::execute(&path_of(config.as_ref()), action, *shape);
            Some(said.map(|said| Output { stdout: said.stdout, notes: said.notes, code: exit::OK }))
        }
        Command::Ask { config, ask, shape } => Some(asked(&path_of(config.as_ref()), ask, *shape)),
        Command::Probe { link, wishes, shape } => Some(probed(link, wishes, *shape)),
        Command::Doctor { config, shape } => Some(Ok(examined(&path_of(config.as_ref()), *shape))),
        Command::Backup { config, file } => Some(backed_up(&path_of(config.as_ref()), file)),
        Command::Restore { config, file, over, mode } => {
            Some(backup::restore(file, &path_of(config.as_ref()), *over, *mode).map(plain))
        }
        Command::Service { config, change, mode } => {
            Some(service::change(*change, &path_of(config.as_ref()), *mode).map(plain))
        }
        Command::Completions(shell) => Some(Ok(plain(completions::script(shell).unwrap_or_default()))),
        Command::Man => Some(Ok(plain(completions::man()))),
        Command::Version => Some(Ok(plain(format!("vless-rust {}\n", env!("CARGO_PKG_VERSION"))))),
        Command::Help(about) => {
            let row = about.and_then(table::command);
            Some(Ok(plain(row.map_or_else(cli::help, table::help_of))))
        }
    }
}

/// The configuration to use when `named` is what the command line says.
pub fn path_of(named: Option<&PathBuf>) -> PathBuf {
    named.cloned().unwrap_or_else(|| DEFAULT_FILE.into())
}

/// Everything that start-up would complain about, except what only binding a port can tell.
fn check(path: &Path) -> Result<Output, Failure> {
    let (config, of_cluster) = with_list_on_disk(Config::load(path)?)?;
    // Whatever it is that would keep the server from starting: here it is the configuration that is wrong.
    preflight::check(&config).map_err(|failure| Failure::new(exit::CONFIG, failure.message))?;
    let mut notes = config.warnings().to_vec();
    notes.extend(of_cluster);
    for certificate in certs::load_existing(&config, SystemTime::now())? {
        notes.extend(certificate.warnings);
    }
    notes.extend(fallback_probe::warnings(&config));
    notes.extend(alert_commands::warnings(&config));
    if certs::would_generate(&config) {
        notes.push(
            "tls.cert_file and tls.key_file do not exist; a self-signed pair is made at the first start".to_owned(),
        );
    }
    Ok(Output { stdout: config.effective_json() + "\n", notes, code: exit::OK })
}

/// Whether a code is drawn beside the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Draw {
    Code,
    Nothing,
}

fn link(path: &Path, email: Option<&str>, format: Format, draw: Draw) -> Result<Output, Failure> {
    let (config, of_cluster) = with_list_on_disk(Config::load(path)?)?;
    let host = link::host(&config);
    let certificates = certs::load_or_generate(&config, &host.host, SystemTime::now())?;
    let links = link::links(&config, &host, &certificates, email)?;
    if format != Format::Vless && links.len() > 1 {
        let known = links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(exit::USAGE, format!("a client configuration is for one user; name one of {known}")));
    }
    let mut notes = config.warnings().to_vec();
    notes.extend(of_cluster);
    notes.extend(link::warnings(&config, &host, &certificates));
    let mut stdout = String::new();
    for link in &links {
        stdout.push_str(&client_configs::text(format, link, certificates.first()));
        if draw == Draw::Code {
            match code(&link.to_string()) {
                Ok(code) => stdout.push_str(&code),
                Err(why) => notes.push(format!("{}: no QR code: {why}", link.name)),
            }
        }
    }
    Ok(Output { stdout, notes, code: exit::OK })
}

/// The code of `text`, or why it is not drawn.
fn code(text: &str) -> Result<String, String> {
    let code = Qr::new(text).ok_or_else(|| "the link is too long for one".to_owned())?;
    // Where stdout is no terminal, somebody else decides what fits.
    match terminal_size().and_then(|terminal| does_not_fit(code.size(), terminal)) {
        None => Ok(code.terminal()),
        Some(why) => Err(why + "; make the window larger, or its letters smaller"),
    }
}

fn probed(link: &str, wishes: &Wishes, shape: Shape) -> Result<Output, Failure> {
    let report = probe::probe(link, wishes)?;
    let stdout = if shape == Shape::Json { report.json() } else { report.words() };
    let code = if report.fault.is_some() { exit::UNAVAILABLE } else { exit::OK };
    Ok(Output { stdout, notes: Vec::new(), code })
}

fn examined(path: &Path, shape: Shape) -> Output {
    let place = Place { config: path, root: "/".into(), machine: &ThisMachine, now: SystemTime::now() };
    let findings = doctor::examine(&place);
    let has_fault = findings.iter().any(|finding| finding.weight == Weight::Fault);
    let stdout = if shape == Shape::Json { doctor::json(&findings) } else { doctor::words(&findings) };
    Output { stdout, notes: Vec::new(), code: if has_fault { exit::UNAVAILABLE } else { exit::OK } }
}

fn backed_up(path: &Path, file: &Path) -> Result<Output, Failure> {
    let stdout = backup::backup(path, file)?;
    let note = format!(
        "{} holds ids, tokens and private keys: whoever has it can be this server; keep it as you keep passwords",
        file.display()
    );
    Ok(Output { stdout, notes: vec![note], code: exit::OK })
}

fn asked(path: &Path, what: &Ask, shape: Shape) -> Result<Output, Failure> {
    ask::ask(&config_to_ask(path)?, what, shape).map(plain)
}

/// A configuration for a node of the cluster with the engine at `url`.
fn join(path: &Path, joining: &Joining) -> Result<Output, Failure> {
    let (mut line, url) = (String::new(), joining.url.as_str());
    if url == "-" {
        io::stdin().read_line(&mut line).map_err(|error| Failure::reading("/dev/stdin".as_ref(), &error))?;
    }
    let url = if url == "-" { line.trim() } else { url };
    if url.is_empty() {
        return Err(Failure::new(exit::USAGE, "--join: there is no URL of an engine".to_owned()));
    }
    let authority = joining.authority.as_ref();
    match EngineUrl::parse(url) {
        None => return Err(Failure::new(exit::USAGE, format!("--join: the URL {ENGINE_URL_RULE}"))),
        Some(url) if authority.is_some() && !url.has_tls() => {
            let message = "--engine-ca is for an engine with TLS, whose URL begins with rediss://";
            return Err(Failure::new(exit::USAGE, message));
        }
        Some(_) => {}
    }
    let ca_file = authority.map(|file| file.canonicalize().map_err(|error| Failure::reading(file, &error)));
    let ca_file = ca_file.transpose()?.map(|file| file.display().to_string());
    let cluster = Some(DraftCluster { url: url.to_owned(), node: joining.node.clone(), ca_file });
    let created = init::create(path, &Draft { users: Vec::new(), cluster, ..Draft::default() })?;
    let mut output = written(path, created);
    if output.stdout.trim().is_empty() {
        output.stdout.clear();
        output.notes.push("the cluster has no users yet; `vless-rust user add NAME` adds one, on any node".to_owned());
    }
    Ok(output)
}

fn init(path: &Path) -> Result<Output, Failure> {
    Ok(written(path, init::init_with_defaults(path)?))
}

fn written(path: &Path, created: Created) -> Output {
    let mut notes = vec![format!("{} is written; `vless-rust {}` serves it", path.display(), start_arguments(path))];
    let monitoring = &created.config.monitoring;
    notes.extend(monitoring.admin_token.as_ref().map(|token| {
        let (ip, port) = (monitoring.listen, monitoring.port);
        format!("the statistics page: http://{}/#token={}", SocketAddr::new(ip, port), token.reveal())
    }));
    notes.extend(created.warnings);
    Output { stdout: created.link + "\n", notes, code: exit::OK }
}

fn start_arguments(path: &Path) -> String {
    if path == Path::new(DEFAULT_FILE) { "run".to_owned() } else { format!("run {}", path.display()) }
}

fn plain(stdout: String) -> Output {
    Output { stdout, notes: Vec::new(), code: exit::OK }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;

    fn link_of(config: Option<PathBuf>, format: Format) -> Command {
        Command::Link { config, email: None, format, qr: false }
    }

    fn executed(command: &Command) -> Result<Output, Failure> {
        execute(command).expect("not `run`")
    }

    #[test]
    fn init_link_and_check_work_on_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = Some(folder.path().join("config.json"));
        let created =
            executed(&Command::Init { config: config.clone(), answers: Answerer::Defaults, lang: None }).unwrap();
        let linked = executed(&link_of(config.clone(), Format::Vless)).unwrap();
        assert_eq!(created.stdout, linked.stdout);
        assert!(created.stdout.starts_with("vless://") && created.stdout.ends_with('\n'));
        assert!(created.notes[1].starts_with("the statistics page: http://127.0.0.1:9090/#token="));
        let checked = executed(&Command::Check { config }).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
        assert_eq!(shown["server"]["port"], 8443);
        let id = created.stdout.split(['/', '@']).nth(2).unwrap();
        assert!(!checked.stdout.contains(id));
        assert_eq!(checked.notes, Vec::<String>::new());
    }

    #[test]
    fn check_makes_no_certificate_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(
            &path,
            "{ \"users\": [ { \"uuid\": \"example\", \"flow\": \"\" } ], \"tls\": { \"enabled\": true } }",
        )
        .unwrap();
        let checked = executed(&Command::Check { config: Some(path) }).unwrap();
        assert!(checked.notes[0].contains("a self-signed pair is made"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn check_finds_a_certificate_that_does_not_serve() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(
            &path,
            "{ \"users\": [ { \"uuid\": \"example\" } ], \"tls\": { \"enabled\": true, \"cert_file\": \"c\", \
             \"key_file\": \"k\" } }",
        )
        .unwrap();
        fs::write(folder.path().join("c"), "").unwrap();
        fs::write(folder.path().join("k"), "").unwrap();
        let failure = executed(&Command::Check { config: Some(path) }).unwrap_err();
        assert_eq!(failure.code, exit::CONFIG);
    }

    #[test]
    fn a_missing_configuration_exits_with_66() {
        let config = Some(PathBuf::from("/no/such/config.json"));
        assert_eq!(executed(&Command::Check { config: config.clone() }).unwrap_err().code, exit::NO_INPUT);
        assert_eq!(executed(&link_of(config, Format::Vless)).unwrap_err().code, exit::NO_INPUT);
    }

    #[test]
    fn link_prints_whole_client_configurations_and_draws_codes() {
        let folder = tempfile::tempdir().unwrap();
        let config = Some(folder.path().join("config.json"));
        executed(&Command::Init { config: config.clone(), answers: Answerer::Defaults, lang: None }).unwrap();
        for (format, word) in
            [(Format::Xray, "pinnedPeerCertSha256"), (Format::SingBox, "certificate_public_key_sha256")]
        {
            let written = executed(&link_of(config.clone(), format)).unwrap().stdout;
            assert!(serde_json::from_str::<serde_json::Value>(&written).is_ok() && written.contains(word), "{written}");
        }
        assert!(executed(&link_of(config.clone(), Format::Mihomo)).unwrap().stdout.contains("    fingerprint: "));
        let drawn = executed(&Command::Link { config, email: None, format: Format::Vless, qr: true }).unwrap();
        // The tests may run in a terminal that is too small.
        assert!(drawn.stdout.contains('▀') || drawn.notes.iter().any(|note| note.contains("no QR code")));
    }

    #[test]
    fn the_version_is_that_of_the_package() {
        assert!(executed(&Command::Version).unwrap().stdout.starts_with("vless-rust 0."));
        assert!(executed(&Command::Help(None)).unwrap().stdout.contains("usage:"));
        let of_cut = executed(&Command::Help(Some("cut"))).unwrap().stdout;
        assert!(
            of_cut.starts_with("usage: vless-rust cut [ID] [OPTIONS]\n") && of_cut.contains("--source"),
            "{of_cut}"
        );
        assert!(execute(&Command::Run { config: None, lang: None }).is_none());
    }
}
